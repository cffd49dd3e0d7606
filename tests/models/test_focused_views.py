"""Token ids of two views, and what transformers makes of them on each attention backend."""

from importlib.util import find_spec

import pytest
import torch
from focused_examples import TEXTS, item, llm
from tiny_decoders import byte_tokenizer
from transformers import MambaConfig, MambaForCausalLM

from lcframework.data.focused.item import FocusedItem
from lcframework.errors import ConfigError, DataError
from lcframework.models.focused.layout import as_one_row, check_packing
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.tokens import encode_item
from lcframework.models.focused.views import check_mode, focused_view, original_view

CHAT = "<s>[{{ messages[0]['content'] | trim }}]"
BACKENDS = (
    "eager",
    "sdpa",
    pytest.param("flex_attention", marks=pytest.mark.slow),  # compiles
    pytest.param(
        "flash_attention_2",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available() or find_spec("flash_attn") is None,
            reason="FlashAttention needs a GPU and its package",
        ),
    ),
)


def encoded(kept=(1,), answer="Rome", chat=False, **options):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    return encode_item(tokenizer, item(0, kept), chat=chat, answer=answer, **options), tokenizer


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("kept", [(1,), (0, 3), ()])
def test_exactly_the_chunks_are_kept(chat, kept):
    found, tokenizer = encoded(kept, chat=chat)
    dropped = tokenizer.decode([n for n, k in zip(found.ids, found.kept, strict=True) if not k])
    stays = tokenizer.decode([n for n, k in zip(found.ids, found.kept, strict=True) if k])
    for number, text in enumerate(TEXTS):
        assert (text in stays) == (number in kept) and (text in dropped) != (number in kept)
    assert "Which city is old?" in stays and stays.startswith("<s>[Read" if chat else "Read")
    assert tokenizer.decode(found.answer) == ("Rome</s>" if chat else " Rome</s>")
    assert found.truncated == 0 and not found.lost


def test_prompt_ids_are_those_of_generation():
    from lcframework.data.longbench.inputs import model_input

    for chat in (False, True):
        found, tokenizer = encoded(chat=chat)
        assert found.ids == model_input(tokenizer, item(0).prompt, None, chat).ids


@pytest.mark.parametrize("truncate", ["end", "middle"])
def test_only_the_document_is_cut(truncate):
    whole, tokenizer = encoded((0,))
    size = len(whole.ids) + len(whole.answer)
    found, _ = encoded((0,), max_length=size - 30, truncate=truncate)
    assert len(found.ids) + len(found.answer) == size - 30 and found.truncated == 30
    text = tokenizer.decode(found.ids)
    assert text.startswith("Read the document") and text.endswith("old?\nAnswer:")
    assert found.answer == whole.answer
    assert ("Kyoto has temples." in text) == (truncate == "middle")
    assert TEXTS[0] in text and not found.lost  # the kept chunk is whole
    lost, _ = encoded((3,), max_length=size - 30, truncate="end")
    assert lost.lost
    with pytest.raises(DataError, match="no token of the document.*raise task.max_length by"):
        encoded(max_length=40)


def test_a_template_that_changes_the_document_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] | upper }}"
    with pytest.raises(ConfigError, match="does not repeat the document"):
        encode_item(tokenizer, item(), chat=True)


def test_the_four_modes():
    found, _ = encoded()
    whole, kept = original_view(found), torch.tensor([*found.kept, *[True] * len(found.answer)])
    mask, hole, removal, compact = (
        focused_view(found, mode, 7) for mode in ("mask", "hole", "removal", "compact")
    )
    assert (mask.ids_N[~kept] == 7).all() and (mask.ids_N[kept] == whole.ids_N[kept]).all()
    assert (hole.ids_N == whole.ids_N).all() and (hole.attended_N.bool() == kept).all()
    assert len(removal.ids_N) == kept.sum() < len(kept)
    assert (removal.positions_N == kept.nonzero()[:, 0]).all()
    assert (compact.positions_N == torch.arange(int(kept.sum()))).all()
    assert (compact.ids_N == removal.ids_N).all()
    with pytest.raises(ValueError, match="needs a mask token"):
        focused_view(found, "mask")


def states(model, view):
    with torch.no_grad():
        return model.base_model(**view.inputs("cpu"), use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
def test_removal_equals_the_hole(family, backend):
    model, _ = llm(family, attention=backend)
    if backend.startswith("flash"):
        with pytest.raises(ConfigError, match="gaps in the positions"):
            check_mode("removal", model.config)
        return
    if backend != "flex_attention":  # which takes float32 at most on the CPU
        model.double()
    found, _ = encoded((0, 3))
    kept = torch.tensor([*found.kept, *[True] * len(found.answer)])
    hole = states(model, focused_view(found, "hole"))[kept]
    removal = states(model, focused_view(found, "removal"))
    # eager's softmax is float32 whatever comes in
    bound = {"eager": 1e-5, "flex_attention": 1e-4}.get(backend, 1e-9)
    torch.testing.assert_close(removal, hole, rtol=bound, atol=bound)
    compact = states(model, focused_view(found, "compact"))
    assert (compact - hole).abs().max() > 1e-3
    whole = states(model, original_view(found))[kept]
    assert (whole - hole).abs().max() > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["mask", "hole", "removal", "compact"])
def test_generation_continues_what_training_sees(mode, backend):
    """Greedy tokens of `generate` are the most likely ones of a training pass over them."""
    if backend == "flex_attention" and mode == "hole" and not torch.cuda.is_available():
        pytest.skip("PyTorch's generated C++ for this mask does not compile on the CPU")
    model, _ = llm(attention=backend)
    found, _ = encoded((0, 3), answer=None)
    view = focused_view(found, mode, 7)
    with torch.no_grad():
        new = model.generate(
            **view.inputs("cpu"), max_new_tokens=8, do_sample=False, pad_token_id=0
        )[0, len(view.ids_N) :].tolist()
    found.answer.extend(new)
    trained = focused_view(found, mode, 7)
    with torch.no_grad():
        logits = model(**trained.inputs("cpu"), use_cache=False).logits[0]
    assert logits[-len(new) - 1 : -1].argmax(-1).tolist() == new


def test_sliding_windows_and_removal():
    for family in ("gemma3", "qwen3_mixed"):
        model, _ = llm(family)
        with pytest.raises(ConfigError, match="sliding window"):
            check_mode("removal", model.config)
        check_mode("hole", model.config)
    check_mode("removal", llm("mistral")[0].config)  # its window is switched off
    with pytest.raises(ConfigError, match="unknown"):
        check_mode("blur", llm()[0].config)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("pooling", ["last_prompt", "answer_mean", "prompt_mean"])
def test_network_equals_the_whole_model(family, pooling):
    model, _ = llm(family, **({"final_logit_softcapping": 3.0} if family == "gemma3" else {}))
    found, _ = encoded()
    view = focused_view(found, "hole")
    with torch.no_grad():
        found = TwoViewNetwork(model, pooling)([view], True)
        embedding, loss = found.embedding_SE[0], found.nll_S[0]
        out = model(**view.inputs("cpu"), use_cache=False, output_hidden_states=True)
    state, first = out.hidden_states[-1][0], view.prompt_tokens
    logp = out.logits[0, first - 1 : -1].log_softmax(-1)
    assert loss.item() == pytest.approx(
        -logp.gather(1, view.ids_N[first:, None]).sum().item(), 1e-4
    )
    seen = view.attended_N[:first].bool()
    wanted = {
        "last_prompt": state[first - 1],
        "answer_mean": state[first:].mean(0),
        "prompt_mean": state[:first][seen].mean(0),
    }[pooling]
    torch.testing.assert_close(embedding, wanted, rtol=1e-4, atol=1e-4)


def test_scaled_logits_are_refused():
    model, _ = llm()
    model.config.logits_scaling = 8.0
    with pytest.raises(ConfigError, match="logits_scaling"):
        TwoViewNetwork(model)


def test_items_say_what_is_kept():
    one = item(0, (0, 3))
    assert isinstance(one, FocusedItem)
    assert [one.document_text[low:high] for low, high in one.kept_spans] == [TEXTS[0], TEXTS[3]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["mask", "hole", "removal", "compact"])
def test_packed_and_padded_views_are_each_alone(mode, backend):
    """Losses and embeddings of three views of various lengths in one pass."""
    if backend == "flex_attention" and not torch.cuda.is_available():
        pytest.skip("PyTorch's compiler for the CPU makes C++ of this mask that does not compile")
    if backend.startswith("flash") and mode in ("hole", "removal"):
        pytest.skip("refused, see test_what_cannot_be_packed_is_refused")
    model, _ = llm(attention=backend)
    views = [focused_view(encoded(kept, answer=text)[0], mode, 7)
             for kept, text in (((1,), "Rome"), ((0, 3), "a"), ((2,), "the old town"))]  # fmt: skip
    alone, together, packed = (TwoViewNetwork(model, packed=one) for one in (False, False, True))
    with torch.no_grad():
        wanted = [alone([view], True) for view in views]
        for network in (together, packed):
            found = network(views, True)
            for n, one in enumerate(wanted):
                torch.testing.assert_close(
                    found.nll_S[n], one.nll_S[0], rtol=1e-4, atol=1e-4, msg=f"{n}"
                )
                torch.testing.assert_close(
                    found.embedding_SE[n], one.embedding_SE[0], rtol=1e-3, atol=1e-4
                )


def test_removal_costs_what_is_kept():
    found, _ = encoded((1,))
    assert len(focused_view(found, "removal").ids_N) == sum(found.kept) + len(found.answer)


def test_what_cannot_be_packed_is_refused():
    check_packing(llm()[0], "removal")
    for family in ("gemma3", "qwen3_mixed"):
        with pytest.raises(ConfigError, match="sliding window"):
            check_packing(llm(family)[0], "mask")
    model, _ = llm()
    model.config._attn_implementation = "flash_attention_2"
    for mode in ("hole", "removal"):
        with pytest.raises(ConfigError, match="gaps or holes"):
            check_packing(model, mode)
    with pytest.raises(ConfigError, match="gaps in the positions"):
        check_mode("removal", model.config)
    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4)
    )
    with pytest.raises(ConfigError, match="another sequence stands before"):
        check_packing(mamba, "mask")


def test_flash_packing_gives_positions_and_no_mask():
    """transformers finds the borders where positions start again."""
    views = [focused_view(encoded((n,))[0], "compact") for n in (0, 3)]
    given = as_one_row(views, "cpu", "flash_attention_2", torch.float32)
    assert set(given) == {"input_ids", "position_ids"}
    starts = (given["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    assert starts == [0, len(views[0].ids_N)]
