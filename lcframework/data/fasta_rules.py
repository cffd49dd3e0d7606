"""Which characters a protein FASTA may hold, and what becomes of each.

| in the file | becomes | counted as |
|---|---|---|
| the 20 standard letters | themselves | |
| `B Z U O X` | themselves (ESM-2 has tokens for them) | `ambiguous` |
| lower case | upper case | `lower_case` |
| `J` (leucine or isoleucine; no token) | `X` | `j_to_x` |
| `*` after the last residue | dropped (the stop codon) | `stop_dropped` |
| `*` before the last residue | `X` | `stop_to_x` |
| `-` and `.` | removed (alignment gaps) | `gaps_removed` |
| blanks, tabs, line ends (LF or CRLF), empty lines | removed | |
| anything else | `DataError` with file, line, record and character | |

A record without residues, text before the first `>`, a header without identifier, a file without
records and a file of nucleotides are errors, each naming its place.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcframework.data.alphabet import ENCODE_TABLE, UNKNOWN_BYTE, X_ID
from lcframework.errors import DataError

RULES_VERSION = 1
"""Part of a token store's fingerprint: raised whenever the table above changes."""
NUCLEOTIDE_RECORDS = 1000
NUCLEOTIDE_SHARE = 0.95
FIRST_NON_RESIDUE = 250
"""Codes below are token ids, codes from here on are not residues."""

_REMOVED, _GAP, _STOP = FIRST_NON_RESIDUE, 251, 252


def _code_table() -> NDArray[np.uint8]:
    table = ENCODE_TABLE.copy()
    table[list(b"\n\r \t")] = _REMOVED
    table[list(b"-.")] = _GAP
    table[ord("*")] = _STOP
    table[list(b"Jj")] = X_ID
    return table


def _nucleotide_table() -> NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[list(b"ACGTUNacgtun")] = True
    return table


CODES: NDArray[np.uint8] = _code_table()
"""(256,) uint8: byte of a sequence line -> token id, or the reason why it is none."""
_NUCLEOTIDES = _nucleotide_table()


SIZES = ("records", "residues")
"""The fields of `FastaCounts` that count the data themselves, not what a rule changed."""


@dataclass
class FastaCounts:
    """What the rules did, over all files read; the fields are the table's last column."""

    records: int = 0
    residues: int = 0
    lower_case: int = 0
    ambiguous: int = 0
    j_to_x: int = 0
    stop_dropped: int = 0
    stop_to_x: int = 0
    gaps_removed: int = 0

    def in_words(self) -> str:
        """What was read and, where a rule changed something, how often."""
        done = {
            "in lower case": self.lower_case,
            "ambiguous (B Z U O X)": self.ambiguous,
            "J read as X": self.j_to_x,
            "final * dropped": self.stop_dropped,
            "inner * read as X": self.stop_to_x,
            "gaps (- .) removed": self.gaps_removed,
        }
        parts = [f"{self.records:,} proteins, {self.residues:,} residues"]
        return "; ".join(parts + [f"{count:,} {what}" for what, count in done.items() if count])


def resolve_stops(codes: NDArray[np.uint8], starts: NDArray[np.int64], counts: FastaCounts) -> None:
    """Turn each `*` with a residue behind it into X, in place; the others stay no residue.

    Args:
        codes: (N,) uint8 codes of a block, changed in place.
        starts: (R,) int64 first byte of each record.
        counts: `stop_to_x` and `stop_dropped` are raised.
    """
    stops = np.flatnonzero(codes == _STOP)
    if not stops.size:
        return
    residues = np.flatnonzero(codes < FIRST_NON_RESIDUE)
    record_ends = np.append(starts[1:], len(codes))[np.searchsorted(starts, stops, "right") - 1]
    inner = np.searchsorted(residues, record_ends) > np.searchsorted(residues, stops)
    codes[stops[inner]] = X_ID
    counts.stop_to_x += int(inner.sum())
    counts.stop_dropped += int((~inner).sum())


def count_rules(body: NDArray[np.uint8], codes: NDArray[np.uint8], counts: FastaCounts) -> None:
    """Count what happened to a block's sequence bytes.

    Args:
        body: (N,) uint8 bytes of the block, headers blanked out.
        codes: (N,) uint8 their codes.
        counts: raised.
    """
    counts.lower_case += int(np.count_nonzero(body >= ord("a")))
    counts.gaps_removed += int(np.count_nonzero(codes == _GAP))
    counts.j_to_x += sum(int(np.count_nonzero(body == letter)) for letter in b"Jj")
    counts.ambiguous += sum(int(np.count_nonzero(body == letter)) for letter in b"XBUZOxbuzo")


def first_bad_character(codes: NDArray[np.uint8]) -> int | None:
    """Index of the first byte that no rule covers, None where there is none."""
    bad = codes == UNKNOWN_BYTE
    return int(np.argmax(bad)) if bad.any() else None


class NucleotideWatch:
    """Refuses a file whose first records are nearly all nucleotide letters."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = self._letters = self._nucleotides = 0

    def see(
        self, body: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        """Look at a block; only the file's first `NUCLEOTIDE_RECORDS` records count.

        Args:
            body: (N,) uint8 bytes of the block, headers blanked out.
            starts: (R,) int64 first byte of each record.
            lengths: (R,) int64 residues of each record.

        Raises:
            DataError: enough records have been seen and they look like nucleotides.
        """
        missing = NUCLEOTIDE_RECORDS - self._records
        if missing <= 0:
            return
        end = int(starts[missing]) if missing < len(starts) else len(body)
        self._records += len(starts)
        self._letters += int(lengths[:missing].sum())
        self._nucleotides += int(np.count_nonzero(_NUCLEOTIDES[body[:end]]))
        if self._records >= NUCLEOTIDE_RECORDS:
            self.judge()

    def judge(self) -> None:
        """Decide on what was seen so far; called by hand at the end of a short file.

        Raises:
            DataError: the records look like nucleotides.
        """
        if self._nucleotides >= NUCLEOTIDE_SHARE * self._letters:
            raise DataError(
                f"{self._path} looks like nucleotides: {self._nucleotides / self._letters:.0%} of "
                f"the letters of its first {NUCLEOTIDE_RECORDS:,} records are A, C, G, T, U or N. "
                "Translate it to protein first."
            )
