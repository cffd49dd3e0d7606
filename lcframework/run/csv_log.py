"""`metrics.csv` of a run: appended while training, cut back to the resumed step after a crash.

Lightning's CSVLogger deletes the earlier file when a run resumes in its directory; ours keeps one
unbroken trace.
"""

import csv
import io
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

FILE_NAME = "metrics.csv"


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.csv`, empty cells left out, numbers as floats; an unfinished last line is
    dropped."""
    text = path.read_text()
    text = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(io.StringIO(text))
    return [
        {key: float(value) for key, value in row.items() if value not in ("", None)} for row in rows
    ]


class RunCSVLogger(Logger):
    """Writes scalars to `<folder>/metrics.csv`, one row per logged step, columns growing as new
    names appear.

    Args:
        folder: the run directory.
        flush_every: rows kept in memory before the file is appended to; with 1 a killed run loses
            none of them.
    """

    def __init__(self, folder: str | Path, flush_every: int = 1) -> None:
        super().__init__()
        self.path = Path(folder) / FILE_NAME
        self.flush_every = flush_every
        self._columns: list[str] = []
        self._waiting: list[dict[str, Any]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                self._columns = next(csv.reader(file), [])

    @property
    def name(self) -> str:
        """The run directory's name."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """Empty: a run directory holds one log."""
        return ""

    @property
    def log_dir(self) -> str:
        """The run directory."""
        return str(self.path.parent)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing to do: the run directory's config.yaml is the record."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        values = {key: float(value) for key, value in metrics.items()}
        if "epoch" in values:
            values["epoch"] = int(values["epoch"])
        self._waiting.append({"step": step, **values})
        if len(self._waiting) >= self.flush_every:
            self.save()

    @rank_zero_only
    def rewind(self, step: int, last: Mapping[str, float] | None = None) -> None:
        """Drop the rows logged at `step` and later: the resumed run will log them again.

        Args:
            step: optimizer steps done at the checkpoint.
            last: values of step - 1 from the checkpoint, added if the killed run had not logged
                them yet.
        """
        self._waiting = []
        rows = read_metrics(self.path) if self.path.is_file() else []
        kept = [row for row in rows if row["step"] < step]
        if self.path.is_file():
            self._rewrite(kept)
        if last and not any(row["step"] == step - 1 and "train/loss" in row for row in kept):
            self.log_metrics(last, step - 1)
            self.save()

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        temporary = self.path.with_suffix(".csv.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            writer.writeheader()
            for row in rows:
                # Steps and epochs are counts: written as integers, so a rewritten file equals an
                # appended one.
                writer.writerow(
                    {k: int(v) if k in ("step", "epoch") else v for k, v in row.items()}
                )
        os.replace(temporary, self.path)

    @rank_zero_only
    def save(self) -> None:
        """Append the waiting rows; rewrite the file only when a new column has appeared."""
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = [key for row in rows for key in row if key not in self._columns]
        if new or not self.path.is_file():
            self._columns += list(dict.fromkeys(new))
            earlier: list[dict[str, Any]] = read_metrics(self.path) if self.path.is_file() else []
            self._rewrite(earlier + rows)
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerows(rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is waiting."""
        self.save()
