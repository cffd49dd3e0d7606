"""Setting long proteins aside as a test set, the same ones on every machine.

The choice is a function of (seed, accession): the long proteins are ranked by a counter-based hash
and the first are taken. Neither the order of the files nor of the records within them matters, and
a protein added later only moves the border.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcframework.data.counter_random import Stream, draw, stream_key
from lcframework.data.duplicates import hash_names
from lcframework.data.fasta_files import expand_inputs
from lcframework.data.fasta_rules import RULES_VERSION
from lcframework.data.homologues import INSTALL, HomologueRule, find_mmseqs, mmseqs_version
from lcframework.data.split_files import Survey, find_homologues, survey_inputs
from lcframework.data.split_list import FINGERPRINT, SplitList, read_split_list
from lcframework.data.split_output import (
    SplitCounts,
    new_split_folder,
    refuse_no_training,
    write_split,
)
from lcframework.errors import ConfigError, DataError

log = logging.getLogger(__name__)
Inputs = str | Path | Sequence[str | Path]
NOT_REMOVED = "homologues not removed: mmseqs (MMseqs2) is not installed"


@dataclass(frozen=True)
class LongChoice:
    """Which proteins become the test set.

    Attributes:
        count: how many; exactly one of `count` and `fraction` is given.
        fraction: which share of the long proteins, in (0, 1], rounded to a whole number of them.
        min_length: residues that make a protein long.
        seed: another seed takes other proteins.
    """

    count: int | None = None
    fraction: float | None = None
    min_length: int = 2048
    seed: int = 1

    def __post_init__(self) -> None:
        if (self.count is None) == (self.fraction is None):
            raise ConfigError("Give either a number (--n) or a share (--fraction) of proteins.")
        if self.count is not None and self.count < 1:
            raise ConfigError(f"The number of test proteins is {self.count}: give at least 1.")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ConfigError(f"The share of test proteins is {self.fraction}: give 0 < F <= 1.")
        if self.min_length < 1:
            raise ConfigError(f"The minimum length is {self.min_length}: give at least 1 residue.")


def choose(names: Iterable[str], choice: LongChoice) -> frozenset[str]:
    """The test proteins among the long ones.

    Args:
        names: accessions of all long proteins, in any order.
        choice: how many and which.

    Raises:
        DataError: there are too few.
    """
    ordered = sorted(names)
    wanted = choice.count
    if wanted is None:
        wanted = int(len(ordered) * (choice.fraction or 0.0) + 0.5)
    if not 1 <= wanted <= len(ordered):
        raise DataError(
            f"The input holds {len(ordered):,} proteins of at least {choice.min_length:,} "
            f"residues, and {wanted:,} of them were asked for. Change --n, --fraction or "
            "--min-length."
        )
    encoded = [name.encode() for name in ordered]
    hashes = hash_names(
        np.frombuffer(b"".join(encoded), dtype=np.uint8),
        np.array([len(name) for name in encoded], dtype=np.int64),
    )
    ranks = draw(stream_key(choice.seed, 0, Stream.LONG_TEST_SET), hashes)
    # A stable sort of sorted names: even a collision of hashes is decided by the accession.
    return frozenset(ordered[index] for index in np.argsort(ranks, kind="stable")[:wanted])


def split_long(
    inputs: Inputs, folder: Path, choice: LongChoice, rule: HomologueRule | None = None
) -> SplitCounts:
    """Write `split.txt`, `train.fasta.gz` and `test.fasta.gz` into a new folder.

    Homologues of test proteins leave the training set if `mmseqs` is on the PATH; if not, a
    warning and the list's header say that they stay.

    Args:
        inputs: FASTA paths and glob patterns.
        folder: must not exist, or be empty; appears only when complete.
        choice: which proteins become the test set.
        rule: what counts as a homologue; None means the defaults.

    Raises:
        DataError: an input is malformed, too few proteins are long, nothing is left for training,
            the folder is taken or cannot be written, or `mmseqs` fails.
    """
    rule = HomologueRule() if rule is None else rule
    paths = expand_inputs(inputs)
    with new_split_folder(folder, paths) as temporary:
        survey = survey_inputs(paths, choice.min_length)
        test = choose(survey.long, choice)
        refuse_no_training(survey.records - len(test), SplitList(test))
        header = _header(paths, survey, choice)
        program = find_mmseqs()
        if program is None:
            log.warning(
                "Homologues of the test proteins stay in the training set: mmseqs is not on the "
                "PATH. Install MMseqs2 (%s) and split again to remove them.",
                INSTALL,
            )
            removed, note = frozenset[str](), NOT_REMOVED
        else:
            note = f"removed with mmseqs {mmseqs_version(program)}, "
            note += f"identity >= {rule.identity}, coverage of the shorter >= {rule.coverage}"
            removed = find_homologues(program, paths, temporary, test, rule, survey.longest)
        header |= {"homologue removal": note, "removed": str(len(removed))}
        return write_split(paths, temporary, SplitList(test, removed, header))


def split_from_list(inputs: Inputs, folder: Path, list_file: Path) -> SplitCounts:
    """Repeat a split from its committed list, without choosing or searching anything.

    Args:
        inputs: FASTA paths and glob patterns.
        folder: must not exist, or be empty; appears only when complete.
        list_file: the `split.txt` of the split to repeat.

    Raises:
        DataError: as for `split_long`; or an accession of the list is missing from the inputs.
    """
    split = read_split_list(list_file)
    paths = expand_inputs(inputs)
    with new_split_folder(folder, paths) as temporary:
        listed = split.test | split.removed
        survey = survey_inputs(paths, None, listed)
        missing = sorted(listed - survey.found)
        if missing:
            raise DataError(
                f"{missing[0]} of {list_file} is in none of the input files ({len(missing):,} of "
                f"{len(listed):,} accessions are missing). Name the files the list was made from."
            )
        header = dict(split.header)
        if header.get(FINGERPRINT) != survey.fingerprint:
            log.warning(
                "The inputs are not those that %s was made from: their other proteins were never "
                "compared with the test set.",
                list_file,
            )
            header["applied to other inputs"] = f"{survey.fingerprint}, homologues not searched"
        return write_split(paths, temporary, SplitList(split.test, split.removed, header))


def _header(paths: Sequence[Path], survey: Survey, choice: LongChoice) -> dict[str, str]:
    amount = f"n {choice.count}" if choice.count is not None else f"fraction {choice.fraction}"
    return {
        "input files": ", ".join(sorted(path.name for path in paths)),
        "input proteins": str(survey.records),
        FINGERPRINT: survey.fingerprint,
        "FASTA rules version": str(RULES_VERSION),
        "minimum length": str(choice.min_length),
        "long proteins": str(len(survey.long)),
        "chosen": f"{amount}, seed {choice.seed}",
    }
