"""Reading the inputs of a split: what they hold, and which proteins resemble a test protein."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lcframework.data.alphabet import decode
from lcframework.data.duplicates import DuplicateWatch
from lcframework.data.fasta import FastaBlock, read_fasta
from lcframework.data.homologues import HomologueRule, search


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


def records_of(block: FastaBlock) -> Iterator[tuple[str, bytes]]:
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
        for name, residues in records_of(block):
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
    test_path, train_path = work / "test.fasta", work / "train.fasta"
    with train_path.open("wb") as train_file, test_path.open("wb") as test_file:
        for block in read_fasta(paths):
            for name, residues in records_of(block):
                file = test_file if name in test else train_file
                # Hexadecimal: mmseqs cuts names at bars and blanks in ways of its own.
                file.write(b">%s\n%s\n" % (name.encode().hex().encode(), residues))
    hits = search(program, test_path, train_path, work, rule, longest)
    shutil.rmtree(work)
    return frozenset(bytes.fromhex(name).decode() for name in hits)
