"""Paired, teacher-forced comparison: by hand, against plain loops, and its intervals."""

import math

import numpy as np
import pytest
import torch

from lcframework.scoring import paired
from lcframework.scoring.intervals import Interval, bootstrap_ratio
from lcframework.scoring.paired import compare_logits, score_difference, summarize, verdict


def slow(dense, other, gold):
    """One token at a time in plain Python."""
    rows = []
    for d, o, g in zip(dense.tolist(), other.tolist(), gold.tolist(), strict=True):
        p, q = ([math.exp(x - max(row)) for x in row] for row in (d, o))
        p, q = ([x / sum(row) for x in row] for row in (p, q))
        first, second = sorted(p, reverse=True)[:2]
        rows.append(
            (
                sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0),
                p.index(max(p)) == q.index(max(q)),
                math.log(q[g]) - math.log(p[g]),
                first - second,
            )
        )
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_by_hand():
    dense = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).log()
    other = torch.tensor([[0.25, 0.75], [0.75, 0.25]]).log()
    found = compare_logits(dense, other, torch.tensor([0, 1]))
    assert found.kl_T == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0], abs=1e-7)
    assert found.gold_T == pytest.approx([math.log(0.5), 0], abs=1e-6)
    assert found.agree_T.tolist()[1] and found.margin_T == pytest.approx([0, 0.5], abs=1e-6)
    assert len(found) == 2


@pytest.mark.parametrize("rows", [3, 1000])
def test_equals_the_slow_loop_in_any_pieces(monkeypatch, rows):
    torch.manual_seed(0)
    dense, other = 3 * torch.randn(11, 7), 3 * torch.randn(11, 7)
    gold = torch.randint(0, 7, (11,))
    monkeypatch.setattr(paired, "_AT_ONCE", rows * 7)
    found = compare_logits(dense, other, gold)
    for mine, want in zip((found.kl_T, found.agree_T, found.gold_T, found.margin_T),
                          slow(dense, other, gold), strict=True):  # fmt: skip
        np.testing.assert_allclose(mine, want, atol=1e-9)


def test_impossible_tokens_and_equal_models():
    dense = torch.tensor([[0.0, 1.0, -torch.inf]])
    found = compare_logits(dense, torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([1]))
    assert np.isfinite(found.kl_T).all() and found.kl_T[0] > 0
    same = compare_logits(dense, dense, torch.tensor([0]))
    assert same.kl_T[0] == 0 and same.gold_T[0] == 0 and same.agree_T[0]
    # what dense expects and the other rules out costs without bound
    assert compare_logits(torch.zeros(1, 3), dense, torch.tensor([0])).kl_T[0] == np.inf
    big = torch.full((2, 5), 1e4)
    assert compare_logits(big, big + 1, torch.tensor([0, 1])).kl_T == pytest.approx([0, 0])


@pytest.mark.parametrize(
    ("dense", "other", "gold", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2).long(), "alike"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3).long(), "alike"),
        (torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0).long(), "no tokens"),
        (torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([3]), "vocabulary of 3"),
        (torch.zeros(1, 3), torch.full((1, 3), torch.nan), torch.tensor([0]), "the other model"),
        (torch.full((1, 3), torch.inf), torch.zeros(1, 3), torch.tensor([0]), "the dense model"),
    ],
)
def test_bad_input(dense, other, gold, message):
    with pytest.raises(ValueError, match=message):
        compare_logits(dense, other, gold)


def test_summary_is_over_tokens_with_intervals_over_documents():
    torch.manual_seed(1)
    parts, documents = [], []
    for number in range(12):
        tokens = 3 + number
        dense = torch.randn(tokens, 9)
        other = dense + 0.5 * torch.randn(tokens, 9)
        parts.append(compare_logits(dense, other, torch.randint(0, 9, (tokens,))))
        documents.append(number // 2)
    found = summarize(parts, documents)
    everything = np.concatenate([part.kl_T for part in parts])
    assert found.kl.value == pytest.approx(everything.mean())
    assert (found.tokens, found.documents) == (len(everything), 6)
    assert found.kl.n == 6 and 0 < found.kl.low < found.kl.value < found.kl.high
    sums = [sum(parts[2 * d + k].kl_T.sum() for k in (0, 1)) for d in range(6)]
    counts = [sum(len(parts[2 * d + k]) for k in (0, 1)) for d in range(6)]
    assert found.kl == bootstrap_ratio(sums, counts)
    assert found.agreement.value == pytest.approx(
        np.mean(np.concatenate([p.agree_T for p in parts]))
    )
    with pytest.raises(ValueError, match="one for each"):
        summarize(parts, documents[:-1])
    with pytest.raises(ValueError, match="one for each"):
        summarize([], [])
    ruled_out = compare_logits(
        torch.zeros(1, 2), torch.tensor([[0, -torch.inf]]), torch.tensor([0])
    )
    with pytest.raises(ValueError, match="document 'a'.*infinite"):
        summarize([ruled_out], ["a"])


def test_pairing_resolves_what_two_intervals_do_not():
    rng = np.random.default_rng(0)
    dense = rng.random(200)
    other = dense - 0.01 + 0.005 * rng.standard_normal(200)
    found = score_difference(dense, other, range(200))
    assert found.value == pytest.approx((other - dense).mean())
    assert found.high < 0  # the loss is seen
    apart = bootstrap_ratio(other, np.ones(200))
    assert apart.high > dense.mean()  # the unpaired interval does not see it
    few = score_difference([1, 0, 1], [0, 0, 1], ["a", "a", "b"])
    assert few.n == 2 and few.value == pytest.approx(-1 / 3)
    with pytest.raises(ValueError, match="the same items"):
        score_difference([1], [1, 2], [0])


@pytest.mark.parametrize(
    ("low", "high", "n", "want"),
    [
        (-0.3, 0.2, 9, "holds"), (-0.9, -0.6, 9, "fails"), (-0.9, 0.4, 9, "not testable here"),
        (0.1, 0.1, 1, "not testable here"),
    ],
)  # fmt: skip
def test_the_verdict(low, high, n, want):
    assert verdict(Interval((low + high) / 2, low, high, n), 0.5) == want
    with pytest.raises(ValueError, match="above 0"):
        verdict(Interval(0, 0, 0, 2), 0)
