"""Scores by length, against numbers worked by hand."""

import numpy as np
import pytest

from lcframework.errors import ConfigError
from lcframework.scoring.length_bins import bin_bounds, checked_edges, scores_by_length

LOG2 = float(np.log(2))
NUMBERS = [
    f"{name}{end}" for name in ("loss", "perplexity", "accuracy") for end in ("", "_low", "_high")
]


def test_rows_by_hand():
    rows = scores_by_length(
        lengths=[5, 9, 10, 19, 20, 500],
        nll=[1 * LOG2, 3 * LOG2, 4 * LOG2, 2 * LOG2, 9.0, 0.0],
        n=[1, 1, 2, 1, 3, 0],
        n_correct=[1, 0, 1, 1, 3, 0],
        edges=[10, 20],
        min_proteins=2,
    )
    assert [row["bin"] for row in rows] == ["0-9", "10-19", "20+"]
    assert [row["proteins"] for row in rows] == [2, 2, 1]  # the last protein has nothing scored
    assert [row["residues_scored"] for row in rows] == [2, 3, 3]
    assert rows[0]["loss"] == pytest.approx(2 * LOG2)
    assert rows[0]["perplexity"] == pytest.approx(4.0)  # (1 + 3) bits over 2
    assert rows[1]["perplexity"] == pytest.approx(4.0)  # (4 + 2) bits over 3
    assert rows[0]["accuracy"] == pytest.approx(1 / 2)
    assert rows[1]["accuracy"] == pytest.approx(2 / 3)  # of residues, not the mean of 1/2 and 1
    # Two proteins: a resample is one of them twice or both, so the ends are the single ones.
    assert rows[0]["perplexity_low"] == pytest.approx(2.0)
    assert rows[0]["perplexity_high"] == pytest.approx(8.0)
    assert rows[0]["loss_high"] == pytest.approx(3 * LOG2)
    assert (rows[1]["accuracy_low"], rows[1]["accuracy_high"]) == pytest.approx((0.5, 1.0))
    assert [rows[2][name] for name in NUMBERS] == [None] * 9


def test_twenty_proteins_make_a_number_and_nineteen_do_not():
    def one_bin(proteins):
        ones = [1] * proteins
        return scores_by_length([50] * proteins, ones, ones, ones, edges=[50])

    empty, full = one_bin(20)
    assert (empty["proteins"], empty["residues_scored"], empty["loss"]) == (0, 0, None)
    assert full["loss"] == pytest.approx(1.0)
    few = one_bin(19)[1]
    assert (few["proteins"], few["residues_scored"]) == (19, 19)
    assert [few[name] for name in NUMBERS] == [None] * 9


def test_every_protein_is_in_one_bin():
    rng = np.random.default_rng(0)
    lengths, edges = rng.integers(1, 3_000, 500), [64, 128, 1024]
    ones = np.ones(500, int)
    rows = scores_by_length(lengths, rng.random(500), ones, ones, edges, resamples=10)
    assert sum(row["proteins"] for row in rows) == 500
    for row, (label, low, high) in zip(rows, bin_bounds(edges), strict=True):
        assert row["bin"] == label
        assert row["proteins"] == ((lengths >= low) & (lengths <= (high or 10**9))).sum()


def test_labels():
    assert [label for label, _, _ in bin_bounds([1, 2, 4])] == ["0", "1", "2-3", "4+"]
    assert bin_bounds([128])[-1] == ("128+", 128, None)


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ([], "at least one"),
        ("all", "length_edges=all: expected a list"),
        (128, "expected a list"),
        ([0, 5], "0 is below 1"),
        ([-128, 5], "-128 is below 1"),
        ([5, 5], "5 stands there twice"),
        ([9, 4], "4 comes after 9, unsorted"),
        ([128, 256.0], "256.0 is no whole number"),
        ([128, "2k"], "'2k' is no whole number"),
        ([True, 5], "True is no whole number"),
        ([128, None], "None is no whole number"),
    ],
)
def test_bad_edges_are_named(edges, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        checked_edges(edges)
    assert "length_edges=" in str(caught.value)
    assert "Give rising whole numbers" in str(caught.value)


def test_numpy_edges_become_plain_integers():
    edges = checked_edges(np.array([1, 2]))
    assert edges == (1, 2)
    assert all(type(edge) is int for edge in edges)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="alike"):
        scores_by_length([1, 2], [1.0], [1], [1], [5])
