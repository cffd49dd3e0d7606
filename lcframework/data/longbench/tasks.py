"""LongBench's 21 tasks: prompt, tokens to generate, whether a chat template is wanted (`pred.py`,
`config/dataset2maxlen.json`)."""

from dataclasses import dataclass

from lcframework.data.longbench.prompts import PROMPTS
from lcframework.errors import ConfigError


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: as in the file names.
        fixed: the prompt before the question, with `{context}`.
        question: the rest of the prompt, with `{input}` where it has one.
        max_new_tokens: tokens generated at most.
        chat: whether the official code wraps the prompt into the model's chat template.
        one_line: whether a line end ends the answer, after one token at least (samsum only).
    """

    name: str
    fixed: str
    question: str
    max_new_tokens: int
    chat: bool
    one_line: bool = False


_NO_CHAT = ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")
_MAX_NEW_TOKENS = {
    "narrativeqa": 128, "qasper": 128, "multifieldqa_en": 64, "multifieldqa_zh": 64,
    "hotpotqa": 32, "2wikimqa": 32, "musique": 32, "dureader": 128, "gov_report": 512,
    "qmsum": 512, "multi_news": 512, "vcsum": 512, "trec": 64, "triviaqa": 32, "samsum": 128,
    "lsht": 64, "passage_count": 32, "passage_retrieval_en": 32, "passage_retrieval_zh": 32,
    "lcc": 64, "repobench-p": 64,
}  # fmt: skip

TASKS: dict[str, Task] = {
    name: Task(name, *PROMPTS[name], tokens, name not in _NO_CHAT, name == "samsum")
    for name, tokens in _MAX_NEW_TOKENS.items()
}
E_TASKS = (
    "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec",
    "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p",
)  # fmt: skip
"""Tasks of LongBench-E; their files are named `<task>_e.jsonl`."""


def find_task(name: str, extended: bool = False) -> Task:
    """The task of this name.

    Raises:
        ConfigError: there is none, or LongBench-E (`extended`) does not have it.
    """
    known = E_TASKS if extended else tuple(TASKS)
    if name not in known:
        which = "LongBench-E" if extended else "LongBench"
        raise ConfigError(f"{name!r} is no task of {which}: choose from {', '.join(known)}.")
    return TASKS[name]
