"""The committed form of a split: a text file that says which proteins are set aside, and how.

    # lcf data split-long, list format 1
    # minimum length: 2048
    # ...
    test    A0A024
    removed Q9XYZ1

Header lines are `# key: value`. `test` proteins form the test set, `removed` ones are their
homologues and belong to neither set. Each part is sorted, so equal splits are equal files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lcframework.errors import DataError

FIRST_LINE = "# lcf data split-long, list format 1"
FINGERPRINT = "input fingerprint"
_TEST, _REMOVED = "test", "removed"


@dataclass(frozen=True)
class SplitList:
    """Which proteins leave the training set.

    Attributes:
        test: accessions of the test proteins.
        removed: accessions of their homologues among the other proteins.
        header: what the file says of its making, in the order written.
    """

    test: frozenset[str]
    removed: frozenset[str] = frozenset()
    header: Mapping[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """The file's content."""
        lines = [FIRST_LINE, *(f"# {key}: {value}" for key, value in self.header.items())]
        lines += [f"{_TEST}\t{name}" for name in sorted(self.test)]
        lines += [f"{_REMOVED}\t{name}" for name in sorted(self.removed)]
        return "\n".join(lines) + "\n"


def read_split_list(path: Path) -> SplitList:
    """Read a committed list.

    Raises:
        DataError: it cannot be read, is not such a list, is malformed (named by line), names an
            accession twice or no test protein.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a split's list ({error}).") from error
    if lines[0] != FIRST_LINE:
        raise DataError(
            f"{path} is no list of `lcf data split-long`: its first line is not {FIRST_LINE!r}. "
            "Name the split.txt that the command wrote."
        )
    header: dict[str, str] = {}
    names: dict[str, set[str]] = {_TEST: set(), _REMOVED: set()}
    for number, line in enumerate(lines[1:], start=2):
        if line.startswith("#"):
            key, _, value = line[1:].partition(":")
            header[key.strip()] = value.strip()
        elif line.strip():
            _add(line, names, f"{path}, line {number}")
    if not names[_TEST]:
        raise DataError(f"{path} names no test protein: it was cut off; restore it.")
    return SplitList(frozenset(names[_TEST]), frozenset(names[_REMOVED]), header)


def _add(line: str, names: dict[str, set[str]], place: str) -> None:
    words = line.split("\t")
    if len(words) != 2 or words[0] not in names or not words[1]:
        raise DataError(
            f"{place}: {line[:60]!r} is neither 'test' nor 'removed', a tab and an accession. "
            "Correct the line or restore the file."
        )
    kind, name = words
    if name in names[_TEST] or name in names[_REMOVED]:
        raise DataError(f"{place}: accession {name} is listed twice. Remove one of the lines.")
    names[kind].add(name)
