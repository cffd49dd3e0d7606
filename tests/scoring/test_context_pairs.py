"""The paired comparison of contexts, against numbers worked by hand."""

import numpy as np
import pytest

from lcframework.scoring.context_pairs import (
    LONGER_THAN_THIS,
    SAME_PROTEINS,
    paired_context_rows,
)


def rows(min_proteins=1, **changes):
    given = {
        "tokens": [10, 11, 25, 40, 50],
        "nll_windows": [[9.0, 9.0], [4.0, 9.0], [6.0, 5.0], [8.0, 4.0], [1.0, 1.0]],
        "nll_whole": [9.0, 2.0, 5.0, 4.0, 1.0],
        "n": [1, 2, 1, 4, 0],
    }
    return paired_context_rows(**{**given, **changes}, contexts=[10, 25], min_proteins=min_proteins)


def test_rows_by_hand():
    each = [row for row in rows() if row["proteins_compared"] == LONGER_THAN_THIS]
    assert [row["context"] for row in each] == [10, 25]
    # 10 tokens do not exceed a window of 10; the last protein has no scored residue.
    assert [row["proteins"] for row in each] == [3, 1]
    assert [row["too_short"] for row in each] == [1, 3]
    assert [row["residues_scored"] for row in each] == [7, 4]
    assert each[0]["loss"] == pytest.approx((4 + 6 + 8) / 7)
    assert each[0]["whole_loss"] == pytest.approx((2 + 5 + 4) / 7)
    assert each[0]["difference"] == pytest.approx(7 / 7)
    assert each[1]["difference"] == pytest.approx(0.0)
    # Single proteins lose 2/2, 1/1 and 4/4: the paired interval is a point, the losses' is not.
    assert (each[0]["difference_low"], each[0]["difference_high"]) == pytest.approx((1.0, 1.0))
    assert each[0]["loss_high"] - each[0]["loss_low"] > 1


def test_the_same_proteins_in_every_row():
    same = [row for row in rows() if row["proteins_compared"] == SAME_PROTEINS]
    assert [row["longer_than"] for row in same] == [25, 25]
    assert [row["proteins"] for row in same] == [1, 1]
    assert [row["residues_scored"] for row in same] == [4, 4]
    assert [row["difference"] for row in same] == pytest.approx([(8 - 4) / 4, 0.0])
    assert same[0]["whole_loss"] == same[1]["whole_loss"]


def test_the_shared_proteins_are_those_longer_than_the_largest_context_with_enough():
    same = [row for row in rows(min_proteins=2) if row["proteins_compared"] == SAME_PROTEINS]
    assert [(row["context"], row["longer_than"], row["proteins"]) for row in same] == [(10, 10, 3)]
    assert same[0]["difference"] == pytest.approx(1.0)
    none = [row for row in rows(min_proteins=4) if row["proteins_compared"] == SAME_PROTEINS]
    assert [(row["context"], row["longer_than"]) for row in none] == [(10, 25), (25, 25)]
    assert [row["difference"] for row in none] == [None, None]


def test_too_few_proteins_show_counts_and_no_numbers():
    found = rows(min_proteins=2)[1]
    assert found["proteins"] == 1
    assert [found[name] for name in ("loss", "whole_loss", "difference")] == [None] * 3


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"expected nll_windows \(5, 2\)"):
        rows(nll_windows=np.zeros((5, 3)))
