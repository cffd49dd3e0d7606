"""Building token stores: atomic, once per input, refused where a store of other inputs stands."""

import contextlib
import errno
import fcntl
import glob
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from lcframework.data import token_store as layout
from lcframework.data.duplicates import DuplicateWatch
from lcframework.data.fasta import FastaBlock, read_fasta
from lcframework.data.fasta_files import expand_inputs
from lcframework.data.fasta_rules import RULES_VERSION, FastaCounts
from lcframework.data.fingerprints import (
    InputFile,
    describe_inputs,
    fingerprint_of,
    unchanged,
)
from lcframework.data.token_store import StoreMeta, TokenStore, read_meta
from lcframework.errors import StoreError
from lcframework.files import DISK_FULL

log = logging.getLogger(__name__)
STORES_VARIABLE = "LCF_STORES"


def default_stores_root() -> Path:
    """`$LCF_STORES`, else `~/.cache/lcframework/stores`."""
    named = os.environ.get(STORES_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "lcframework" / "stores"


def ensure_store(
    inputs: str | Path | Sequence[str | Path],
    store_dir: str | Path | None = None,
    stores_root: str | Path | None = None,
) -> TokenStore:
    """Open the store of these inputs, building it first where needed.

    Args:
        inputs: FASTA paths and glob patterns.
        store_dir: the store's own folder; None picks one under `stores_root`, named after the first
            file and the fingerprint.
        stores_root: parent of the picked folders; None means `default_stores_root()`.

    Raises:
        DataError: an input is missing or malformed.
        StoreError: `store_dir` holds a store of other inputs or rules, is damaged, or the disk is
            full.
    """
    if store_dir is not None:
        return TokenStore(build_store(inputs, Path(store_dir)))
    paths = expand_inputs(inputs)
    root = Path(stores_root) if stores_root is not None else default_stores_root()
    stem = paths[0].name.split(".")[0] + (f"+{len(paths) - 1}" if len(paths) > 1 else "")
    for folder in sorted(root.glob(f"{glob.escape(stem)}-*")):
        # A store whose inputs have the recorded sizes and times needs no hashing.
        candidate = folder.is_dir() and ".tmp-" not in folder.name
        if candidate and _is_readable(folder) and _is_current(folder, paths):
            return TokenStore(folder)
    files = describe_inputs(paths)
    return TokenStore(_build_or_reuse(files, root / f"{stem}-{fingerprint_of(files)[:16]}"))


def build_store(inputs: str | Path | Sequence[str | Path], folder: Path) -> Path:
    """Build the store of these inputs at `folder`, or reuse the one that stands there.

    Args:
        inputs: FASTA paths and glob patterns.
        folder: the store's folder; its parent is created.

    Returns:
        `folder`.

    Raises:
        DataError: an input is missing or malformed; nothing is left behind.
        StoreError: `folder` holds a store of other inputs or rules or is no store, or the disk is
            full.
    """
    paths = expand_inputs(inputs)
    if (folder / layout.META).is_file() and _is_current(folder, paths):
        return folder
    return _build_or_reuse(describe_inputs(paths), folder)


def _is_readable(folder: Path) -> bool:
    try:
        read_meta(folder)
    except StoreError as error:
        log.warning("Passing over %s: %s", folder, error)
        return False
    return True


def _is_current(folder: Path, paths: Sequence[Path]) -> bool:
    meta = read_meta(folder)
    return meta.rules_version == RULES_VERSION and unchanged(meta.inputs, paths)


def _build_or_reuse(files: Sequence[InputFile], folder: Path) -> Path:
    if not _is_free(folder):
        _check_same(files, folder)
        return folder
    try:
        with _sole_builder(folder):
            if _is_free(folder):
                _build(files, folder)
    except OSError as error:
        raise StoreError(
            f"The token store {folder} cannot be written ({error}): name a folder that can be "
            f"with data.store_dir=DIR, or set ${STORES_VARIABLE}."
        ) from error
    # Another process may have finished first, on a file system that knows no locks.
    _check_same(files, folder)
    return folder


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _check_same(files: Sequence[InputFile], folder: Path) -> None:
    meta = read_meta(folder)
    if meta.fingerprint == fingerprint_of(files):
        if not unchanged(meta.inputs, [file.path for file in files]) and os.access(folder, os.W_OK):
            # Same contents at another place or time: remember it, so the next start needs no hash.
            _write_meta(replace(meta, inputs=[file.record() for file in files]), folder)
        return
    differing = []
    if meta.rules_version != RULES_VERSION:
        differing.append(f"FASTA rules version {meta.rules_version} (now {RULES_VERSION})")
    before = [f"{Path(entry['path']).name} ({entry['sha256'][:8]})" for entry in meta.inputs]
    now = [f"{file.path.name} ({file.sha256[:8]})" for file in files]
    if before != now:
        differing.append(f"inputs {', '.join(before)} (now {', '.join(now)})")
    raise StoreError(
        f"The token store {folder} was built from other settings: {'; '.join(differing)}. Delete "
        "the folder to build it again, or name another store_dir."
    )


@contextlib.contextmanager
def _sole_builder(folder: Path) -> Iterator[None]:
    """Let one process build at a time, and clear what a killed one left behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(folder.name + ".lock")
    lock = _locked(path)
    if lock is not None:
        for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
            shutil.rmtree(leftover)
    try:
        yield
    finally:
        if lock is not None:
            path.unlink(missing_ok=True)  # before the lock is freed: whoever waits sees it is gone
            lock.close()


def _locked(path: Path) -> IO[str] | None:
    """The lock file, locked; None on a file system that knows no locks."""
    while True:
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s cannot be locked (%s); building without a lock", path, error)
            lock.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()  # its last holder has removed it: lock the one that is there now


def _build(files: Sequence[InputFile], folder: Path) -> None:
    paths = [file.path for file in files]
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    writer = _Writer(temporary, files)
    try:
        writer.open()
        counts, duplicates = FastaCounts(), DuplicateWatch()
        for block in read_fasta(paths, counts):
            writer.add(block)
            duplicates.see(block)
        writer.close()
        duplicates.judge(paths)
        _write_meta(writer.describe(counts), temporary)
        if not unchanged([file.record() for file in files], paths):
            raise StoreError(f"An input of the token store {folder} changed while it was read.")
        _publish(temporary, folder)
        log.info("Built the token store %s: %s", folder, counts.in_words())
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise StoreError(
            f"The disk is full: the token store {folder} needs about "
            f"{writer.estimated_bytes / 1e6:,.1f} MB and {writer.written / 1e6:,.1f} MB could be "
            f"written ({error.strerror}). Free space, or name a folder on another disk with "
            "data.store_dir=DIR."
        ) from error
    finally:
        writer.abandon()
        if temporary.exists():
            shutil.rmtree(temporary)


def _write_meta(meta: StoreMeta, folder: Path) -> None:
    temporary = folder / f"{layout.META}.tmp-{os.getpid()}"
    with temporary.open("w") as file:
        file.write(meta.to_json())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / layout.META)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        log.info("%s was finished by another process meanwhile", folder)
        return
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Writer:
    """Appends blocks to the four array files.

    Attributes:
        written: bytes so far.
        estimated_bytes: size of the whole store, from the share of the inputs read so far.
    """

    def __init__(self, folder: Path, files: Sequence[InputFile]) -> None:
        self._folder = folder
        self._files = files
        self._open: dict[str, BinaryIO] = {}
        self._residues = self._id_bytes = self._proteins = 0
        self._input_bytes = sum(file.size for file in files)
        ends = np.cumsum([file.size for file in files]).tolist()
        self._bytes_before = {f.path: end - f.size for f, end in zip(files, ends, strict=True)}
        self.written = 0
        self.estimated_bytes = 0.0

    def open(self) -> None:
        """Create the folder and its files."""
        self._folder.mkdir()
        for name in (layout.TOKENS, layout.OFFSETS, layout.IDS, layout.ID_OFFSETS):
            # Unbuffered: a full disk shows at the write, and blocks are large anyway.
            self._open[name] = (self._folder / name).open("wb", buffering=0)
        for name in (layout.OFFSETS, layout.ID_OFFSETS):
            self._write(name, np.zeros(1, dtype=np.int64))

    def _write(self, name: str, values: np.ndarray) -> None:
        view = memoryview(np.ascontiguousarray(values).data).cast("B")
        while view.nbytes:
            done = self._open[name].write(view)
            self.written += done
            view = view[done:]

    def add(self, block: FastaBlock) -> None:
        """Append a block's records."""
        sizes = block.tokens.nbytes + block.id_bytes.nbytes + 16 * len(block.lengths)
        done = self._bytes_before[block.path] + block.consumed
        self.estimated_bytes = (self.written + sizes) * self._input_bytes / done
        self._write(layout.TOKENS, block.tokens)
        self._write(layout.OFFSETS, self._residues + np.cumsum(block.lengths))
        self._write(layout.IDS, block.id_bytes)
        self._write(layout.ID_OFFSETS, self._id_bytes + np.cumsum(block.id_lengths))
        self._residues += len(block.tokens)
        self._id_bytes += len(block.id_bytes)
        self._proteins += len(block.lengths)

    def close(self) -> None:
        """Force everything to the disk."""
        for file in self._open.values():
            os.fsync(file.fileno())
        self.abandon()

    def abandon(self) -> None:
        """Close without forcing; harmless after `close`."""
        for file in self._open.values():
            file.close()

    def describe(self, counts: FastaCounts) -> StoreMeta:
        """The description of what was written."""
        offsets = np.memmap(self._folder / layout.OFFSETS, dtype=np.int64, mode="r")
        lengths = np.diff(offsets)
        return StoreMeta(
            format_version=layout.FORMAT_VERSION,
            rules_version=RULES_VERSION,
            fingerprint=fingerprint_of(self._files),
            inputs=[file.record() for file in self._files],
            counts=asdict(counts),
            num_proteins=self._proteins,
            num_residues=self._residues,
            id_bytes=self._id_bytes,
            min_length=int(lengths.min()),
            median_length=float(np.median(lengths)),
            max_length=int(lengths.max()),
        )
