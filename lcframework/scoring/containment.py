"""Scores of answers that must contain something: RULER, key-value retrieval, PrefixQA."""

import re
from collections.abc import Sequence

from lcframework.scoring.longbench.token_f1 import normalize, qa_f1

CONTROL = re.compile(r"[\x00-\x1f]")
LETTER = re.compile(r"(?<![A-Za-z])([A-H])(?![A-Za-z])")


def share_contained(prediction: str, references: Sequence[str]) -> float:
    """Share of the references that occur in the prediction, whatever their case (RULER's
    string_match_all).

    Raises:
        ValueError: there are no references.
    """
    return sum(_contained(prediction, references)) / len(_checked(references))


def any_contained(prediction: str, references: Sequence[str]) -> float:
    """1 if one of the references occurs in the prediction, whatever its case (RULER's
    string_match_part; the accuracy of "Lost in the Middle"), else 0."""
    return float(any(_contained(prediction, _checked(references))))


def _checked(references: Sequence[str]) -> Sequence[str]:
    if not references:
        raise ValueError("an item without references cannot be scored")
    return references


def _contained(prediction: str, references: Sequence[str]) -> list[bool]:
    text = CONTROL.sub("\n", prediction).lower()
    return [one.lower() in text for one in references]


def prefix_qa(kind: str, prediction: str, references: Sequence[str]) -> float:
    """Score of an answer by the kind of its question.

    Args:
        kind: "free" and "dialogue": token F1 with the best reference; "multiple_choice": whether
            the first letter A to H that stands alone is the right one (of several right letters
            "AC" all, in any order); "true_false": whether the first of these two words is right.
        prediction: the answer as generated.
        references: accepted answers.

    Raises:
        ValueError: an unknown kind.
    """
    if kind in ("free", "dialogue"):
        return max((qa_f1(prediction, one) for one in references), default=0.0)
    if kind == "multiple_choice":
        return float(any(_letters(prediction, len(one)) == sorted(one) for one in references))
    if kind == "true_false":
        said = re.findall(r"\b(true|false)\b", prediction.lower())[:1]
        return float(any(said == [normalize(one)] for one in references))
    raise ValueError(f"{kind!r} is no kind of question")


def _letters(prediction: str, n: int) -> list[str]:
    """The first n letters of choice, sorted; a run of capitals such as "AC" counts as its letters
    where several are wanted."""
    if n > 1 and (run := re.search(rf"\b([A-Z]{{{n}}})\b", prediction)):
        return sorted(run[1])
    return sorted(LETTER.findall(prediction)[:n])
