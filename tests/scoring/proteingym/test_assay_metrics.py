"""ProteinGym's metrics against numbers worked by hand, slow definitions and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional import matthews_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import binary_auroc

from lcframework.scoring.proteingym.assay_metrics import (
    assay_metrics,
    auc,
    mcc,
    ndcg,
    ranks,
    spearman,
    top_recall,
)


def drawn(seed, n, ties):
    generator = np.random.default_rng(seed)
    measured, scores = generator.normal(size=(2, n))
    if ties:
        measured, scores = np.round(measured), np.round(scores, 1)
    return measured, (measured > np.median(measured)).astype(np.int64), scores


def test_ranks_by_hand():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_spearman_by_hand():
    # Ranks 1 2 3 4 against 2 1 4 3: squared differences sum to 4, 1 - 6 * 4 / (4 * 15) = 0.6.
    y, s = np.array([1.0, 2, 3, 4]), np.array([20.0, 10, 40, 30])
    assert spearman(y, s) == pytest.approx(0.6)
    assert spearman(y, -s) == pytest.approx(-0.6)
    assert math.isnan(spearman(y, np.zeros(4)))


def test_auc_by_hand():
    # Pairs (functional, not): (2,1) won, (2,2) tied, (3,1) won, (3,2) won: 3.5 of 4.
    assert auc(np.array([0, 0, 1, 1]), np.array([1.0, 2, 2, 3])) == pytest.approx(3.5 / 4)
    assert math.isnan(auc(np.array([1, 1]), np.array([0.0, 1])))


def test_mcc_by_hand():
    # tp 2, tn 1, fp 1, fn 1: (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2) = 1 / 6.
    assert mcc(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1])) == pytest.approx(1 / 6)
    assert mcc(np.array([1, 1]), np.array([0, 1])) == 0.0


def test_mcc_is_cut_at_the_median_of_the_predictions_which_is_above():
    measured, binary = np.arange(5.0), np.array([0, 0, 0, 1, 1])
    scores = np.array([0.0, 1, 2, 3, 4])  # median 2 is called functional: tp 2, fp 1, tn 2, fn 0
    expected = (2 * 2 - 1 * 0) / math.sqrt(3 * 2 * 3 * 2)
    assert assay_metrics(measured, binary, scores)["mcc"] == pytest.approx(expected)


def test_ndcg_by_hand():
    measured = np.arange(20.0)  # gains r / 19, the top is two places
    scores = measured.copy()
    assert ndcg(measured, scores) == pytest.approx(1.0)
    scores[[18, 19]] = [30.0, -1.0]  # placed: 18 first, 17 second; best: 19 then 18
    second = 1 / math.log2(3)
    assert ndcg(measured, scores) == pytest.approx((18 + 17 * second) / (19 + 18 * second))
    assert ndcg(measured, -measured) == pytest.approx((0 + 1 * second) / (19 + 18 * second))
    assert math.isnan(ndcg(np.ones(20), scores))
    assert ndcg(np.arange(5.0), np.arange(5.0)) == 0.0  # a tenth of five is no place at all


def test_top_recall_by_hand():
    measured = np.arange(20.0)  # the 90th percentile is 17.1: 18 and 19 are wanted
    assert top_recall(measured, measured) == 1.0
    scores = measured.copy()
    scores[[0, 19]] = [19.0, 0.0]
    assert top_recall(measured, scores) == 0.5
    assert top_recall(measured, -measured) == 0.0
    assert math.isnan(top_recall(np.ones(20), scores))


def slow_ndcg(measured, scores):
    """The official loop, with sorting spelled out."""
    gains = (measured - measured.min()) / (measured.max() - measured.min())
    k = math.floor(len(gains) * 0.1)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    best = sorted(gains, reverse=True)
    dcg = sum(gains[order[r]] / math.log2(r + 2) for r in range(k))
    return dcg / sum(best[r] / math.log2(r + 2) for r in range(k))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [31, 200])
def test_against_slow_definitions_and_torchmetrics(n, ties):
    y, b, s = drawn(n, n, ties)
    found = assay_metrics(y, b, s)
    pairs = [
        (s[i] > s[j]) + 0.5 * (s[i] == s[j]) for i in range(n) for j in range(n) if b[i] > b[j]
    ]
    assert found["auc"] == pytest.approx(np.mean(pairs))
    called = torch.tensor(s >= np.median(s)).long()
    truth, scores = torch.tensor(b), torch.tensor(s)
    # torchmetrics squashes scores outside 0..1, which makes new ties.
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    assert found["auc"] == pytest.approx(float(binary_auroc(scaled, truth)), abs=1e-6)
    assert found["mcc"] == pytest.approx(
        float(matthews_corrcoef(called, truth, "binary")), abs=1e-6
    )
    assert found["spearman"] == pytest.approx(
        float(spearman_corrcoef(scores, torch.tensor(y))), abs=1e-6
    )
    assert found["ndcg"] == pytest.approx(slow_ndcg(y, s))
    top_y = {i for i in range(n) if y[i] > np.percentile(y, 90)}
    top_s = {i for i in range(n) if s[i] > np.percentile(s, 90)}
    assert found["top_recall"] == pytest.approx(len(top_y & top_s) / len(top_y))


@pytest.mark.parametrize(
    "arguments",
    [
        ([1.0], [1], [1.0]),
        ([1.0, 2.0], [1, 0], [1.0, float("nan")]),
        ([1.0, 2.0], [1, 0], [1.0, 2.0, 3.0]),
    ],
)
def test_what_has_no_score_is_refused(arguments):
    with pytest.raises(ValueError, match="N >= 2|not finite"):
        assay_metrics(*arguments)
