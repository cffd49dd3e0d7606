"""Scores of short answers, as the data sets' own scripts define them."""

from collections.abc import Sequence

from lcframework.scoring.containment import LETTER
from lcframework.scoring.longbench.token_f1 import normalize, qa_f1


def best_subspan_em(prediction: str, references: Sequence[str]) -> float:
    """1 if one of the normalised references is a part of the normalised prediction, else 0
    (`metrics.py` of nelson-liu/lost-in-the-middle). It favours long predictions.

    Raises:
        ValueError: there are no references.
    """
    text = normalize(prediction)
    return float(any(normalize(one) in text for one in _checked(references)))


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 if the normalised prediction is one of the normalised references, else 0 (SQuAD).

    Raises:
        ValueError: there are no references.
    """
    return float(normalize(prediction) in [normalize(one) for one in _checked(references)])


def best_f1(prediction: str, references: Sequence[str]) -> float:
    """Token F1 with the best reference (SQuAD; Qasper's Answer F1 of one question).

    Raises:
        ValueError: there are no references.
    """
    return max(qa_f1(prediction, one) for one in _checked(references))


def option_letter(prediction: str, references: Sequence[str]) -> float:
    """1 if the first letter A to H that stands alone is a reference, else 0 (QuALITY)."""
    said = LETTER.search(prediction)
    return float(said is not None and said[1] in _checked(references))


def _checked(references: Sequence[str]) -> Sequence[str]:
    if not references:
        raise ValueError("an item without references cannot be scored")
    return references
