"""Tables and pictures on disk: strict JSON, CSV and PNG, each written whole or not at all."""

import csv
import errno
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""`OSError.errno` of a full disk, a full quota, and a file larger than allowed."""
TOO_FEW = "too few"
"""What a table for people shows where JSON has null: too few proteins for a number."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    # JSON has no NaN: an undefined number is null, not a token that other parsers reject.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary name beside `path` (the suffix stays last), then rename; whatever stops
    the writing, an interrupt too, nothing half-written stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, record: Any) -> None:
    """Write strict JSON atomically."""
    write_text(path, json.dumps(_plain(record), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text)

    replace_file(path, write)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], missing: str = "") -> None:
    """Write rows with the same keys as CSV, atomically.

    Args:
        path: the file.
        rows: at least one; the first one's keys are the header.
        missing: what stands for None.

    Raises:
        ValueError: there are no rows, or their keys differ.
    """
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"{path.name}: a table needs rows that all have the same columns")

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(rows[0])
            for row in rows:
                writer.writerow(missing if value is None else value for value in row.values())

    replace_file(path, write)


def save_figure(figure: Any, path: Path, dpi: int = 110) -> Path:
    """Save a matplotlib figure as PNG, atomically; returns the path."""
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=dpi))
    return path
