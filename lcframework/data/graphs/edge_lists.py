"""Edge lists as they are handed around: tab, comma or blanks between columns, with a header or
without, plain or compressed.

STRING's `protein.links` files, tables with `protein1` and `protein2`, and bare pairs of names are
all read by the same rules: `docs/protein_graphs.md` lists them.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcframework.data.fasta_files import read_chunks
from lcframework.errors import DataError

LOWEST, HIGHEST = 0.0, 1000.0
"""STRING's scores; a file of shares from 0 to 1 lies inside as well."""
SCORES = ("combined_score", "score", "weight")
_BLOCK = 4 << 20


@dataclass
class EdgeListCounts:
    """What became of the lines.

    Attributes:
        lines: pairs read, header aside.
        low_scores: of them, with a score below the threshold: left out.
        unknown: of them, naming a protein without a sequence: left out.
        unknown_names: some of these names, to look at.
    """

    lines: int = 0
    low_scores: int = 0
    unknown: int = 0
    unknown_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Columns:
    separator: str | None
    score: int | None
    width: int


def read_edges(
    paths: Sequence[Path],
    numbers: Mapping[str, int],
    min_score: float | None = None,
    drop_unknown: bool = False,
    counts: EdgeListCounts | None = None,
) -> NDArray[np.int32]:
    """Pairs of node numbers, in the order of the files.

    Args:
        paths: files, read one after another.
        numbers: node of each protein's name.
        min_score: edges with a lower score are left out; the files then need a score column.
        drop_unknown: leave out edges that name an unknown protein instead of refusing them.
        counts: filled while reading, if given.

    Returns:
        (P, 2) int32.

    Raises:
        DataError: a line has too few columns, names an unknown protein or has a score outside
            0 ... 1000; a score is asked for and there is none; a file holds no pair.
    """
    counts = EdgeListCounts() if counts is None else counts
    found = array("i")
    for path in paths:
        before = counts.lines
        _read_file(path, numbers, min_score, drop_unknown, counts, found)
        if counts.lines == before:
            raise DataError(f"{path} holds no edge: two names a line are wanted.")
    return np.frombuffer(found, dtype=np.int32).reshape(-1, 2) if found else _none()


def _none() -> NDArray[np.int32]:
    return np.zeros((0, 2), np.int32)


def _lines(path: Path) -> Iterator[str]:
    pending = b""
    for chunk, _ in read_chunks(path, _BLOCK):
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if pending:
        yield pending.decode(errors="replace")


def _read_file(path, numbers, min_score, drop_unknown, counts, found) -> None:
    columns: _Columns | None = None
    for number, line in enumerate(_lines(path), 1):
        if not line or line[0] == "#":
            continue
        if columns is None:
            columns, is_header = _first_line(line, numbers)
            if min_score is not None and columns.score is None:
                raise DataError(
                    f"{path}: no score column, but a lowest score of {min_score:g} is asked for. "
                    f"Name a column one of {', '.join(SCORES)} in the header, or take the "
                    "threshold away."
                )
            if is_header:
                continue
        fields = line.split(columns.separator)
        where = f"{path}, line {number}"
        if len(fields) < columns.width:
            raise DataError(
                f"{where}: {len(fields)} columns where {columns.width} are wanted ({line[:60]!r}). "
                "Separate them by tabs, commas or blanks, the same all over the file."
            )
        counts.lines += 1
        if columns.score is not None:
            score = _score(fields[columns.score], where)
            if min_score is not None and score < min_score:
                counts.low_scores += 1
                continue
        first, second = numbers.get(fields[0]), numbers.get(fields[1])
        if first is None or second is None:
            name = fields[0] if first is None else fields[1]
            if not drop_unknown:
                raise DataError(
                    f"{where}: no sequence is known for the protein {name!r}. Add it to the FASTA "
                    "file, or leave such edges out and have them counted with drop_unknown=true."
                )
            counts.unknown += 1
            if len(counts.unknown_names) < 10 and name not in counts.unknown_names:
                counts.unknown_names.append(name)
            continue
        found.append(first)
        found.append(second)


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not LOWEST <= score <= HIGHEST:
        raise DataError(
            f"{where}: the score {text!r} is not a number from {LOWEST:g} to {HIGHEST:g}. STRING "
            "counts confidence in thousandths; rescale other scores."
        )
    return score


def _first_line(line: str, numbers: Mapping[str, int]) -> tuple[_Columns, bool]:
    """How columns are separated and where the score stands, and whether this is a header: its first
    two words are then no proteins."""
    separator = "\t" if "\t" in line else "," if "," in line else None
    fields = line.split(separator)
    named = [one.strip().lower() for one in fields]
    is_header = len(fields) > 1 and fields[0] not in numbers and fields[1] not in numbers
    is_header = is_header and (named[0] in _FIRST or any(one in SCORES for one in named))
    score = next((named.index(one) for one in SCORES if one in named), None) if is_header else None
    if not is_header and len(fields) == 3 and _is_number(fields[2]):
        score = 2  # bare pairs with a weight
    return _Columns(separator, score, max(2, 1 + (score or 0))), is_header


_FIRST = ("protein1", "protein_1", "source", "node1", "from", "item_id_a", "interactor_a", "a")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
