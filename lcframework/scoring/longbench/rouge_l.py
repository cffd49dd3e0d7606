"""ROUGE-L as the PyPI package `rouge` 1.0.1 computes it, which LongBench's `metrics.py` calls.

It differs from Lin (2004) in ways that matter to the number: words are counted as *sets* (a
repeated word counts once), sentences end at every full stop, "3.5" included, and the F-score has
1e-8 in its denominator. The package fills a dictionary of all pairs and recurses once per word;
this does neither, so a sentence pair that overruns Python's stack there (about a thousand words),
and is then given 0 by LongBench's `except`, has its true value here.

Shape letters: R words of a reference sentence, P of a predicted one.
"""

from collections.abc import Sequence

from lcframework.scoring.longbench.chinese import words


def _sentences(text: str) -> list[list[str]]:
    """Words by sentence. A sentence of nothing but spaces is one empty word, as in the package."""
    return [" ".join(one.split()).split(" ") for one in text.split(".") if one]


def _common_words(reference_R: Sequence[str], predicted_P: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence. Of several, the one that the package walks back
    along: where both ways are equally long, it drops the predicted sentence's last word."""
    rows = [[0] * (len(predicted_P) + 1)]
    for word in reference_R:
        above, row = rows[-1], [0]
        for place, other in enumerate(predicted_P):
            same = above[place] + 1 if word == other else 0
            row.append(same or max(above[place + 1], row[place]))
        rows.append(row)
    found: set[str] = set()
    i, j = len(reference_R), len(predicted_P)
    while i and j:
        if reference_R[i - 1] == predicted_P[j - 1]:
            found.add(reference_R[i - 1])
            i, j = i - 1, j - 1
        elif rows[i - 1][j] > rows[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found


def rouge_l(prediction: str, reference: str) -> float:
    """F-score of the union of longest common subsequences, in [0, 1).

    0 if one text has no sentence: empty, or full stops only (the package raises an error there, and
    LongBench takes that as 0).
    """
    predicted, wanted = _sentences(prediction), _sentences(reference)
    if not predicted or not wanted:
        return 0.0
    common: set[str] = set()
    for sentence in wanted:
        for other in predicted:
            common |= _common_words(sentence, other)
    recall = len(common) / len({word for sentence in wanted for word in sentence})
    precision = len(common) / len({word for sentence in predicted for word in sentence})
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def rouge_zh(prediction: str, reference: str) -> float:
    """`rouge_l` of jieba's words. The Chinese full stop ends no sentence here, as in the original.

    Raises:
        ConfigError: jieba is not installed.
    """
    return rouge_l(" ".join(words(prediction)), " ".join(words(reference)))
