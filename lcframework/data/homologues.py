"""Training proteins that resemble a test protein, found with `mmseqs` (MMseqs2) where installed.

Steinegger and Söding 2017, "MMseqs2 enables sensitive protein sequence searching for the analysis
of massive data sets".
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lcframework.errors import ConfigError, DataError

PROGRAM = "mmseqs"
INSTALL = "apt install mmseqs2, conda install -c bioconda mmseqs2 or brew install mmseqs2"
_COLUMNS = "query,target,fident,qcov,tcov"
_DEFAULT_MAX_SEQ_LEN = 65535
_SHOWN_LINES = 5


@dataclass(frozen=True)
class HomologueRule:
    """When a training protein is too close to a test protein.

    Attributes:
        identity: least share of identical residues in the alignment, in (0, 1].
        coverage: least share of the shorter of the two proteins that is aligned, in (0, 1]. The
            shorter one, so that a fragment of a long test protein counts as its homologue.
    """

    identity: float = 0.5
    coverage: float = 0.8

    def __post_init__(self) -> None:
        for name, value in (("identity", self.identity), ("coverage", self.coverage)):
            if not 0 < value <= 1:
                raise ConfigError(f"{name} is {value}: give a share above 0 and at most 1.")


def find_mmseqs() -> str | None:
    """Where `mmseqs` lies on the PATH, None if it is not installed."""
    return shutil.which(PROGRAM)


def mmseqs_version(program: str) -> str:
    """What the program says of itself.

    Raises:
        DataError: it cannot be run.
    """
    return _run([program, "version"]).strip()


def search(
    program: str, test: Path, train: Path, folder: Path, rule: HomologueRule, longest: int
) -> set[str]:
    """The training proteins that the rule finds close to a test protein.

    Args:
        program: path of `mmseqs`.
        test: FASTA file of the test proteins, with names without special characters; the queries.
        train: FASTA file of the training proteins, likewise; the targets.
        folder: existing folder for the result and temporary files.
        rule: what counts as a homologue.
        longest: residues of the longest protein of either file.

    Returns:
        Names of training proteins.

    Raises:
        DataError: mmseqs fails or writes something else than expected.
    """
    with train.open("rb") as file:
        count = sum(line.startswith(b">") for line in file)
    result = folder / "hits.tsv"
    # The coverage is judged here: none of mmseqs' own modes asks it of the shorter sequence.
    command = [program, "easy-search", str(test), str(train), str(result), str(folder / "tmp")]
    command += ["--format-mode", "0", "--format-output", _COLUMNS, "--alignment-mode", "3"]
    command += ["--dbtype", "1"]  # a guess from the letters could be nucleotides
    command += ["--min-seq-id", str(rule.identity)]
    # As many as there are: the default of 300 candidates per query could hide a homologue.
    command += ["--max-seqs", str(max(count, 1))]
    command += ["--max-seq-len", str(max(longest + 1, _DEFAULT_MAX_SEQ_LEN))]
    _run(command)
    if not result.is_file():
        raise DataError(f"{PROGRAM} ended without an error but wrote no result: {_cure(command)}")
    return set(_accepted(result, rule))


def _accepted(result: Path, rule: HomologueRule) -> Iterator[str]:
    with result.open() as file:
        for number, line in enumerate(file, start=1):
            try:
                _, target, identity, *covers = line.rstrip("\n").split("\t")
                query_cover, target_cover = map(float, covers)
                is_close = float(identity) >= rule.identity
            except ValueError:
                raise DataError(
                    f"{PROGRAM} wrote {line.rstrip()[:80]!r} as line {number} of its result, where "
                    f"the columns {_COLUMNS} were asked for. Install a current MMseqs2."
                ) from None
            if is_close and max(query_cover, target_cover) >= rule.coverage:
                yield target


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError as error:
        raise DataError(f"{command[0]} cannot be run ({error}): {_cure(command)}") from error
    if done.returncode:
        said = " / ".join(done.stdout.strip().splitlines()[-_SHOWN_LINES:]) or "nothing"
        raise DataError(
            f"{PROGRAM} failed with exit code {done.returncode}, saying last: {said}. "
            f"{_cure(command)}"
        )
    return done.stdout


def _cure(command: list[str]) -> str:
    return (
        f"Nothing was written. The command was `{' '.join(command)}`: mend the installation (or "
        f"free memory and disk), or take {PROGRAM} off the PATH to split without removing "
        "homologues."
    )
