"""Which score belongs to which LongBench task, and what is done to an answer before (`eval.py`)."""

from collections.abc import Callable, Sequence

from lcframework.scoring.longbench.matching import (
    classification,
    code_similarity,
    count,
    retrieval,
    retrieval_zh,
)
from lcframework.scoring.longbench.rouge_l import rouge_l, rouge_zh
from lcframework.scoring.longbench.token_f1 import qa_f1, qa_f1_zh

Metric = Callable[[str, str], float]

METRICS: dict[str, Metric | None] = {
    "narrativeqa": qa_f1,
    "qasper": qa_f1,
    "multifieldqa_en": qa_f1,
    "multifieldqa_zh": qa_f1_zh,
    "hotpotqa": qa_f1,
    "2wikimqa": qa_f1,
    "musique": qa_f1,
    "dureader": rouge_zh,
    "gov_report": rouge_l,
    "qmsum": rouge_l,
    "multi_news": rouge_l,
    "vcsum": rouge_zh,
    "trec": None,
    "triviaqa": qa_f1,
    "samsum": rouge_l,
    "lsht": None,
    "passage_count": count,
    "passage_retrieval_en": retrieval,
    "passage_retrieval_zh": retrieval_zh,
    "lcc": code_similarity,
    "repobench-p": code_similarity,
}
"""Score of each of the 21 tasks; None is `classification`, which also takes the list of classes."""

CATEGORIES: dict[str, tuple[str, ...]] = {
    "single-document QA": ("narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh"),
    "multi-document QA": ("hotpotqa", "2wikimqa", "musique", "dureader"),
    "summarization": ("gov_report", "qmsum", "multi_news", "vcsum"),
    "few-shot learning": ("trec", "triviaqa", "samsum", "lsht"),
    "synthetic": ("passage_count", "passage_retrieval_en", "passage_retrieval_zh"),
    "code": ("lcc", "repobench-p"),
}
CHINESE = frozenset({"multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh"})
CODE = frozenset(CATEGORIES["code"])
FIRST_LINE_ONLY = frozenset({"trec", "triviaqa", "samsum", "lsht"})


def check_task(task: str) -> None:
    """Refuse a name that is no LongBench task.

    Raises:
        ValueError: it is unknown.
    """
    if task not in METRICS:
        raise ValueError(f"{task!r} is no LongBench task; the tasks are {', '.join(METRICS)}")


def post_process(task: str, prediction: str) -> str:
    """The part of an answer that is scored: of a few-shot task the first line after leading line
    ends, else everything."""
    return prediction.lstrip("\n").split("\n")[0] if task in FIRST_LINE_ONLY else prediction


def score(
    task: str,
    prediction: str,
    references: Sequence[str],
    all_classes: Sequence[str] | None = None,
) -> float:
    """An answer's score against the reference that suits it best.

    Args:
        task: one of `METRICS`.
        prediction: the answer as generated.
        references: accepted answers; without any the score is 0.
        all_classes: the classes of trec and lsht.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: an unknown task, or no classes where the score needs them.
        ConfigError: a Chinese task without jieba.
    """
    check_task(task)
    answer, metric = post_process(task, prediction), METRICS[task]
    if metric is not None:
        return max((metric(answer, one) for one in references), default=0.0)
    if not all_classes:
        raise ValueError(f"{task} is scored against a list of classes, and there is none")
    return max((classification(answer, one, all_classes) for one in references), default=0.0)
