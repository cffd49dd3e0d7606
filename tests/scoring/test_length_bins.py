"""Perplexity by length, against numbers worked by hand."""

import numpy as np
import pytest

from lcframework.scoring.length_bins import perplexity_by_length

LOG2 = float(np.log(2))


def test_rows_by_hand():
    rows = perplexity_by_length(
        lengths=[5, 9, 10, 19, 20, 500],
        nll=[1 * LOG2, 3 * LOG2, 4 * LOG2, 2 * LOG2, 9.0, 0.0],
        n=[1, 1, 2, 1, 3, 0],
        edges=[10, 20],
        min_proteins=2,
    )
    assert [row["bin"] for row in rows] == ["0-9", "10-19", "20+"]
    assert [(row["low"], row["high"]) for row in rows] == [(0, 9), (10, 19), (20, None)]
    assert [row["proteins"] for row in rows] == [2, 2, 1]  # the last protein has nothing scored
    assert [row["residues_scored"] for row in rows] == [2, 3, 3]
    assert rows[0]["perplexity"]["value"] == pytest.approx(4.0)  # (1 + 3) bits over 2
    assert rows[1]["perplexity"]["value"] == pytest.approx(4.0)  # (4 + 2) bits over 3
    assert rows[0]["perplexity"]["low"] == pytest.approx(2.0)
    assert rows[0]["perplexity"]["high"] == pytest.approx(8.0)
    assert rows[2]["perplexity"] is None


def test_too_few_proteins_show_no_perplexity():
    rows = perplexity_by_length([50] * 39, [1.0] * 39, [1] * 39, edges=[50])
    assert rows[0] == {
        "bin": "0-49", "low": 0, "high": 49, "proteins": 0, "residues_scored": 0, "perplexity": None
    }  # fmt: skip
    assert rows[1]["perplexity"]["n"] == 39
    few = perplexity_by_length([50] * 19, [1.0] * 19, [1] * 19, edges=[50])
    assert few[1]["proteins"] == 19
    assert few[1]["perplexity"] is None


def test_every_protein_is_in_one_bin():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 3_000, 500)
    rows = perplexity_by_length(lengths, rng.random(500), np.ones(500, int), [64, 128, 1024])
    assert sum(row["proteins"] for row in rows) == 500
    for row in rows:
        high = row["high"] if row["high"] is not None else 10**9
        assert row["proteins"] == ((lengths >= row["low"]) & (lengths <= high)).sum()


@pytest.mark.parametrize("edges", [[], [0, 5], [5, 5], [9, 4]])
def test_edges_must_rise(edges):
    with pytest.raises(ValueError, match="rise"):
        perplexity_by_length([1], [1.0], [1], edges)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="alike"):
        perplexity_by_length([1, 2], [1.0], [1], [5])
