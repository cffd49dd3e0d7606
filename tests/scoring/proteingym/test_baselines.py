"""BLOSUM62 and the position mean."""

import numpy as np
import pytest

from lcframework.scoring.proteingym.assay_metrics import spearman
from lcframework.scoring.proteingym.baselines import (
    BLOSUM62,
    BLOSUM62_LETTERS,
    blosum62_scores,
    position_mean_scores,
)


def test_blosum62_is_symmetric_and_known():
    codes = np.frombuffer(BLOSUM62_LETTERS.encode(), dtype=np.uint8)
    table = BLOSUM62[np.ix_(codes, codes)]
    np.testing.assert_array_equal(table, table.T)
    for pair, value in {"WW": 11, "CC": 9, "IV": 3, "GI": -4, "DE": 2, "AS": 1}.items():
        assert BLOSUM62[ord(pair[0]), ord(pair[1])] == value
    # Expected score under the matrix's own background is negative; the trace is a checksum.
    assert (
        table.trace()
        == 4 + 5 + 6 + 6 + 9 + 5 + 5 + 6 + 8 + 4 + 4 + 5 + 5 + 6 + 7 + 4 + 5 + 11 + 7 + 4
    )


def test_blosum62_sums_over_mutations():
    wild, mutant = (np.frombuffer(text, dtype=np.uint8) for text in (b"WID", b"AVE"))
    found = blosum62_scores(np.array([0, 2, 2]), wild, mutant, 3)
    assert found.tolist() == [-3.0, 0.0, 5.0]


def slow_position_mean(owner, positions, measured, fold):
    scores = []
    for i in range(len(measured)):
        others = [j for j in range(len(measured)) if fold[j] != fold[i]]
        total = 0.0
        for position in positions[owner == i]:
            there = [measured[j] for j in others if position in positions[owner == j]]
            if there:
                total += np.mean(there) - np.mean([measured[j] for j in others])
        scores.append(total)
    return np.array(scores)


def test_the_position_mean_against_its_definition():
    generator = np.random.default_rng(3)
    counts = generator.integers(1, 4, 40)
    owner = np.repeat(np.arange(40), counts)
    positions = np.concatenate([generator.choice(9, size=c, replace=False) for c in counts])
    measured = generator.normal(size=40)
    fold = np.random.default_rng(7).permutation(40) % 5
    found = position_mean_scores(owner, positions, measured, seed=7)
    np.testing.assert_allclose(found, slow_position_mean(owner, positions, measured, fold))


def test_the_position_mean_finds_positions_and_not_noise():
    generator = np.random.default_rng(0)
    positions = np.repeat(np.arange(50), 19)
    owner = np.arange(len(positions))
    effect = generator.normal(size=50)[positions]
    noise = 0.1 * generator.normal(size=len(owner))
    assert spearman(effect + noise, position_mean_scores(owner, positions, effect + noise)) > 0.9
    # Without an effect of the position nothing is left, above all no perfect anticorrelation.
    few = np.repeat(np.arange(4), 200)
    pure = generator.normal(size=800)
    found = spearman(pure, position_mean_scores(np.arange(800), few, pure))
    assert abs(found) < 0.15


@pytest.mark.parametrize("n", [2, 3])
def test_tiny_assays_have_a_position_mean(n):
    found = position_mean_scores(np.arange(n), np.zeros(n, np.int64), np.arange(float(n)))
    assert np.isfinite(found).all()
