"""A context through transformers' generate(): equal to the dense model when nothing is dropped, and
each of the known traps of such an integration."""

import dataclasses

import pytest
import torch
from tiny_decoders import DOCUMENT, FAMILIES, byte_tokenizer, tiny_model
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from lcframework.errors import ConfigError
from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.attention import ATTENTION_NAME

QUESTIONS = ["What costs 3?", "Where is item 7 from, and what does it cost in coins?", "Oslo?"]
NEW = 12


def build(family="llama", seed=0, document=DOCUMENT, **options):
    model, tokenizer = tiny_model(family, seed), byte_tokenizer()
    return SqueezedContext.build(model, tokenizer, document, **{"window": 32, **options})


def dense_answer(context, question, seed=None, **options):
    """Tokens of transformers' own sdpa attention to the whole prompt, alone in its batch."""
    model, tokenizer = context.model, context.tokenizer
    text = context.parts.question(question)
    own = torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)
    ids = torch.cat([context.ids, own])[None]
    model.set_attn_implementation("sdpa")
    if seed is not None:
        torch.manual_seed(seed)
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **{"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 256, **options},
    )
    model.set_attn_implementation(ATTENTION_NAME)
    return [tuple(row.tolist()) for row in out[:, ids.shape[1] :]]


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"gemma3_wide"}))
def test_sparsity_0_equals_dense_alone_and_in_a_padded_batch(family):
    context = build(family, chunk=100)  # the document in pieces that end within it
    want = [dense_answer(context, question)[0] for question in QUESTIONS]
    assert len(set(want)) > 1
    together = context.ask(QUESTIONS, sparsity=0.0, max_new_tokens=NEW)
    alone = context.ask(QUESTIONS, sparsity=0.0, max_new_tokens=NEW, batch_size=1)
    assert [one.tokens for one in alone] == want
    assert [one.tokens for one in together] == want
    assert all(bool((one.kept == 1).all()) and one.budget == 1 for one in together)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gemma3_wide", "qwen3_mixed"])
def test_logits_of_a_padded_batch_equal_the_dense_ones(family):
    """Positions, mask and sliding window: a shifted position would move every logit."""
    context = build(family)
    inputs = context.inputs(QUESTIONS, Squeeze(sparsity=0.0))
    new = inputs["input_ids"].shape[1] - context.length
    positions = inputs["attention_mask"].cumsum(1)[:, -new:] - 1
    with torch.no_grad():
        logits = context.model(
            input_ids=inputs["input_ids"][:, -new:],
            attention_mask=inputs["attention_mask"],
            position_ids=positions,
            past_key_values=inputs["past_key_values"],
        ).logits
        context.model.set_attn_implementation("sdpa")
        for row, question in enumerate(QUESTIONS):
            text = context.parts.question(question)
            own = context.tokenizer(text, add_special_tokens=False).input_ids
            prompt = torch.cat([context.ids, torch.tensor(own)])[None]
            want = context.model(prompt).logits[0, -len(own) :]
            torch.testing.assert_close(logits[row, -len(own) :], want, rtol=1e-4, atol=1e-5)


def test_a_row_reads_the_same_alone_and_in_a_batch():
    """Padding takes no part in a selection."""
    context = build()
    together = context.ask(QUESTIONS, sparsity=0.7, max_new_tokens=NEW)
    for one, question in zip(together, QUESTIONS, strict=True):
        (alone,) = context.ask(question, sparsity=0.7, max_new_tokens=NEW)
        assert alone.tokens == one.tokens
        torch.testing.assert_close(alone.kept_prefill, one.kept_prefill)
        torch.testing.assert_close(alone.kept_decode, one.kept_decode)
        assert 0 < alone.kept.mean() < 0.9


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("options", [{}, {"query_block": 2, "group": "none"}, {"group": "max"}])
def test_answers_equal_the_float64_reference(family, options):
    context = build(family, value_centroids=True)
    squeeze = Squeeze(sparsity=0.6, correct_values=True, **options)
    fast = context.ask(QUESTIONS, squeeze=squeeze, max_new_tokens=4)
    slow = context.ask(QUESTIONS, squeeze=squeeze, max_new_tokens=4, backend="reference")
    for one, other in zip(fast, slow, strict=True):
        assert one.tokens == other.tokens
        torch.testing.assert_close(one.kept_prefill, other.kept_prefill, rtol=0, atol=0.02)


DECODING = {
    "beam search": {"num_beams": 3},
    "sampling": {"do_sample": True, "temperature": 0.8},
    "repetition penalty": {"repetition_penalty": 1.5},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "assistant": {"assistant_model": True},
}


@pytest.mark.parametrize("family", ["llama", "llama_mha", "gemma3"])
@pytest.mark.parametrize("name", sorted(DECODING))
def test_decoding_methods_equal_dense(family, name):
    context = build(family)
    options = dict(DECODING[name])
    if "assistant_model" in options:
        options["assistant_model"] = tiny_model(family, seed=3, attention="sdpa")
    for question in QUESTIONS[:2]:
        (want,) = dense_answer(context, question, seed=4, **options)
        torch.manual_seed(4)
        (one,) = context.ask(question, sparsity=0.0, max_new_tokens=NEW, **options)
        assert one.tokens == want
        (one,) = context.ask(question, sparsity=0.7, max_new_tokens=NEW, **options)
        assert 0 < one.kept.mean() < 1
    if name in ("prompt lookup", "assistant"):
        with pytest.raises(ConfigError, match="one question at a time"):
            context.ask(QUESTIONS, max_new_tokens=4, **options)
    else:
        assert len(context.ask(QUESTIONS, max_new_tokens=4, **options)) == 3


@pytest.mark.parametrize("squeeze", [{"budget": 60}, {"top_p": 0.4}, {"sparsity": 0.8}])
def test_budget_and_mass_choose_instead_of_the_threshold(squeeze):
    context = build(levels=1)
    (one,) = context.ask(QUESTIONS[1], squeeze=Squeeze(**squeeze), max_new_tokens=NEW)
    N = context.layers[0].fixed.clustered
    kept = torch.stack([one.kept_prefill, one.kept_decode]) * N
    largest = max(int(layer.fixed.levels[0].sizes.max()) for layer in context.layers)
    if "budget" in squeeze:
        assert bool((kept <= 60 + 1e-3).all()) and bool((kept > 60 - largest).all())
    else:
        assert bool((kept > 0).all()) and 0 < kept.mean() < 0.6 * N
    assert one.budget == pytest.approx(float(kept[1].mean()) / N + one.centroid_share, rel=1e-5)
    assert one.centroid_share == pytest.approx(
        0.5 * context.layers[0].fixed.levels[0].sizes.shape[1] / N
    )


def test_several_samples_per_question_come_in_order():
    context = build()
    answers = context.ask(
        QUESTIONS[:2], max_new_tokens=4, do_sample=True, num_return_sequences=2, sparsity=0.5
    )
    assert [one.question for one in answers] == [QUESTIONS[0]] * 2 + [QUESTIONS[1]] * 2
    torch.testing.assert_close(answers[0].kept_prefill, answers[1].kept_prefill)
    assert not torch.equal(answers[0].kept_prefill, answers[2].kept_prefill)
    beams = context.ask(
        QUESTIONS[:2], max_new_tokens=4, num_beams=4, num_return_sequences=3, sparsity=0.5
    )
    assert len(beams) == 6 and torch.equal(beams[3].kept, beams[5].kept)  # mean over 4 beams
    assert len({one.tokens for one in beams[:3]}) == 3


@pytest.mark.parametrize(
    "name",
    ["past_key_values", "attention_mask", "cache_implementation", "num_beam_groups",
     "penalty_alpha", "dola_layers", "max_length", "return_dict_in_generate"],
)  # fmt: skip
def test_what_does_not_go_with_a_context_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=name):
        build().ask("What?", **{name: 4})


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gemma3"])
def test_two_contexts_of_one_model_alive_at_once(family):
    """Their steps are interleaved by hand: nothing of one reaches the other."""
    first, second = build(family), build(family, document=DOCUMENT[::-1])
    second = dataclasses.replace(second, model=first.model)
    want = [one.ask(QUESTIONS[1], sparsity=0.5, max_new_tokens=5)[0].tokens
            for one in (first, second)]  # fmt: skip
    assert want[0] != want[1]
    state, got = [], ([], [])
    for context in (first, second):
        inputs = context.inputs([QUESTIONS[1]], Squeeze(sparsity=0.5))
        own = inputs["input_ids"][:, context.length :]
        state.append([inputs["past_key_values"], own, context.length])
    for _ in range(5):
        for number, one in enumerate(state):
            cache, ids, at = one
            places = torch.arange(at, at + ids.shape[1])[None]
            with torch.no_grad():
                logits = first.model(
                    input_ids=ids, position_ids=places, past_key_values=cache
                ).logits
            got[number].append(int(logits[0, -1].argmax()))
            one[1:] = [torch.tensor([[got[number][-1]]]), at + ids.shape[1]]
    assert tuple(map(tuple, got)) == tuple(want)


def test_the_context_is_stored_once():
    """No copy per question: the cache of a batch holds the context's own tensors and a tail."""
    context = build()
    inputs = context.inputs(QUESTIONS, Squeeze(sparsity=0.5))
    cache = inputs["past_key_values"]
    context.model.generate(**inputs, max_new_tokens=3, pad_token_id=256, do_sample=False)
    own = inputs["input_ids"].shape[1] - context.length
    for layer, held in zip(cache.layers, context.layers, strict=True):
        assert layer.fixed.keys is held.fixed.keys and layer.fixed.values is held.fixed.values
        assert layer.keys.shape[2] == own + 2  # the last token was never read
        assert layer.get_seq_length() == context.length + own + 2
        assert layer.get_mask_sizes(1) == (own + 3, context.length)


def test_a_mask_function_is_registered():
    """Without one transformers passes None, and padding is lost."""
    assert ATTENTION_NAME in AttentionInterface().valid_keys()
    assert ATTENTION_NAME in AttentionMaskInterface().valid_keys()


def test_another_attention_than_squeezed_fails_with_a_cure():
    context = build()
    inputs = context.inputs(["What?"])
    for name in ("sdpa", "eager"):
        context.model.set_attn_implementation(name)
        with pytest.raises(ConfigError, match="set_attn_implementation"):
            context.model.generate(**inputs, max_new_tokens=2)
        with pytest.raises(ConfigError, match="attn_implementation='squeezed'"):
            context.ask("What?")


def test_without_a_context_the_attention_is_sdpa():
    model = tiny_model()
    ids = torch.arange(40)[None]
    with torch.no_grad():
        squeezed = model(ids).logits
        model.set_attn_implementation("sdpa")
        assert torch.equal(squeezed, model(ids).logits)


GEMMA = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"num_hidden_layers": 1}),
        pytest.param("mistral", {"num_hidden_layers": 1}, marks=pytest.mark.slow),
        pytest.param("qwen3", {"num_hidden_layers": 1}, marks=pytest.mark.slow),
        pytest.param("gemma3", GEMMA, marks=pytest.mark.slow),
    ],
)
def test_under_torch_compile(family, options):
    torch.compiler.reset()
    model = tiny_model(family, **options)
    context = SqueezedContext.build(model, byte_tokenizer(), DOCUMENT, window=32)
    want = [context.ask(QUESTIONS, sparsity=one, max_new_tokens=4) for one in (0.0, 0.6)]
    context.model.forward = torch.compile(context.model.forward, dynamic=True, backend="eager")
    for sparsity, plain in zip((0.0, 0.6), want, strict=True):
        compiled = context.ask(QUESTIONS, sparsity=sparsity, max_new_tokens=4)
        for one, other in zip(compiled, plain, strict=True):
            assert one.tokens == other.tokens
            torch.testing.assert_close(one.kept, other.kept)
