"""One assay's CSV: `mutant`, `mutated_sequence`, `DMS_score` (higher is fitter), `DMS_score_bin`.

Substitution files name each mutant; indel files have no `mutant` column, their variants are known
by the full `mutated_sequence` alone. Clinical files have no measurement but the label
`DMS_bin_score`, Pathogenic or Benign.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcframework.data.proteingym.csv_table import CsvTable, numbers, read_csv_table
from lcframework.data.proteingym.mutants import (
    Mutants,
    check_sequences,
    count_problems,
    parse_mutants,
    problems_in_words,
    refuse_problems,
)
from lcframework.data.proteingym.reference import AssayInfo
from lcframework.errors import DataError

log = logging.getLogger(__name__)
ON_BAD = ("refuse", "drop")
CURE = (
    "Check that the file and target_seq belong together and count positions from 1, or leave these "
    "rows out with data.bad_mutants=drop."
)
LABELS = {"Pathogenic": 0.0, "Benign": 1.0}
"""Clinical labels as fitness: a model that scores fitness should score benign variants higher."""


@dataclass(frozen=True)
class Assay:
    """N measured variants of one target.

    Attributes:
        info: the reference row.
        mutants: N parsed substitution mutants; None for indels.
        sequences: N full mutated sequences.
        scores: (N,) float64 measured, higher is fitter; clinical: 1 benign, 0 pathogenic.
        binary: (N,) int64, 1 where the measurement lies above the assay's cut-off; clinical: 1
            benign, 0 pathogenic.
        dropped: how many rows were left out, by kind of problem.
    """

    info: AssayInfo
    mutants: Mutants | None
    sequences: list[str]
    scores: NDArray[np.float64]
    binary: NDArray[np.int64]
    dropped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)


def assay_file(folder: Path, info: AssayInfo) -> Path | None:
    """The assay's file under its own name or compressed; None where there is none."""
    for suffix in ("", ".gz", ".xz", ".zst"):
        path = folder / (info.filename + suffix)
        if path.is_file():
            return path
    return None


def read_assay(path: Path, info: AssayInfo, bad_mutants: str = "refuse") -> Assay:
    """Read and check one assay.

    Args:
        path: its CSV file, plain or compressed.
        info: its row of the reference file.
        bad_mutants: "refuse" stops at variants that do not fit the target; "drop" leaves them out,
            counts them and says so.

    Raises:
        DataError: a column is missing, a score is no number, variants do not fit the target, or
            none is left.
    """
    if bad_mutants not in ON_BAD:
        raise ValueError(f"bad_mutants must be one of {ON_BAD}, got {bad_mutants!r}")
    measured = ("DMS_bin_score",) if info.clinical else ("DMS_score", "DMS_score_bin")
    table = read_csv_table(path, ("mutated_sequence", *measured))
    scores = _labels(table) if info.clinical else np.array(numbers(table, "DMS_score"))
    binary = scores.astype(np.int64) if info.clinical else _binary(table)
    sequences = [one.upper() for one in table.column("mutated_sequence")]
    mutants, good, problems = None, np.arange(len(sequences)), check_sequences(sequences)
    if "mutant" in table.header:
        mutants, good, problems = parse_mutants(table.column("mutant"), info.target, sequences)
    elif problems:
        good = np.setdiff1d(good, [problem.index for problem in problems])
    where = f"{path} ({info.dms_id})"
    if bad_mutants == "refuse":
        refuse_problems(problems, where, table.lines, len(sequences), CURE)
    if problems:
        log.warning(
            "%s: %s. Left out.", where, problems_in_words(problems, table.lines, len(scores))
        )
    if not len(good):
        raise DataError(f"{where}: no variant is left. {CURE}")
    kept = [sequences[index] for index in good.tolist()]
    return Assay(info, mutants, kept, scores[good], binary[good], count_problems(problems))


def _binary(table: CsvTable) -> NDArray[np.int64]:
    values = np.array(numbers(table, "DMS_score_bin"))
    bad = np.flatnonzero((values != 0) & (values != 1))
    if bad.size:
        where = int(bad[0])
        raise DataError(
            f"{table.path}, line {table.lines[where]}: DMS_score_bin is {values[where]:g}; it must "
            "be 1 above the assay's cut-off and 0 below."
        )
    return values.astype(np.int64)


def _labels(table: CsvTable) -> NDArray[np.float64]:
    found = []
    for line, text in zip(table.lines, table.column("DMS_bin_score"), strict=True):
        if text not in LABELS:
            raise DataError(
                f"{table.path}, line {line}: DMS_bin_score is {text!r}, not one of "
                f"{', '.join(LABELS)}. Remove variants of other significance."
            )
        found.append(LABELS[text])
    return np.array(found)
