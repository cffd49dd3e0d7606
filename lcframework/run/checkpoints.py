"""Checkpoints that are whole or absent, checked before they are trusted, and loaded without running
code.

The resume rule, in one place: an explicit `ckpt_path` wins; otherwise the newest valid checkpoint
of the run directory; a damaged one is skipped with a warning and the one before it is taken; none
means a fresh start.
"""

import hashlib
import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lcframework.errors import CheckpointError

log = logging.getLogger(__name__)
CHECKSUM_SUFFIX = ".sha256"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_path(path: Path) -> Path:
    """The file beside a checkpoint that holds its SHA-256."""
    return path.with_name(path.name + CHECKSUM_SUFFIX)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_valid(path: Path) -> bool:
    """Whether a checkpoint exists and matches the checksum written with it.

    A checkpoint without a checksum file (written by plain Lightning) counts as valid if its zip
    directory reads.
    """
    if not path.is_file():
        return False
    recorded = checksum_path(path)
    if recorded.is_file():
        return recorded.read_text().split()[:1] == [sha256_of(path)]
    return zipfile.is_zipfile(path)  # its directory stands at the end, so a cut file is none


def newest_valid(folder: Path) -> Path | None:
    """The newest valid `*.ckpt` under `folder` by modification time; damaged ones are warned about
    and skipped."""
    found = [path for path in folder.glob("*.ckpt") if not path.name.startswith("nonfinite")]
    for path in sorted(found, key=lambda one: one.stat().st_mtime_ns, reverse=True):
        if is_valid(path):
            return path
        log.warning(
            "%s is damaged or half-written (checksum differs); trying the one before it.", path
        )
    return None


def remove_half_written(folder: Path) -> None:
    """Delete what killed processes left of checkpoints they were writing; call it holding the run's
    lock."""
    for path in folder.glob(".*.tmp-*"):
        path.unlink()


def resolve_resume(ckpt_path: str | None, folder: Path) -> Path | None:
    """Apply the resume rule.

    Args:
        ckpt_path: None for the newest of the run directory, "last" likewise but required to exist,
            or a file.
        folder: the run's checkpoint folder.

    Returns:
        The checkpoint to resume from; None for a fresh start.

    Raises:
        CheckpointError: an explicitly named checkpoint is missing or damaged.
    """
    if ckpt_path is None:
        return newest_valid(folder)
    if ckpt_path == "last":
        newest = newest_valid(folder)
        if newest is None:
            raise CheckpointError(
                f"ckpt_path=last: {folder} holds no valid checkpoint; leave it out to start anew."
            )
        return newest
    path = Path(ckpt_path)
    if not path.is_file():
        raise CheckpointError(f"ckpt_path={path}: there is no such file.")
    if not is_valid(path):
        raise CheckpointError(
            f"{path} is damaged (its SHA-256 is not the one written with it); name another."
        )
    return path


def load_checkpoint(path: Path | str, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values; never unpickles code.

    Raises:
        CheckpointError: the file is damaged, or holds objects other than tensors and plain values.
    """
    path = Path(path)
    if not is_valid(path):
        raise CheckpointError(f"{path} is missing or damaged; name another checkpoint.")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, so loading it could run "
            f"foreign code. Re-save its "
            f"state_dict with safetensors or torch.save. ({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({str(error).splitlines()[0]}); name another."
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning plugin: writes to a temporary name, syncs, records a SHA-256, renames; loads with
    `weights_only`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path` so that the name never holds half a file."""
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO writes local files and takes no storage_options.")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
        temporary_sum = checksum_path(temporary)
        try:
            torch.save(checkpoint, temporary)
            _sync(temporary)
            temporary_sum.write_text(f"{sha256_of(temporary)}  {target.name}\n")
            os.replace(temporary, target)
            os.replace(temporary_sum, checksum_path(target))
            _sync(target.parent)
        except (
            OSError,
            RuntimeError,
        ) as error:  # PyTorch's writer reports a full disk as the latter
            free = shutil.disk_usage(target.parent).free / 1e6
            raise CheckpointError(
                f"The checkpoint {target} could not be written ({str(error).splitlines()[0]}); "
                f"{free:,.1f} MB are free there. If that is too little, free some; then repeat the "
                "command with the same run_id: it goes on from the newest whole checkpoint."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
            temporary_sum.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Callable | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load with `weights_only=True`, whatever the caller's default."""
        return load_checkpoint(path, map_location if map_location is not None else "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the checkpoint and its checksum."""
        super().remove_checkpoint(path)
        checksum_path(Path(path)).unlink(missing_ok=True)
