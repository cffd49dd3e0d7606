"""LongBench's scores of labels, numbers and lines of code (its `metrics.py`)."""

import difflib
import re
from collections.abc import Sequence

NUMBER = re.compile(r"\d+")
PARAGRAPH = re.compile(r"Paragraph (\d+)")
PARAGRAPH_ZH = re.compile(r"段落(\d+)")
NO_CODE = ("`", "#", "//")


def _share_of_numbers(prediction: str, wanted: str) -> float:
    found = NUMBER.findall(prediction)
    return found.count(wanted) / len(found) if found else 0.0


def count(prediction: str, reference: str) -> float:
    """Share of the prediction's integers that are the reference, as texts ("07" is not "7")."""
    return _share_of_numbers(prediction, reference)


def retrieval(prediction: str, reference: str) -> float:
    """The same for the number after "Paragraph " in the reference.

    Raises:
        ValueError: the reference names no paragraph.
    """
    return _retrieval(PARAGRAPH, prediction, reference)


def retrieval_zh(prediction: str, reference: str) -> float:
    """The same for the number after 段落.

    Raises:
        ValueError: the reference names no paragraph.
    """
    return _retrieval(PARAGRAPH_ZH, prediction, reference)


def _retrieval(pattern: re.Pattern[str], prediction: str, reference: str) -> float:
    found = pattern.search(reference)
    if found is None:
        raise ValueError(f"the reference {reference!r} names no paragraph ({pattern.pattern})")
    return _share_of_numbers(prediction, found[1])


def classification(prediction: str, reference: str, all_classes: Sequence[str]) -> float:
    """1 / (classes named in the prediction) if the right one is among them, else 0.

    Named classes that are parts of the right one's name are to be left out ("Date" where "Date of
    birth" is right). The original removes them from the list that it walks along, so the class
    after a removed one is passed over and stays, even if it is such a part too. This does the same.
    (A branch for answers that name no class compares a list with 0 and is never entered.)
    """
    named = [one for one in all_classes if one in prediction]
    place = 0
    while place < len(named):
        if named[place] in reference and named[place] != reference:
            named.remove(named[place])  # what follows moves up, and is passed over
        place += 1
    return 1.0 / len(named) if reference in named else 0.0


def code_line(prediction: str) -> str:
    """The first line, after leading line ends, without a backtick, "#" or "//"; "" if none.

    It may be an empty line.
    """
    lines = prediction.lstrip("\n").split("\n")
    return next((line for line in lines if not any(mark in line for mark in NO_CODE)), "")


def code_similarity(prediction: str, reference: str) -> float:
    """Similarity of the line of code, in whole hundredths.

    `fuzz.ratio` of fuzzywuzzy as LongBench's requirements install it, that is over Python's
    difflib. With python-Levenshtein beside it fuzzywuzzy computes another ratio, and other scores.
    """
    line = code_line(prediction)
    if line == reference:
        return 1.0
    if not line or not reference:
        return 0.0
    return round(100 * difflib.SequenceMatcher(None, line, reference).ratio()) / 100
