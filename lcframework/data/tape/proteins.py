"""A record of a task becomes a protein with a checked label.

Legend: L residues of the protein.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcframework.data.alphabet import encode, is_protein
from lcframework.data.contact_map import UNKNOWN, contact_map
from lcframework.data.tape.records import read_records
from lcframework.data.tape.tasks import CLASS, CONTACT, RESIDUE, TapeTaskSpec
from lcframework.errors import DataError

MIN_SEPARATION = 6
IGNORED = -1
"""Label of residues that are not scored, in TAPE's files."""


@dataclass(frozen=True)
class TapeProtein:
    """A protein and what is known of it.

    Attributes:
        name: identifier, or its number.
        tokens: (L,) uint8 residue ids.
        label: class per residue (L,) int64, -1 unscored; class of the protein, int; value, float;
            or coordinates (L, 3) float32 with NaN rows for residues that are not resolved.
    """

    name: str
    tokens: NDArray[np.uint8]
    label: Any


def read_split(path: Path, spec: TapeTaskSpec) -> list[TapeProtein]:
    """All proteins of a file.

    Raises:
        DataError: a record lacks its sequence or label, or they do not fit each other.
    """
    found = [
        protein_of(where, record, spec, index)
        for index, (where, record) in enumerate(read_records(path))
    ]
    if not found:
        raise DataError(f"{path} holds no record.")
    return found


def protein_of(where: str, record: dict[str, Any], spec: TapeTaskSpec, index: int) -> TapeProtein:
    """One record, checked.

    Raises:
        DataError: names the record and what is wrong.
    """
    sequence = record.get("primary")
    if not isinstance(sequence, str) or not is_protein(sequence):
        raise DataError(
            f"{where}: `primary` is {str(sequence)[:30]!r}, which is no protein sequence."
        )
    key = next((name for name in spec.labels if name in record), None)
    if key is None:
        raise DataError(
            f"{where}: it has no {' or '.join(spec.labels)}, the label of {spec.name}; it has "
            f"{', '.join(map(str, record))}. Is this the file of another task?"
        )
    kinds = {RESIDUE: _residues, CLASS: _one_class, CONTACT: _coordinates}
    label = kinds.get(spec.kind, _value)(where, key, record, spec, len(sequence))
    name = record.get("id", index)
    return TapeProtein(name if isinstance(name, str) else str(name), encode(sequence), label)


def _residues(where: str, key: str, record: Any, spec: TapeTaskSpec, length: int) -> Any:
    try:
        label = np.asarray(record[key], dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {key} is no list of whole numbers ({error}).") from error
    if label.shape != (length,):
        raise DataError(
            f"{where}: {key} has shape {label.shape}, the sequence {length} residues; there must "
            "be one label per residue."
        )
    bad = (label < IGNORED) | (label >= spec.classes)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{where}: {key} of residue {at + 1} is {label[at]}; classes are 0 to "
            f"{spec.classes - 1}, and -1 for residues that are not scored."
        )
    return label


def _one_class(where: str, key: str, record: Any, spec: TapeTaskSpec, length: int) -> int:
    label = record[key]
    top = f" below {spec.classes}" if spec.classes else ""
    whole = isinstance(label, int) and not isinstance(label, bool)
    if not whole or label < 0 or (spec.classes and label >= spec.classes):
        raise DataError(f"{where}: {key} is {label!r}; it must be a whole number from 0{top}.")
    return label


def _value(where: str, key: str, record: Any, spec: TapeTaskSpec, length: int) -> float:
    label = record[key]
    try:
        values = np.asarray(label, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.zeros(0)
    number = float(values[0]) if len(values) == 1 else float("nan")
    if not np.isfinite(number):
        raise DataError(f"{where}: {key} is {label!r}; it must be one finite number.")
    return number


def _coordinates(where: str, key: str, record: Any, spec: TapeTaskSpec, length: int) -> Any:
    try:
        places = np.asarray(record[key], dtype=np.float32)
        valid = np.asarray(record.get("valid_mask", np.ones(length)), dtype=bool)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {key} or valid_mask is no array of numbers.") from error
    if places.shape != (length, 3) or valid.shape != (length,):
        raise DataError(
            f"{where}: {key} has shape {places.shape} and valid_mask {valid.shape}; the sequence "
            f"of {length} residues wants ({length}, 3) and ({length},)."
        )
    return np.where(valid[:, None], places, np.float32("nan"))


def contact_labels(places: NDArray[np.float32]) -> NDArray[np.int8]:
    """TAPE's contact map (`ProteinnetDataset`).

    Args:
        places: (L, 3) in Angstrom, NaN where unknown.

    Returns:
        (L, L) int8: 1 where two residues lie closer than 8 Angstrom, else 0; -1 where one of them
        is unknown or they are fewer than 6 apart in the sequence.
    """
    labels = contact_map(places)
    index = np.arange(len(places))
    labels[np.abs(index[:, None] - index[None, :]) < MIN_SEPARATION] = UNKNOWN
    return labels
