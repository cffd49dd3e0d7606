"""A folder of ProteinGym: the assays that are there, grouped by target."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lcframework.data.proteingym.assays import Assay, assay_file, read_assay
from lcframework.data.proteingym.reference import AssayInfo, read_reference, reference_file
from lcframework.errors import ConfigError, DataError

log = logging.getLogger(__name__)
SUBSET_SEED = 0


@dataclass(frozen=True)
class TargetAssays:
    """The assays of one target sequence: positions computed for one serve all of them.

    Attributes:
        target: the wild-type sequence.
        assays: at least one.
    """

    target: str
    assays: tuple[Assay, ...]

    def to(self, device: Any, non_blocking: bool = False) -> "TargetAssays":
        """Itself: it holds no tensor. Lightning asks every batch to move."""
        return self


@dataclass(frozen=True)
class Folder:
    """What was found.

    Attributes:
        path: the folder.
        listed: assays of the reference file.
        found: (its reference row, its file) of each assay that is there and was asked for.
    """

    path: Path
    listed: int
    found: tuple[tuple[AssayInfo, Path], ...]

    def fingerprint(self) -> str:
        """SHA-256 over the assays' names and files, in the order of the reference file."""
        digest = hashlib.sha256()
        for info, path in self.found:
            digest.update(f"{info.dms_id} {info.target} {info.selection_type}".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


def find_assays(
    path: str | Path, reference: str | Path | None = None, assays: Sequence[str] | None = None
) -> Folder:
    """List the assays of a folder; nothing but the reference file is read.

    Args:
        path: folder with the assays' CSV files.
        reference: the reference file; None for the one in `path`.
        assays: DMS ids to keep; None for all.

    Raises:
        DataError: the reference file is missing or bad, or no assay's file is there.
        ConfigError: an id in `assays` is unknown or its file is missing.
    """
    folder = Path(path)
    file = reference_file(folder) if reference is None else Path(reference)
    listed = read_reference(file)
    unknown = sorted(set(assays or ()) - {info.dms_id for info in listed})
    if unknown:
        raise ConfigError(f"assays: {file} lists no {', '.join(unknown)}. Check the spelling.")
    wanted = [info for info in listed if assays is None or info.dms_id in assays]
    pairs = [(info, assay_file(folder, info)) for info in wanted]
    found = tuple((info, there) for info, there in pairs if there is not None)
    absent = [info.dms_id for info, there in pairs if there is None]
    if absent and assays is not None:
        raise ConfigError(f"assays: {folder} holds no file of {', '.join(absent)}.")
    if not found:
        raise DataError(
            f"{folder} holds none of the {len(listed)} files that {file} lists, such as "
            f"{listed[0].filename}. Name the folder of the assays' CSV files (plain, .gz or .xz)."
        )
    if absent:
        log.info("%d of %d assays are in %s.", len(found), len(listed), folder)
    return Folder(folder, len(listed), found)


def read_targets(
    folder: Folder, bad_mutants: str = "refuse", max_variants: int | None = None
) -> list[TargetAssays]:
    """Read the assays, those of one target together.

    Args:
        folder: what `find_assays` found.
        bad_mutants: see `read_assay`.
        max_variants: of an assay; a larger one is cut to a random choice that never changes.

    Raises:
        DataError: an assay's file is bad.
    """
    by_target: dict[str, list[Assay]] = {}
    for info, path in folder.found:
        assay = read_assay(path, info, bad_mutants)
        if max_variants is not None and len(assay) > max_variants:
            assay = _subset(assay, max_variants)
        by_target.setdefault(info.target, []).append(assay)
    return [TargetAssays(target, tuple(assays)) for target, assays in by_target.items()]


def _subset(assay: Assay, count: int) -> Assay:
    chosen = np.random.default_rng(SUBSET_SEED).choice(len(assay), count, replace=False)
    chosen.sort()
    return replace(
        assay,
        mutants=None if assay.mutants is None else assay.mutants.chosen(chosen),
        sequences=[assay.sequences[index] for index in chosen.tolist()],
        scores=assay.scores[chosen],
        binary=assay.binary[chosen],
    )
