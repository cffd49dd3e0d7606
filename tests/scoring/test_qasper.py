"""Qasper's scores, worked by hand from the official evaluator."""

import pytest

from lcframework.scoring.qasper import (
    Reference,
    answer_f1,
    evidence_f1,
    paragraph_f1,
    qasper_scores,
)

SPAN = Reference("a red car, blue bike", "extractive", ("P1", "P2"))
FREE = Reference("red car", "abstractive", ("P3", "FLOAT SELECTED: Table 1"))
NONE = Reference("Unanswerable", "none")


def test_answers_are_credited_to_the_best_reference():
    score, kind = answer_f1("The red car", [SPAN, FREE])
    assert (score, kind) == (1.0, "abstractive")
    score, kind = answer_f1("blue bike", [FREE, SPAN])
    assert score == pytest.approx(2 * 1 * 0.5 / 1.5) and kind == "extractive"
    same = Reference("red car!", "boolean")
    assert answer_f1("red car", [FREE, same])[1] == "abstractive"  # of equal ones the first
    assert answer_f1(None, [SPAN]) == (0.0, "extractive")
    assert answer_f1("unanswerable.", [NONE, SPAN]) == (1.0, "none")


def test_evidence():
    assert paragraph_f1([], []) == 1 and paragraph_f1(["P1"], []) == 0
    assert paragraph_f1(["P1", "P9"], ["P1"]) == pytest.approx(2 / 3)
    assert evidence_f1(["P1"], [SPAN, FREE]) == pytest.approx(2 / 3)
    assert evidence_f1(["P3"], [FREE]) == pytest.approx(2 / 3)
    assert evidence_f1(["P3"], [FREE], text_only=True) == 1
    assert evidence_f1([], [SPAN, NONE]) == 1


def test_means_over_questions():
    references = {"1": [SPAN, FREE], "2": [NONE], "3": [FREE]}
    found = qasper_scores({"1": ("red car", ["P3"]), "2": ("no idea", [])}, references)
    assert found["Answer F1"] == pytest.approx(1 / 3) and found["Missing predictions"] == 1
    assert found["Evidence F1"] == pytest.approx((2 / 3 + 1) / 3)
    assert found["Answer F1 abstractive"] == 1 and found["Answer F1 none"] == 0
    assert "Answer F1 boolean" not in found
    with pytest.raises(ValueError, match="no type"):
        Reference("x", "span")
