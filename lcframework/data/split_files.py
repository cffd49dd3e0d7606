"""Reading the inputs of a split and writing its files; nothing appears before all is there."""

import contextlib
import gzip
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lcframework.data.alphabet import decode
from lcframework.data.duplicates import DuplicateWatch
from lcframework.data.fasta import FastaBlock, read_fasta
from lcframework.data.homologues import HomologueRule, search
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


@dataclass
class Survey:
    """What one pass over the inputs found.

    Attributes:
        records: proteins.
        longest: residues of the longest one.
        long: accessions of the long ones.
        found: accessions that were looked for and are there.
        digest: sum over the records of a 128-bit hash of accession and residues, so that neither
            order, names nor compression of the files matter.
    """

    records: int = 0
    longest: int = 0
    long: list[str] = field(default_factory=list)
    found: set[str] = field(default_factory=set)
    digest: int = 0

    @property
    def fingerprint(self) -> str:
        """The digest as 32 hexadecimal digits."""
        return f"{self.digest % (1 << 128):032x}"


def _records(block: FastaBlock) -> Iterator[tuple[str, bytes]]:
    """Accession and residue letters of each record."""
    names, letters = block.id_bytes.tobytes(), decode(block.tokens).encode()
    name_start = start = 0
    ends = zip(np.cumsum(block.id_lengths).tolist(), np.cumsum(block.lengths).tolist(), strict=True)
    for name_end, end in ends:
        yield names[name_start:name_end].decode(errors="replace"), letters[start:end]
        name_start, start = name_end, end


def survey_inputs(
    paths: Sequence[Path], min_length: int | None, wanted: frozenset[str] = frozenset()
) -> Survey:
    """Read all inputs once.

    Args:
        paths: FASTA files.
        min_length: residues that make a protein long; None lists none.
        wanted: accessions to look for.

    Raises:
        DataError: an input is malformed, or an accession occurs twice.
    """
    survey, duplicates = Survey(), DuplicateWatch()
    for block in read_fasta(paths):
        duplicates.see(block)
        survey.records += len(block.lengths)
        survey.longest = max(survey.longest, int(block.lengths.max()))
        for name, residues in _records(block):
            if min_length is not None and len(residues) >= min_length:
                survey.long.append(name)
            if name in wanted:
                survey.found.add(name)
            digest = hashlib.blake2b(name.encode() + b"\n" + residues, digest_size=16)
            survey.digest += int.from_bytes(digest.digest(), "big")
    duplicates.judge(paths)
    return survey


def find_homologues(
    program: str,
    paths: Sequence[Path],
    folder: Path,
    test: frozenset[str],
    rule: HomologueRule,
    longest: int,
) -> frozenset[str]:
    """Accessions of the proteins outside `test` that resemble one inside.

    Raises:
        DataError: `mmseqs` fails.
    """
    work = folder / "search"
    work.mkdir()
    queries, targets = work / "train.fasta", work / "test.fasta"
    with queries.open("wb") as train_file, targets.open("wb") as test_file:
        for block in read_fasta(paths):
            for name, residues in _records(block):
                file = test_file if name in test else train_file
                # Hexadecimal: mmseqs cuts names at bars and blanks in ways of its own.
                file.write(b">%s\n%s\n" % (name.encode().hex().encode(), residues))
    hits = search(program, queries, targets, work, rule, longest)
    shutil.rmtree(work)
    return frozenset(bytes.fromhex(name).decode() for name in hits)


def write_split(paths: Sequence[Path], folder: Path, split: SplitList) -> SplitCounts:
    """Write the list and both FASTA files, records in the order of the inputs.

    Raises:
        DataError: no protein is left for training.
    """
    train = 0
    with _gzip(folder / TRAIN_FILE) as train_file, _gzip(folder / TEST_FILE) as test_file:
        for block in read_fasta(paths):
            for name, residues in _records(block):
                if name in split.removed:
                    continue
                is_test = name in split.test
                train += not is_test
                file = test_file if is_test else train_file
                file.write(b">%s\n%s\n" % (name.encode(), residues))
    if not train:
        raise DataError(
            f"No protein is left for training: {len(split.test):,} are test proteins and "
            f"{len(split.removed):,} their homologues. Take fewer test proteins."
        )
    (folder / LIST_FILE).write_text(split.to_text(), encoding="utf-8")
    homologues = split.header.get("homologues", "not recorded in the list")
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
