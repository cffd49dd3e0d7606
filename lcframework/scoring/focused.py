"""Every measure of one answered question, by data set, and their means over a test.

Qasper's are those of its official evaluator (`scoring.qasper`), the open questions' those of "Lost
in the Middle" beside SQuAD's, `scrolls_` is SCROLLS (Shaham et al., EMNLP 2022; tau-nlp/scrolls
`metrics/f1.py`, `exact_match.py`: normalised as SQuAD's, the best reference counts). QuALITY's
accuracy is taken in three ways, which differ: `by_letter` (the letter that is written),
`by_letter_likelihood` and `by_option_likelihood` (the choice whose tokens cost least on average).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lcframework.scoring.intervals import bootstrap_ratio
from lcframework.scoring.qa import best_f1, best_subspan_em, exact_match, option_letter
from lcframework.scoring.qasper import TYPES, Reference, answer_f1, evidence_f1

MEASURES: dict[str, tuple[str, ...]] = {
    "nqd": ("subspan_em", "exact_match", "f1"),
    "custom": ("f1", "exact_match"),
    "qasper": (
        "answer_f1",
        *(f"answer_f1_{one}" for one in TYPES),
        "evidence_f1",
        "evidence_f1_text",
        "scrolls_f1",
        "scrolls_em",
    ),
    "quality": ("by_letter", "by_letter_likelihood", "by_option_likelihood"),
    "quality_text": ("scrolls_em", "scrolls_f1", "by_option_likelihood"),
}
"""Shares in [0, 1], by suite."""
PLAIN = ("words", "new_tokens", "gold_nats")
"""Length of the answer in words and in new tokens; loss of the right answer, nats per token."""
ALL = "all"


@dataclass(frozen=True)
class Answered:
    """One question with what a model made of it.

    Attributes:
        suite: one of `MEASURES`.
        prediction: the answer; None: it was not run.
        references: accepted answers.
        asked: whether an answer was wanted; without one a question that was asked scores 0.
        types: of the references, of `qasper.TYPES`; empty: not known.
        evidence: paragraphs of each reference; empty: not known.
        predicted_evidence: paragraphs that retrieval kept.
        gold_option: the right option, from 0.
        letter_nats: mean loss per token of each option's letter.
        option_nats: mean loss per token of each option's text.
        gold_nats: mean loss per token of the first reference.
        new_tokens: of the answer.
    """

    suite: str
    prediction: str | None
    references: Sequence[str]
    asked: bool = True
    types: Sequence[str] = ()
    evidence: Sequence[Sequence[str]] = ()
    predicted_evidence: Sequence[str] = ()
    gold_option: int | None = None
    letter_nats: Sequence[float] | None = None
    option_nats: Sequence[float] | None = None
    gold_nats: float | None = None
    new_tokens: int | None = None


def measures(one: Answered) -> dict[str, float]:
    """The measures that this question has: of `MEASURES` of its suite, and of `PLAIN`.

    Raises:
        ValueError: an unknown suite, no references.
    """
    if one.suite not in MEASURES:
        raise ValueError(f"{one.suite!r} has no measures; there are {', '.join(MEASURES)}")
    found: dict[str, float] = {}
    if one.asked:
        found |= _qasper(one) if one.suite == "qasper" else {}
        found |= _written(one)
    for name, losses in (("letter", one.letter_nats), ("option", one.option_nats)):
        key = f"by_{name}_likelihood"
        if losses is not None and one.gold_option is not None and key in MEASURES[one.suite]:
            found[key] = float(min(range(len(losses)), key=losses.__getitem__) == one.gold_option)
    if one.prediction is not None:
        found["words"] = float(len(one.prediction.split()))
        if one.new_tokens is not None:
            found["new_tokens"] = float(one.new_tokens)
    if one.gold_nats is not None:
        found["gold_nats"] = one.gold_nats
    return found


_TEXT_SCORES = {
    "subspan_em": best_subspan_em,
    "exact_match": exact_match,
    "f1": best_f1,
    "scrolls_f1": best_f1,
    "scrolls_em": exact_match,
    "by_letter": option_letter,
}


def _written(one: Answered) -> dict[str, float]:
    return {
        name: 0.0 if one.prediction is None else score(one.prediction, one.references)
        for name, score in _TEXT_SCORES.items()
        if name in MEASURES[one.suite]
    }


def _qasper(one: Answered) -> dict[str, float]:
    """Official scores of a question; as there, one without answer has no type."""
    if not one.types:
        plain = 0.0 if one.prediction is None else best_f1(one.prediction, one.references)
        return {"answer_f1": plain}
    references = [
        Reference(text, kind, tuple(evidence))
        for text, kind, evidence in zip(one.references, one.types, one.evidence, strict=True)
    ]
    score, kind = answer_f1(one.prediction, references)
    found = {"answer_f1": score, "evidence_f1": 0.0, "evidence_f1_text": 0.0}
    if one.prediction is not None:
        found[f"answer_f1_{kind}"] = score
        for name, text_only in (("evidence_f1", False), ("evidence_f1_text", True)):
            found[name] = evidence_f1(one.predicted_evidence, references, text_only)
    return found


def measure_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means with 95% intervals over documents.

    Args:
        rows: of questions, each with `suite`, `task`, `document` and `measures`.

    Returns:
        Rows of `task`, `measure`, `unit` ("%", "words", "tokens", "nats per token"), `value`,
        `low`, `high`, `n` questions, `documents`. Where QuALITY has hard and easy questions, those
        of both come last as task "all".
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    if len(tasks) > 1 and rows[0]["suite"].startswith("quality"):
        tasks.append(ALL)
    table = []
    for task in tasks:
        own = [row for row in rows if task in (ALL, row["task"])]
        for name in [*MEASURES[rows[0]["suite"]], *PLAIN]:
            having = [row for row in own if name in row["measures"]]
            if having:
                table.append({"task": task, "measure": name, **_mean(having, name)})
    return table


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    units = {"words": "words", "new_tokens": "tokens", "gold_nats": "nats per token"}
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for row in rows:
        value = row["measures"][name] * (1 if name in PLAIN else 100)
        sums[row["document"]] = sums.get(row["document"], 0.0) + value
        counts[row["document"]] = counts.get(row["document"], 0) + 1
    found = bootstrap_ratio(list(sums.values()), list(counts.values()))
    return {
        "unit": units.get(name, "%"),
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": len(rows),
        "documents": found.n,
    }
