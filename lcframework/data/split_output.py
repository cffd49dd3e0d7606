"""Writing the files of a split; nothing appears before all is there."""

import contextlib
import gzip
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcframework.data.fasta import read_fasta
from lcframework.data.split_files import records_of
from lcframework.data.split_list import SplitList
from lcframework.errors import DataError

LIST_FILE, TRAIN_FILE, TEST_FILE = "split.txt", "train.fasta.gz", "test.fasta.gz"


@dataclass(frozen=True)
class SplitCounts:
    """How many proteins went where; homologues are in neither file."""

    train: int
    test: int
    removed: int
    homologues: str


def refuse_no_training(train: int, split: SplitList) -> None:
    """Stop if no protein is left for training.

    Raises:
        DataError: `train` is 0.
    """
    if not train:
        raise DataError(
            f"No protein is left for training: {len(split.test):,} are test proteins and "
            f"{len(split.removed):,} their homologues. Take fewer test proteins."
        )


def write_split(paths: Sequence[Path], folder: Path, split: SplitList) -> SplitCounts:
    """Write the list and both FASTA files, records in the order of the inputs.

    Raises:
        DataError: no protein is left for training.
    """
    train = 0
    with _gzip(folder / TRAIN_FILE) as train_file, _gzip(folder / TEST_FILE) as test_file:
        for block in read_fasta(paths):
            for name, residues in records_of(block):
                if name in split.removed:
                    continue
                is_test = name in split.test
                train += not is_test
                file = test_file if is_test else train_file
                file.write(b">%s\n%s\n" % (name.encode(), residues))
    refuse_no_training(train, split)
    (folder / LIST_FILE).write_text(split.to_text(), encoding="utf-8")
    homologues = split.header.get("homologue removal", "not recorded in the list")
    return SplitCounts(train, len(split.test), len(split.removed), homologues)


@contextlib.contextmanager
def _gzip(path: Path) -> Iterator[gzip.GzipFile]:
    # Without a name and a time in it, equal content is an equal file.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        yield file


@contextlib.contextmanager
def new_split_folder(folder: Path, paths: Sequence[Path]) -> Iterator[Path]:
    """A temporary folder that gets its name when the body ends well, and goes when it does not.

    Args:
        folder: must not exist, or be an empty folder.
        paths: the inputs, which must not change meanwhile.

    Raises:
        DataError: the folder is taken or cannot be written, or an input changed.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(
            f"{folder} exists and nothing is overwritten: delete it or name another folder (--to)."
        )
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    before = _states(paths)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if _states(paths) != before:
            raise DataError("An input file changed while it was read: start again.")
        temporary.rename(folder)
    except OSError as error:
        raise DataError(
            f"{folder} could not be written ({error}): check the disk and its rights, or name "
            "another folder (--to)."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _states(paths: Sequence[Path]) -> list[tuple[int, int]]:
    return [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
