"""The bootstrap against hand-worked and analytic cases."""

import numpy as np
import pytest

from lcframework.scoring.intervals import Interval, bootstrap_ratio


def slow_bootstrap(top, bottom, resamples, seed):
    """One resample at a time, in plain Python, from the same draws."""
    chosen = np.random.default_rng(seed).integers(0, len(top), (resamples, len(top)))
    draws = [np.exp(sum(top[i] for i in row) / sum(bottom[i] for i in row)) for row in chosen]
    return np.percentile(draws, [2.5, 97.5])


def test_value_by_hand():
    found = bootstrap_ratio([2.0, 4.0, 6.0], [1, 2, 1], np.exp)
    assert found.value == pytest.approx(np.exp(12 / 4))
    # the extreme resamples: only the first two proteins (ratio 2), only the third (ratio 6)
    assert np.exp(2) <= found.low <= found.value <= found.high <= np.exp(6)
    assert found.n == 3


def test_equals_the_slow_loop():
    rng = np.random.default_rng(5)
    top, bottom = rng.random(13) * 9, rng.integers(1, 9, 13)
    found = bootstrap_ratio(top, bottom, np.exp, resamples=200, seed=7)
    np.testing.assert_allclose([found.low, found.high], slow_bootstrap(top, bottom, 200, 7))


def test_matches_the_normal_interval_of_a_mean():
    values = np.random.default_rng(0).normal(10.0, 2.0, 2_000)
    found = bootstrap_ratio(values, np.ones(2_000), resamples=4_000)
    half = 1.96 * values.std() / np.sqrt(2_000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        # residues of a protein share a level, so an interval over residues would be too narrow
        counts = rng.integers(1, 40, 60)
        sums = (3.0 + rng.normal(0, 1, 60)) * counts
        found = bootstrap_ratio(sums, counts, resamples=300, seed=trial)
        hits += found.low <= 3.0 <= found.high
    assert 178 <= hits <= 199


def test_chunks_do_not_change_the_draws(monkeypatch):
    top, bottom = np.arange(1.0, 12.0), np.ones(11)
    whole = bootstrap_ratio(top, bottom)
    monkeypatch.setattr("lcframework.scoring.intervals._DRAWS_AT_ONCE", 35)
    assert bootstrap_ratio(top, bottom) == whole


def test_proteins_without_scored_residues_are_dropped():
    assert bootstrap_ratio([0, 3, 0, 5], [0, 1, 0, 2]) == bootstrap_ratio([3, 5], [1, 2])


def test_same_seed_same_interval_and_plain_values():
    first, second = (bootstrap_ratio([1, 2, 5], [1, 1, 1], seed=3) for _ in range(2))
    assert first == second
    assert first.as_dict() == {"value": first.value, "low": first.low, "high": first.high, "n": 3}
    assert all(type(value) in (int, float) for value in first.as_dict().values())


def test_one_protein_has_no_width():
    assert bootstrap_ratio([4.0], [2]) == Interval(2.0, 2.0, 2.0, 1)


@pytest.mark.parametrize(
    ("top", "bottom", "message"),
    [
        ([], [], "none of the 0"),
        ([1.0], [0], "none of the 1"),
        ([1.0, np.nan], [1, 1], "protein 1 of 2"),
        ([1.0], [-1], "protein 0"),
        ([1.0], [1, 2], "alike"),
        ([[1.0]], [[1]], "alike"),
    ],
)
def test_bad_input(top, bottom, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_ratio(top, bottom)
