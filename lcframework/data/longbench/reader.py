"""The official JSON lines of LongBench: a file per task, in a folder or the official data.zip."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcframework.data.jsonl import read_jsonl
from lcframework.data.longbench.tasks import Task, find_task
from lcframework.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst")
DOWNLOAD = "`lcf data get longbench --to DIR` fetches the official data.zip"


@dataclass(frozen=True)
class LongBenchItem:
    """One item.

    Attributes:
        task: its task.
        number: its place in the file, from 0.
        id: its `_id`.
        fixed: text of the prompt before the question.
        question: the rest of the prompt.
        answers: accepted answers.
        all_classes: the classes of trec and lsht.
        length: words of the item, or characters of a Chinese one; LongBench-E's buckets go by it.
    """

    task: Task
    number: int
    id: str
    fixed: str
    question: str
    answers: tuple[str, ...]
    all_classes: tuple[str, ...] | None
    length: int

    @property
    def prompt(self) -> str:
        """The whole prompt, without a chat template."""
        return self.fixed + self.question


def read_task(path: str | Path, name: str, extended: bool = False) -> list[LongBenchItem]:
    """Read a task.

    Args:
        path: a folder that holds `<task>.jsonl` (or .gz, .xz, .zst), or the official data.zip.
        name: the task.
        extended: read LongBench-E's file of the task.

    Returns:
        The items in file order.

    Raises:
        ConfigError: an unknown task.
        DataError: no such file, another schema, an item twice, or no item.
    """
    task, path = find_task(name, extended), Path(path)
    file, member = _find(path, f"{name}_e" if extended else name)
    items: list[LongBenchItem] = []
    seen: dict[str, str] = {}
    for where, row in read_jsonl(file, member):
        item = _item(row, task, len(items), where)
        if item.id in seen:
            raise DataError(f"{where}: _id {item.id!r} was read already, at {seen[item.id]}.")
        seen[item.id] = where
        items.append(item)
    if not items:
        raise DataError(f"{file} has no item of {name}: the file is empty. {DOWNLOAD}.")
    return items


def _find(path: Path, name: str) -> tuple[Path, str | None]:
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = [one for one in archive.namelist() if Path(one).name == f"{name}.jsonl"]
        if not inside:
            raise DataError(f"{path} holds no {name}.jsonl: it is not the official archive.")
        return path, inside[0]
    if not path.is_dir():
        raise DataError(
            f"{path}: LongBench is read from a folder of JSON-lines files or from the official "
            f"data.zip, and this is neither. {DOWNLOAD}."
        )
    for suffix in SUFFIXES:
        if (path / f"{name}{suffix}").is_file():
            return path / f"{name}{suffix}", None
    have = sorted({one.name.split(".")[0] for one in path.glob("*.jsonl*")})
    raise DataError(
        f"{path} holds no {name}.jsonl (nor .gz, .xz, .zst); it has {', '.join(have) or 'no tasks'}"
        f". Choose data.tasks from these, or get the file: {DOWNLOAD}."
    )


def _item(row: dict[str, Any], task: Task, number: int, where: str) -> LongBenchItem:
    answers, classes, length = row.get("answers"), row.get("all_classes"), row.get("length")
    said = row.get("dataset", task.name)
    if said not in (task.name, f"{task.name}_e"):
        raise DataError(f"{where}: the row says it is of {said!r}, not of {task.name}.")
    if not _texts(answers) or not answers:
        raise _schema(where, "answers, a list of texts with at least one")
    if isinstance(length, bool) or not isinstance(length, int):
        raise _schema(where, "length, a whole number")
    if task.name in ("trec", "lsht") and not (_texts(classes) and classes):
        raise _schema(where, "all_classes, a list of texts")
    name = row.get("_id")
    if name is not None and not isinstance(name, str):
        raise _schema(where, "_id, a text")
    return LongBenchItem(
        task=task,
        number=number,
        id=name if name is not None else str(number),
        **_prompt(row, task, where),
        answers=tuple(answers),
        all_classes=tuple(classes or ()) if _texts(classes) else None,
        length=length,
    )


def _prompt(row: dict[str, Any], task: Task, where: str) -> dict[str, str]:
    """Prompt and question; a row without context may bring a whole `prompt` instead."""
    context, question = row.get("context"), row.get("input")
    if context is None and isinstance(row.get("prompt"), str):
        head, found, tail = row["prompt"].rpartition(task.question.split("{input}")[-1])
        return {"fixed": head, "question": found + tail}
    for name, value in (("context", context), ("input", question)):
        if not isinstance(value, str):
            raise _schema(where, f"{name}, a text")
    # Not str.format: it would take braces in the context of a code task for fields of its own.
    return {
        "fixed": task.fixed.replace("{context}", str(context)),
        "question": task.question.replace("{input}", str(question)),
    }


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _schema(where: str, wanted: str) -> DataError:
    return DataError(
        f"{where}: no LongBench row, it lacks {wanted}. A row has input, context, answers, length, "
        "dataset, language, all_classes and _id."
    )
