"""The score of an answer, by benchmark."""

from collections.abc import Callable, Sequence

from lcframework.scoring import longbench
from lcframework.scoring.containment import any_contained, prefix_qa, share_contained
from lcframework.scoring.qa import best_f1, best_subspan_em, exact_match, option_letter

Scorer = Callable[[str, str, Sequence[str], Sequence[str] | None], float]


def _ruler(task: str, prediction: str, references: Sequence[str], _: object) -> float:
    name = task.split()[0]
    return (any_contained if name == "qa" else share_contained)(prediction, references)


def _kv(task: str, prediction: str, references: Sequence[str], _: object) -> float:
    return any_contained(prediction, references)


def _prefix_qa(task: str, prediction: str, references: Sequence[str], _: object) -> float:
    return prefix_qa(task, prediction, references)


def _nqd(task: str, prediction: str, references: Sequence[str], _: object) -> float:
    return best_subspan_em(prediction, references)


def _best_f1(task: str, prediction: str, references: Sequence[str], _: object) -> float:
    return best_f1(prediction, references)


def _quality(task: str, prediction: str, references: Sequence[str], _: object) -> float:
    return option_letter(prediction, references)


def _quality_text(task: str, prediction: str, references: Sequence[str], _: object) -> float:
    return exact_match(prediction, references)


SUITES: dict[str, Scorer] = {
    "longbench": longbench.score,
    "prefix_qa": _prefix_qa,
    "kv_retrieval": _kv,
    "ruler": _ruler,
    "nqd": _nqd,
    "qasper": _best_f1,
    "quality": _quality,
    "quality_text": _quality_text,
    "custom": _best_f1,
}


def score_answer(
    suite: str,
    task: str,
    prediction: str,
    references: Sequence[str],
    all_classes: Sequence[str] | None = None,
) -> float:
    """An answer's score.

    Args:
        suite: one of `SUITES`.
        task: the part of the suite.
        prediction: the answer as generated.
        references: accepted answers.
        all_classes: classes of a classification.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: an unknown suite or task.
        ConfigError: a Chinese task of LongBench without jieba.
    """
    if suite not in SUITES:
        raise ValueError(f"{suite!r} is no benchmark; there are {', '.join(SUITES)}")
    return SUITES[suite](task, prediction, references, all_classes)
