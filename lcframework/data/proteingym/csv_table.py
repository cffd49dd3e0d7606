"""CSV files read whole, plain or compressed, with errors that name file and line."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcframework.data.fasta_files import read_chunks
from lcframework.errors import DataError

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class CsvTable:
    """A CSV file of R rows.

    Attributes:
        path: the file.
        header: names of the columns.
        rows: R lists, each as long as the header.
        lines: R numbers, the 1-based line on which each row ends.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """One column's R values, blanks around them removed."""
        index = self.header.index(name)
        return [row[index].strip() for row in self.rows]


def read_csv_table(path: Path, required: Sequence[str] = ()) -> CsvTable:
    """Read a CSV file with a header.

    Args:
        path: plain, gzip, xz or zstd file; the first bytes decide, not the name.
        required: columns it must have.

    Raises:
        DataError: the file is missing, damaged, not text, empty, lacks a column or has a row of
            another length than the header.
    """
    if path.is_dir():
        raise DataError(f"{path} is a directory. Name a CSV file in it.")
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file. Check the spelling; relative paths start at the "
            "current folder."
        )
    raw = b"".join(chunk for chunk, _ in read_chunks(path, _CHUNK_BYTES))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 text. Save it as CSV in UTF-8 (not as a spreadsheet)."
        ) from error
    return _parsed(path, text, required)


def _parsed(path: Path, text: str, required: Sequence[str]) -> CsvTable:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] | None = None
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = [name.strip() for name in row]
                _check_header(path, header, required)
            elif len(row) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} fields where the header has "
                    f"{len(header)}. A value that holds a comma must stand in double quotes."
                )
            else:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: not readable as CSV ({error}). Fix the quotes of "
            "that line."
        ) from error
    if header is None or not rows:
        raise DataError(f"{path} has no rows{' and no header' if header is None else ''}.")
    return CsvTable(path, header, rows, lines)


def _check_header(path: Path, header: list[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        raise DataError(
            f"{path}, line 1: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing; the header is "
            f"{','.join(header)[:200]!r}. Is this the right file, with its header line?"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line 1: the column {twice[0]!r} appears twice. Rename one.")


def numbers(table: CsvTable, name: str) -> list[float]:
    """A column as finite floats.

    Raises:
        DataError: a value is no finite number; names its line.
    """
    found = []
    for line, text in zip(table.lines, table.column(name), strict=True):
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if value - value != 0.0:  # NaN and infinities alike
            raise DataError(
                f"{table.path}, line {line}: {name} is {text!r}, which is no finite number. Remove "
                "rows without a measurement."
            )
        found.append(value)
    return found
