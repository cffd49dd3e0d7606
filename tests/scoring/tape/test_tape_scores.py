"""TAPE's scores by hand; features and the probe against slow ones."""

import math

import numpy as np
import pytest
import torch

from lcframework.scoring.tape import ridge
from lcframework.scoring.tape.features import one_hot_windows, word_frequencies
from lcframework.scoring.tape.metrics import PerProtein, ratio_score, spearman_score
from lcframework.scoring.tape.ridge import RidgeProbe


def test_accuracy_is_over_residues_not_proteins():
    # 1 of 2 residues right, 6 of 6: 7/8, not the mean of 0.5 and 1.
    found = ratio_score([1, 6], [2, 6])
    assert found.value == 7 / 8 and found.n == 2
    assert found.low == 0.5 and found.high == 1.0


def test_spearman_by_hand_and_with_an_interval():
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15)
    found = spearman_score([0.1, 0.5, 0.4, 0.9], [1, 2, 3, 4], resamples=50)
    assert found.value == pytest.approx(0.8) and found.low <= 0.8 <= found.high
    constant = spearman_score([1.0, 1.0], [0.0, 1.0], resamples=10)
    assert math.isnan(constant.value) and math.isnan(constant.low)


def test_a_protein_counts_once():
    metric = PerProtein()
    metric.update(torch.tensor([2, 0]), torch.tensor([5.0, 1.0]), torch.tensor([6, 2]))
    metric.update(torch.tensor([1, 2]), torch.tensor([3.0, 5.0]), torch.tensor([4, 6]))
    first, second = metric.compute()
    assert first.tolist() == [1, 3, 5] and second.tolist() == [2, 4, 6]


def test_windows_and_words_by_hand():
    residues = np.array([0, 19, 25, 0])  # the third is no standard residue
    windows = one_hot_windows(residues, half=1).reshape(4, 3, 20)
    assert windows[0, 0].sum() == 0 and windows[0, 1, 0] == 1 and windows[0, 2, 19] == 1
    assert windows[1, 2].sum() == 0 and windows[3, 1, 0] == 1
    words = word_frequencies(residues)
    assert words[0] == 0.5 and words[19] == 0.25
    assert words[20 + 19] == pytest.approx(1 / 3) and words[20:].sum() == pytest.approx(1 / 3)
    assert word_frequencies(np.array([3]))[3] == 1


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_the_probe_is_ridge_regression(monkeypatch, block):
    monkeypatch.setattr(ridge, "BLOCK", block)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 4)) * [1, 5, 0.1, 0] + [0, 3, 0, 2]  # the last is constant
    y = np.stack([x[:, 0] - 2 * x[:, 1], x[:, 2] + 1], 1) + generator.normal(size=(50, 2))
    probe = RidgeProbe([(x[:20], y[:20]), (x[20:], y[20:])]).solve(0.1)
    z = (x[:, :3] - x[:, :3].mean(0)) / x[:, :3].std(0)
    weights = np.linalg.solve(z.T @ z + 0.1 * 50 * np.eye(3), z.T @ (y - y.mean(0)))
    np.testing.assert_allclose(probe.predict(x), z @ weights + y.mean(0), atol=1e-8)
    with pytest.raises(ValueError, match="training rows"):
        RidgeProbe([])
