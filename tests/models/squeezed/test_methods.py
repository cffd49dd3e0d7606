"""Baselines: each one's choice against a slow one of plain loops, and the cache that all share."""

import math

import pytest
import torch
from tiny_decoders import DOCUMENT, byte_tokenizer, tiny_model

from lcframework.errors import ConfigError
from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.methods import BASELINES, Method
from lcframework.models.squeezed.methods.selector import SelectorOptions, TextLayer
from lcframework.ops.squeezed_attention import FixedKV

H, G, N, E, D, W, Q, B = 2, 3, 37, 7, 6, 5, 4, 2
SCALE = D**-0.5


@pytest.fixture(scope="module")
def layer():
    generator = torch.Generator().manual_seed(5)

    def normal(*shape):
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    fixed = FixedKV(normal(H, N, D), normal(H, N, D), normal(H, E, D), normal(H, E, D), ())
    text = TextLayer(fixed, normal(H * G, W, D), SCALE, number=3)
    valid = torch.tensor([[True] * Q, [False, False, True, True]])
    return text, normal(B, H * G, Q, D), valid


def selector(name, text, share=0.4, **options):
    return BASELINES[name](text, SelectorOptions(share=share, page=4, pool=3, **options))


def softmax(logits):
    top = max(logits)
    weights = [math.exp(one - top) for one in logits]
    return [one / sum(weights) for one in weights]


def slow_weights(fixed, query, kv, seen=None):
    """Attention of one query to the N tokens, as a share of that to the context."""
    keys = torch.cat([fixed.keys[kv], fixed.exact_keys[kv]])
    logits = [float(query @ key) * SCALE for key in keys]
    if seen is not None:
        logits[N:] = [one if see else -math.inf for one, see in zip(logits[N:], seen, strict=True)]
    return softmax(logits)[:N]


def mean_of(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def largest(scores, count):
    return set(sorted(range(len(scores)), key=lambda n: -scores[n])[:count])


def sets(keep):
    """The chosen tokens as sets, [row][head][choice]."""
    return [[[set(one.nonzero()[:, 0].tolist()) for one in head] for head in row] for row in keep]


def groups(query, valid, b, kv, each):
    """Lists of (query heads x queries) that choose together."""
    heads = range(kv * G, kv * G + G)
    if each:
        return [[query[b, h, q] for h in heads] for q in range(Q)]
    return [[query[b, h, q] for h in heads for q in range(Q) if valid[b, q]]]


@pytest.mark.parametrize("each", [False, True])
def test_oracle(layer, each):
    text, query, valid = layer
    one = selector("oracle", text)
    assert one.count == round(0.4 * N)
    found = sets(one.choose(query, valid, each))
    for b in range(B):
        for kv in range(H):
            for got, queries in zip(found[b][kv], groups(query, valid, b, kv, each), strict=True):
                scores = mean_of([slow_weights(text.fixed, q, kv) for q in queries])
                assert got == largest(scores, round(0.4 * N))


@pytest.mark.parametrize("each", [False, True])
def test_quest(layer, each):
    text, query, valid = layer
    one = selector("quest", text, share=0.65)
    pages = [list(range(start, min(N, start + 4))) for start in range(0, N, 4)]
    assert one.overhead == len(pages) / N
    count = round(round((0.65 - one.overhead) * N) / 4)
    assert count > 1
    found = sets(one.choose(query, valid, each))
    for b in range(B):
        for kv in range(H):
            keys = text.fixed.keys[kv]
            for got, queries in zip(found[b][kv], groups(query, valid, b, kv, each), strict=True):
                scores = []
                for q in queries:
                    bounds = []
                    for page in pages:
                        bound = 0.0
                        for d in range(D):
                            column = [float(q[d] * keys[n, d]) for n in page]
                            bound += max(column)
                        bounds.append(bound * SCALE)
                        real = [float(q @ keys[n]) * SCALE for n in page]
                        assert bound * SCALE >= max(real) - 1e-9
                    scores.append(softmax(bounds))
                best = largest(mean_of(scores), count)
                assert got == {n for page in best for n in pages[page]}


def slow_pool(scores, width):
    half = width // 2
    padded = [0.0] * half + scores + [0.0] * half
    return [sum(padded[n : n + width]) / width for n in range(len(scores))]


def test_snapkv(layer):
    text, query, valid = layer
    found = sets(selector("snapkv", text).choose(query, valid, True))
    for kv in range(H):
        rows = []
        for w in range(W):
            seen = [True] * (E - W) + [place <= w for place in range(W)]
            for h in range(kv * G, kv * G + G):
                rows.append(slow_weights(text.fixed, text.queries[h, w], kv, seen))
        want = largest(slow_pool(mean_of(rows), 3), round(0.4 * N))
        assert [found[b][kv] for b in range(B)] == [[want]] * B


def test_snapkv_of_the_question_reads_it_densely_then_evicts(layer):
    text, query, valid = layer
    one = selector("snapkv_question", text)
    assert one.choose(query, valid, False).all()
    found = sets(one.choose(query[:, :, :1], valid[:, -1:], True))
    for b in range(B):
        for kv in range(H):
            (queries,) = groups(query, valid, b, kv, False)
            scores = mean_of([slow_weights(text.fixed, q, kv) for q in queries])
            assert found[b][kv] == [largest(slow_pool(scores, 3), round(0.4 * N))]


def test_recent_and_random(layer):
    text, query, valid = layer
    count = round(0.4 * N)
    recent = sets(selector("recent", text).choose(query, valid, True))
    assert recent == [[[set(range(N - count, N))]] * H] * B
    draws = [
        sets(selector("random", text, seed=seed).choose(query, valid, True)) for seed in (0, 1)
    ]
    assert {len(one) for row in draws[0] for head in row for one in head} == {count}
    assert draws[0][0][0] != draws[0][0][1] and draws[0] != draws[1]
    assert draws[0] == sets(selector("random", text, seed=0).choose(query, valid, False))


def test_without_room_or_queries_they_say_so(layer):
    text, _, _ = layer
    with pytest.raises(ConfigError, match="less than the"):
        selector("quest", text, share=0.1)
    with pytest.raises(ConfigError, match="build the context anew"):
        selector("snapkv", TextLayer(text.fixed, None, SCALE, 0))


@pytest.fixture(scope="module")
def context():
    return SqueezedContext.build(tiny_model(), byte_tokenizer(), DOCUMENT, window=32)


def test_the_order_of_the_text_is_restored(context):
    with torch.no_grad():
        cache = tiny_model(attention="sdpa")(context.ids[None], use_cache=True).past_key_values
    for number, text in enumerate(context.text_layers()):
        keys, values = cache.layers[number].keys[0], cache.layers[number].values[0]
        torch.testing.assert_close(text.fixed.keys, keys[:, 4:-32], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(text.fixed.values, values[:, 4:-32], rtol=1e-4, atol=1e-4)
        exact = torch.cat([keys[:, :4], keys[:, -32:]], 1)
        torch.testing.assert_close(text.fixed.exact_keys, exact, rtol=1e-4, atol=1e-4)
        assert text.number == number and text.queries.shape[1] == 32
    assert context.text_layers()[0] is context.text_layers()[0]  # made once


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_reading_everything_is_the_dense_answer(context, name):
    questions = ["What costs 3?", "Where is item 7 from, please?"]
    want = context.ask(questions, sparsity=0.0, max_new_tokens=6)
    found = context.ask(questions, squeeze=Method(method=name, share=1.0), max_new_tokens=6)
    if name == "quest":  # its bounds are a part of the share: something is dropped
        assert all(0.85 < one.kept.mean() < 0.97 and one.budget < 1.01 for one in found)
        return
    assert [one.tokens for one in found] == [one.tokens for one in want]
    assert all(one.kept.min() == 1 for one in found)


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"dense"}))
def test_the_measured_budget_is_the_one_asked_for(context, name):
    (found,) = context.ask(
        ["What costs 3?"], squeeze=Method(method=name, share=0.3), max_new_tokens=6
    )
    assert found.budget == pytest.approx(0.3, abs=0.02)
    assert len(found.tokens) == 6


def test_gemma_has_layers_that_no_method_touches():
    context = SqueezedContext.build(tiny_model("gemma3"), byte_tokenizer(), DOCUMENT, window=32)
    (found,) = context.ask(["What?"], squeeze=Method(method="oracle", share=0.3), max_new_tokens=3)
    assert found.kept.shape[0] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "h2o"}, "choose one of"),
        ({"method": "quest", "share": 1.5}, r"must lie in \[0, 1\]"),
        ({"share": 0.5}, "for the baselines"),
        ({"method": "snapkv", "pool": 4}, "pool odd"),
        ({"levels": 0}, "at least one level"),
    ],
)
def test_bad_choices(options, said):
    with pytest.raises(ConfigError, match=said):
        Method(**options)


def test_a_share_is_needed(context):
    with pytest.raises(ConfigError, match=r"needs squeeze\.share"):
        context.cache(Method(method="oracle"))


def test_one_level_of_two_is_the_flat_context(context):
    flat = SqueezedContext.build(tiny_model(), byte_tokenizer(), DOCUMENT, window=32, levels=1)
    want = flat.ask(["What costs 3?"], squeeze=Squeeze(sparsity=0.8), max_new_tokens=5)[0]
    found = context.ask(
        ["What costs 3?"], squeeze=Squeeze(sparsity=0.8, levels=1), max_new_tokens=5
    )[0]
    assert found.tokens == want.tokens
    torch.testing.assert_close(found.kept, want.kept)
    assert found.budget == pytest.approx(want.budget)
    both = context.ask(["What costs 3?"], squeeze=Squeeze(sparsity=0.8), max_new_tokens=5)[0]
    assert both.centroid_share > found.centroid_share
