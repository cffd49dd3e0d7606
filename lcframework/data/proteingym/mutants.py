"""Mutants written as `A24C` or `A24C:D30N` (1-based on the target), parsed and checked.

Nothing is scored on trust: a mutant whose wild-type letter is not the target's, or whose position
lies outside it, usually means that the numbering belongs to another construct.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcframework.data.alphabet import STANDARD_RESIDUES, is_protein
from lcframework.errors import DataError

SEPARATOR = ":"
_ONE = re.compile(r"([A-Za-z])([0-9]+)([A-Za-z*])")
MALFORMED = "not written as A24C or A24C:D30N"
OUT_OF_RANGE = "position out of range"
WRONG_WILD_TYPE = "wrong wild type"
NO_RESIDUE = "mutated to none of the 20 standard residues"
REPEATED_POSITION = "one position mutated twice"
MISMATCH = "mutated_sequence is not the target with the mutations applied"
NO_PROTEIN = "mutated_sequence is empty or holds a character that is no amino-acid letter"


@dataclass(frozen=True)
class Mutants:
    """N mutants of one target with M mutations in all.

    Attributes:
        names: N strings as they were given.
        owner: (M,) int64, the mutant each mutation belongs to, rising.
        positions: (M,) int64, 0-based on the target.
        wild: (M,) uint8, ASCII code of the target's letter.
        mutant: (M,) uint8, ASCII code of the new letter.
    """

    names: list[str]
    owner: NDArray[np.int64]
    positions: NDArray[np.int64]
    wild: NDArray[np.uint8]
    mutant: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.names)

    def sequences(self, target: str) -> list[str]:
        """The N full mutated sequences."""
        borders = np.searchsorted(self.owner, np.arange(len(self) + 1))
        found = []
        original = np.frombuffer(target.encode(), dtype=np.uint8)
        for start, stop in zip(borders[:-1], borders[1:], strict=True):
            changed = original.copy()
            changed[self.positions[start:stop]] = self.mutant[start:stop]
            found.append(changed.tobytes().decode())
        return found

    def chosen(self, indices: NDArray[np.int64]) -> "Mutants":
        """The mutants at strictly rising `indices`, renumbered."""
        renumbered = np.full(len(self), -1)
        renumbered[indices] = np.arange(len(indices))
        kept = renumbered[self.owner] >= 0
        return Mutants(
            [self.names[index] for index in indices.tolist()],
            renumbered[self.owner[kept]],
            self.positions[kept],
            self.wild[kept],
            self.mutant[kept],
        )


@dataclass(frozen=True)
class Problem:
    """One refused mutant.

    Attributes:
        index: its place among those given.
        kind: one of this module's phrases.
        detail: what was found there.
    """

    index: int
    kind: str
    detail: str


def parse_mutant(name: str, target: str) -> list[tuple[int, str, str]] | tuple[str, str]:
    """One mutant string.

    Args:
        name: `A24C`, several joined by `:`.
        target: the wild-type sequence, upper case.

    Returns:
        [(0-based position, wild-type letter, new letter), ...], or (kind of problem, detail).
    """
    found: list[tuple[int, str, str]] = []
    for part in name.split(SEPARATOR):
        match = _ONE.fullmatch(part.strip())
        if match is None:
            return MALFORMED, repr(part)
        wild, number, mutant = match[1].upper(), int(match[2]), match[3].upper()
        if not 1 <= number <= len(target):
            return OUT_OF_RANGE, f"{part}: the target has {len(target)} residues"
        if target[number - 1] != wild:
            return WRONG_WILD_TYPE, f"{part}: the target has {target[number - 1]} there"
        if mutant not in STANDARD_RESIDUES:
            return NO_RESIDUE, part
        if any(position == number - 1 for position, _, _ in found):
            return REPEATED_POSITION, name
        found.append((number - 1, wild, mutant))
    return found


def parse_mutants(
    names: Sequence[str], target: str, mutated_sequences: Sequence[str] | None = None
) -> tuple[Mutants, NDArray[np.int64], list[Problem]]:
    """Parse and check mutants against their target.

    Args:
        names: N mutant strings.
        target: the wild-type sequence, upper case.
        mutated_sequences: N full sequences to compare with, if the file gives them.

    Returns:
        (the good mutants, their (N_good,) indices among those given, the problems).
    """
    good: list[int] = []
    rows: list[tuple[int, int, str, str]] = []
    problems: list[Problem] = []
    for index, name in enumerate(names):
        parsed = parse_mutant(name, target)
        if isinstance(parsed, tuple):
            problems.append(Problem(index, *parsed))
            continue
        if mutated_sequences is not None:
            differing = _mismatch(parsed, target, mutated_sequences[index])
            if differing:
                problems.append(Problem(index, MISMATCH, f"{name}: {differing}"))
                continue
        rows += [(len(good), *one) for one in parsed]
        good.append(index)
    letters = "".join(row[2] for row in rows), "".join(row[3] for row in rows)
    wild, mutant = (np.frombuffer(text.encode(), dtype=np.uint8) for text in letters)
    mutants = Mutants(
        [names[index] for index in good],
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.int64),
        wild,
        mutant,
    )
    return mutants, np.array(good, dtype=np.int64), problems


def check_sequences(sequences: Sequence[str]) -> list[Problem]:
    """Problems of full mutated sequences that no mutant string explains (insertions, deletions)."""
    return [
        Problem(index, NO_PROTEIN, repr(sequence[:20]))
        for index, sequence in enumerate(sequences)
        if not is_protein(sequence)
    ]


def _mismatch(parsed: list[tuple[int, str, str]], target: str, given: str) -> str:
    """Where the given sequence is another than the mutations make; empty where it is not."""
    letters = list(target)
    for position, _, mutant in parsed:
        letters[position] = mutant
    made = "".join(letters)
    given = given.upper()
    if given == made:
        return ""
    if len(given) != len(made):
        return f"{len(given)} residues, the target {len(made)}"
    where = next(i for i, (a, b) in enumerate(zip(given, made, strict=True)) if a != b)
    return f"{given[where]} at position {where + 1}, expected {made[where]}"


def count_problems(problems: Sequence[Problem]) -> dict[str, int]:
    """How many mutants each kind of problem has."""
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return counts


def problems_in_words(problems: Sequence[Problem], lines: Sequence[int] | None, total: int) -> str:
    """One sentence: how many of `total` have which problem, with the first example of each.

    Args:
        problems: at least one.
        lines: line of each mutant that was given, if it came from a file.
        total: how many were given.
    """
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.kind, problem)
    parts = []
    for kind, count in count_problems(problems).items():
        example = first[kind]
        place = f"line {lines[example.index]}, " if lines is not None else ""
        parts.append(f"{count:,} {kind} ({place}{example.detail})")
    return f"{len(problems):,} of {total:,} mutants do not fit the target: {'; '.join(parts)}"


def refuse_problems(
    problems: Sequence[Problem], where: str, lines: Sequence[int] | None, total: int, cure: str
) -> None:
    """Stop if there is a problem.

    Args:
        problems: what was found.
        where: file and target, in words.
        lines: line of each mutant given, if from a file.
        total: how many were given.
        cure: what the user can do.

    Raises:
        DataError: names each kind with its count and the first example.
    """
    if problems:
        raise DataError(f"{where}: {problems_in_words(problems, lines, total)}. {cure}")
