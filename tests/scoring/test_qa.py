"""Scores of short answers, worked by hand from the official definitions."""

import pytest

from lcframework.scoring.qa import best_f1, best_subspan_em, exact_match, option_letter
from lcframework.scoring.suites import score_answer


@pytest.mark.parametrize(
    ("prediction", "references", "subspan", "exact", "f1"),
    [
        ("The answer is Wilhelm Röntgen, of Germany.", ["wilhelm röntgen"], 1, 0, 0.5),
        ("Wilhelm Röntgen", ["Röntgen", "The Wilhelm Röntgen!"], 1, 1, 1),
        ("in 1901", ["1902"], 0, 0, 0),
        ("190", ["1901"], 0, 0, 0),
        ("a cat sat", ["the cat"], 1, 0, 2 / 3),
        ("", ["x"], 0, 0, 0),
        ("seventeen", ["seven"], 1, 0, 0),  # a part of a word counts, as in the original
    ],
)
def test_open_answers(prediction, references, subspan, exact, f1):
    assert best_subspan_em(prediction, references) == subspan
    assert exact_match(prediction, references) == exact
    assert best_f1(prediction, references) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "score"),
    [("B", 1), (" (B) because", 1), ("The answer is B.", 1), ("A, not B", 0), ("Bad", 0), ("", 0)],
)
def test_option_letters(prediction, score):
    assert option_letter(prediction, ["B"]) == score


def test_suites():
    assert score_answer("nqd", "10 docs, gold at 0", "It was Rome", ["rome"]) == 1
    assert score_answer("qasper", "qasper", "it was Rome", ["rome"]) == pytest.approx(0.5)
    assert score_answer("quality", "quality hard", "C", ["C"]) == 1
    with pytest.raises(ValueError, match="without references"):
        score_answer("custom", "custom", "x", [])
