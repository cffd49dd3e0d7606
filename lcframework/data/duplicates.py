"""Finding identifiers that occur twice among tens of millions, with 8 bytes of memory for each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcframework.data.counter_random import draw
from lcframework.data.fasta import FastaBlock, read_fasta
from lcframework.data.ragged import range_indices
from lcframework.errors import DataError

_HASH_KEY = 0x5DEECE66D


def hash_names(id_bytes: NDArray[np.uint8], id_lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit hash of each identifier.

    Every (byte, place in the identifier) has its own random number; their sum is mixed with the
    length. Equal names hash equal; different names collide with probability about 2**-64.

    Args:
        id_bytes: uint8, the identifiers behind one another.
        id_lengths: (R,) int64, each at least 1.

    Returns:
        (R,) uint64.
    """
    if not len(id_lengths):
        return np.zeros(0, dtype=np.uint64)
    places = range_indices(np.zeros_like(id_lengths), id_lengths)
    numbers = draw(_HASH_KEY, places * 256 + id_bytes)
    starts = np.cumsum(id_lengths) - id_lengths
    return draw(_HASH_KEY, id_lengths) ^ np.add.reduceat(numbers, starts)


class DuplicateWatch:
    """Collects the hashes of all identifiers while a store is built, and judges at the end."""

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint64]] = []

    def see(self, block: FastaBlock) -> None:
        """Remember a block's identifiers."""
        self._hashes.append(hash_names(block.id_bytes, block.id_lengths))

    def judge(self, paths: Sequence[Path]) -> None:
        """Refuse identifiers seen twice.

        Only when hashes repeat are the files read again, to tell a true repetition from a
        collision and to find both places.

        Args:
            paths: the files, in the order in which they were read.

        Raises:
            DataError: an identifier occurs twice; names it and both places.
        """
        hashes = np.sort(np.concatenate(self._hashes)) if self._hashes else np.zeros(0, np.uint64)
        repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if not repeated.size:
            return
        places: dict[str, str] = {}
        for block in read_fasta(paths):
            found = np.isin(hash_names(block.id_bytes, block.id_lengths), repeated)
            for record in np.flatnonzero(found):
                name = block.name(int(record))
                place = f"{block.path}:{int(block.lines[record])}"
                if name in places:
                    raise DataError(
                        f"Identifier {name} occurs twice, at {places[name]} and at {place}: "
                        "identifiers must be unique over all input files. Rename or remove one."
                    )
                places[name] = place
