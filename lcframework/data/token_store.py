"""The memory-mapped token store: proteins as uint8 tokens, built once from FASTA.

A store is a folder of four arrays and one description:

    tokens.bin       uint8, residues of all proteins behind one another (no `<cls>`, no `<eos>`)
    offsets.bin      int64, n+1 borders of the proteins in tokens.bin
    ids.bin          bytes of all identifiers behind one another
    id_offsets.bin   int64, n+1 borders of the identifiers in ids.bin
    meta.json        format, fingerprint of inputs and rules, what the rules did, sizes

The folder appears under its name only when complete; `store_build` writes it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lcframework.errors import StoreError

FORMAT_VERSION = 1
TOKENS, OFFSETS, IDS, ID_OFFSETS, META = (
    *("tokens.bin", "offsets.bin", "ids.bin", "id_offsets.bin"),
    "meta.json",
)


@dataclass(frozen=True)
class StoreMeta:
    """The content of `meta.json`.

    Attributes:
        format_version: layout of the folder.
        rules_version: version of the FASTA rules.
        fingerprint: hash of the inputs' contents, in order, and of both versions.
        inputs: one entry per file: `path`, `size`, `mtime_ns`, `sha256` of the file as it lies on
            disk, compressed or not.
        counts: the fields of `FastaCounts`.
        num_proteins: number of proteins.
        num_residues: sum of their lengths.
        id_bytes: size of ids.bin.
        min_length: shortest protein, residues.
        median_length: median, residues.
        max_length: longest protein, residues.
    """

    format_version: int
    rules_version: int
    fingerprint: str
    inputs: list[dict[str, Any]]
    counts: dict[str, int]
    num_proteins: int
    num_residues: int
    id_bytes: int
    min_length: int
    median_length: float
    max_length: int

    def to_json(self) -> str:
        """Text of `meta.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def expected_sizes(self) -> dict[str, int]:
        """Bytes of each array file."""
        borders = 8 * (self.num_proteins + 1)
        return {
            TOKENS: self.num_residues,
            OFFSETS: borders,
            IDS: self.id_bytes,
            ID_OFFSETS: borders,
        }


def read_meta(folder: Path) -> StoreMeta:
    """Read and check a store's description.

    Raises:
        StoreError: there is no store, or its description is unreadable or of another format.
    """
    path = folder / META
    try:
        raw = json.loads(path.read_text())
        version = raw["format_version"]
        if version != FORMAT_VERSION:
            raise StoreError(
                f"The token store {folder} has format {version}, this release reads format "
                f"{FORMAT_VERSION}: delete the folder, and it is built again."
            )
        return StoreMeta(**raw)
    except FileNotFoundError as error:
        raise StoreError(
            f"There is no token store at {folder} ({META} is missing): build it from FASTA, or "
            "delete the folder if it is a leftover."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"The token store {folder} is damaged: {path} is not a store's description ({error}). "
            "Delete the folder, and it is built again."
        ) from error


class TokenStore:
    """Read access to a finished store; picklable, each process maps the files for itself.

    Attributes:
        folder: where the store lies.
        meta: its description.
        tokens: (residues,) uint8, memory-mapped.
        offsets: (n+1,) int64, memory-mapped.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a store; prefer `TokenStore.open`.

        Raises:
            StoreError: there is no store, or it is damaged or of another format.
        """
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        for name, size in self.meta.expected_sizes().items():
            path = self.folder / name
            found = path.stat().st_size if path.exists() else None
            if found != size:
                state = "missing" if found is None else f"{found:,} bytes long"
                raise StoreError(
                    f"The token store {self.folder} is damaged: {name} is {state} instead of "
                    f"{size:,} bytes. Delete the folder, and it is built again."
                )
        self.tokens = self._map(TOKENS, np.uint8)
        self.offsets = self._map(OFFSETS, np.int64)
        self._ids = self._map(IDS, np.uint8)
        self._id_offsets = self._map(ID_OFFSETS, np.int64)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a finished store.

        Raises:
            StoreError: there is no store, or it is damaged or of another format.
        """
        return cls(folder)

    @classmethod
    def build(cls, inputs: str | Path | Sequence[str | Path], folder: str | Path) -> Self:
        """Build a store, or reuse an equal one; see `store_build.build_store`."""
        # Not at the top: the builder needs this module.
        from lcframework.data.store_build import build_store

        return cls(build_store(inputs, Path(folder)))

    def _map(self, name: str, dtype: type) -> np.ndarray:
        # A plain view: subclass bookkeeping would cost more than small reads themselves.
        return np.asarray(np.memmap(self.folder / name, dtype=dtype, mode="r"))

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return self.meta.num_proteins

    @property
    def fingerprint(self) -> str:
        """Hash of the inputs' contents and of the rules."""
        return self.meta.fingerprint

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) int64 residues of each protein."""
        return np.diff(self.offsets)

    def residues(self, index: int) -> NDArray[np.uint8]:
        """(L,) uint8 token ids of one protein, without special tokens."""
        return np.asarray(self.tokens[self.offsets[index] : self.offsets[index + 1]])

    def name(self, index: int) -> str:
        """Identifier of one protein."""
        start, end = self._id_offsets[index], self._id_offsets[index + 1]
        return self._ids[start:end].tobytes().decode(errors="replace")
