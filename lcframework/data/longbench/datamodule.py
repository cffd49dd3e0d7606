"""LongBench as a LightningDataModule."""

from collections.abc import Sequence
from pathlib import Path

from lcframework.data.generation import GenerationDataModule, GenerationItem
from lcframework.data.longbench.reader import DOWNLOAD, LongBenchItem, read_task
from lcframework.data.longbench.tasks import E_TASKS, TASKS, find_task
from lcframework.errors import DataError

SUITE = "longbench"


class LongBenchDataModule(GenerationDataModule):
    """The tasks of LongBench, or of LongBench-E, one item per batch.

    Args:
        path: a folder of `<task>.jsonl` (.gz, .xz, .zst), or the official data.zip.
        tasks: names; None: all 21, or all 13 of LongBench-E.
        extended: LongBench-E, whose files are `<task>_e.jsonl`.
        max_items: only the first so many of each task; None: all.

    Raises:
        ConfigError: an unknown task.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        tasks: Sequence[str] | None = None,
        extended: bool = False,
        max_items: int | None = None,
    ) -> None:
        super().__init__(path, max_items)
        self.extended = extended
        self.tasks = tuple(tasks) if tasks is not None else (E_TASKS if extended else tuple(TASKS))
        for name in self.tasks:
            find_task(name, extended)

    def read(self) -> list[GenerationItem]:
        """The items of all tasks, task by task.

        Raises:
            DataError: no path, a missing file, another schema.
        """
        if self.path is None:
            raise DataError(f"There is no LongBench: set data.path. {DOWNLOAD}.")
        return [
            generation_item(one)
            for name in self.tasks
            for one in read_task(self.path, name, self.extended)
        ]


def generation_item(item: LongBenchItem) -> GenerationItem:
    """An item as the generating task takes it."""
    task = item.task
    return GenerationItem(
        suite=SUITE,
        task=task.name,
        key=f"{task.name}/{item.id}",
        number=item.number,
        document=f"{task.name}/{item.id}",
        fixed=item.fixed,
        question=item.question,
        references=item.answers,
        max_new_tokens=task.max_new_tokens,
        chat=task.chat,
        one_line=task.one_line,
        all_classes=item.all_classes,
        length=item.length,
    )
