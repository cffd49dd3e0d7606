"""Loss by distance from the nearest end, against numbers worked by hand."""

import numpy as np
import pytest

from lcframework.errors import ConfigError
from lcframework.scoring.end_distance import end_distances, loss_by_distance, sum_by_distance


def test_distances_of_an_odd_an_even_and_a_single_protein():
    for length, distances, ends in [
        (5, [0, 1, 2, 1, 0], [0, 0, 0, 1, 1]),
        (4, [0, 1, 1, 0], [0, 0, 1, 1]),
        (1, [0], [0]),
    ]:
        found = end_distances(range(length), [length] * length)
        assert [one.tolist() for one in found] == [distances, ends]


@pytest.mark.parametrize(("position", "length"), [(5, 5), (-1, 5)])
def test_a_position_outside_its_protein_is_refused(position, length):
    with pytest.raises(ValueError, match=rf"position {position} lies outside a protein of 5"):
        end_distances([position], [length])


def test_sums_by_hand():
    # Protein 0 has residues at distances 0, 1 from its N-terminus and 3 from its C-terminus;
    # protein 1 has none; protein 2 three at distance 2, one of them from the C-terminus.
    sums, counts = sum_by_distance(
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
        [0, 1, 3, 2, 2, 2],
        [0, 0, 1, 0, 0, 1],
        [0, 0, 0, 2, 2, 2],
        3,
        edges=(1, 2, 4),
    )
    none = [0, 0, 0, 0]
    assert sums.tolist() == [
        [[1, 2, 0, 0], [0, 0, 4, 0]],
        [none, none],
        [[0, 0, 24, 0], [0, 0, 32, 0]],
    ]
    assert counts.tolist() == [
        [[1, 1, 0, 0], [0, 0, 1, 0]],
        [none, none],
        [[0, 0, 2, 0], [0, 0, 1, 0]],
    ]


def test_rows_by_hand():
    rows = loss_by_distance(
        [[[1.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [5.0, 0.0]], [[0.0, 0.0], [7.0, 0.0]]],
        [[[1, 4], [0, 0]], [[3, 0], [1, 0]], [[0, 0], [1, 0]]],
        edges=[8],
        min_proteins=2,
    )
    assert [row["end"] for row in rows] == ["N", "N", "C", "C"]
    assert [row["distance"] for row in rows] == ["0-7", "8+"] * 2
    assert [row["proteins"] for row in rows] == [2, 1, 2, 0]
    assert [row["residues_scored"] for row in rows] == [4, 4, 2, 0]
    assert rows[2]["loss"] == pytest.approx(6.0)
    assert rows[0]["loss"] == pytest.approx(1.0)  # (1 + 3) / (1 + 3)
    assert (rows[0]["loss_low"], rows[0]["loss_high"]) == pytest.approx((1.0, 1.0))
    assert rows[1]["loss"] is None


def test_bad_edges_and_shapes_are_refused():
    with pytest.raises(ConfigError, match="distance_edges="):
        loss_by_distance(np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), edges=[4, 2])
    with pytest.raises(ValueError, match=r"must be \(S, 2, 2\) for 1 edges"):
        loss_by_distance(np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), edges=[4])
