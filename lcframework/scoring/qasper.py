"""Qasper's official scores (Dasigi et al., NAACL 2021; `qasper_evaluator.py` of
allenai/qasper-led-baseline, commit afd0fb9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lcframework.scoring.longbench.token_f1 import qa_f1

TYPES = ("extractive", "abstractive", "boolean", "none")
FLOAT = "FLOAT SELECTED"


@dataclass(frozen=True)
class Reference:
    """One annotator's answer.

    Attributes:
        text: "Unanswerable", the spans joined by ", ", the free text, "Yes" or "No".
        type: one of `TYPES`; "none" is unanswerable.
        evidence: the paragraphs it rests on.
    """

    text: str
    type: str
    evidence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"{self.type!r} is no type of answer: {TYPES}")


def answer_f1(prediction: str | None, references: Sequence[Reference]) -> tuple[float, str]:
    """F1 with the best reference, and that one's type; of equal ones the first counts. A question
    without prediction (None) scores 0 and has the first one's type.

    Raises:
        ValueError: there are no references.
    """
    if not references:
        raise ValueError("a question without references cannot be scored")
    if prediction is None:
        return 0.0, references[0].type
    scored = [(qa_f1(prediction, one.text), one.type) for one in references]
    return max(scored, key=lambda pair: pair[0])


def paragraph_f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of two sets of paragraphs; 1 where both are empty."""
    if not wanted and not predicted:
        return 1.0
    same = len(set(predicted) & set(wanted))
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def evidence_f1(
    predicted: Sequence[str], references: Sequence[Reference], text_only: bool = False
) -> float:
    """Paragraph F1 with the best reference.

    Args:
        predicted: paragraphs.
        references: of the question.
        text_only: leave tables and figures ("FLOAT SELECTED") out of the references.
    """
    return max(
        paragraph_f1(
            predicted, [e for e in one.evidence if not (text_only and FLOAT in e)]
        )
        for one in references
    )  # fmt: skip


def qasper_scores(
    predictions: Mapping[str, tuple[str, Sequence[str]]],
    references: Mapping[str, Sequence[Reference]],
    text_only: bool = False,
) -> dict[str, float | int]:
    """The official evaluator's numbers.

    Args:
        predictions: by question id, the answer and its evidence paragraphs.
        references: by question id.
        text_only: see `evidence_f1`.

    Returns:
        `Answer F1`, `Evidence F1` (means over all questions, in [0, 1]), `Answer F1 TYPE` of each
        type that occurs, and `Missing predictions`, which score 0.
    """
    by_type: dict[str, list[float]] = {}
    answers, evidences, missing = [], [], 0
    for name, wanted in references.items():
        given = predictions.get(name)
        if given is None:
            missing += 1
            answers.append(0.0)
            evidences.append(0.0)
            continue
        score, kind = answer_f1(given[0], wanted)
        answers.append(score)
        by_type.setdefault(kind, []).append(score)
        evidences.append(evidence_f1(given[1], wanted, text_only))
    if not answers:
        raise ValueError("there is no question to score")
    found: dict[str, float | int] = {
        "Answer F1": sum(answers) / len(answers),
        "Evidence F1": sum(evidences) / len(evidences),
    }
    for kind in TYPES:
        if kind in by_type:
            found[f"Answer F1 {kind}"] = sum(by_type[kind]) / len(by_type[kind])
    return found | {"Missing predictions": missing}
