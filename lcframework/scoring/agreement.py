"""How far one greedy answer follows another."""

from collections.abc import Sequence


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens up to the first difference."""
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))


def agreement(answer: Sequence[int], dense: Sequence[int]) -> float:
    """Share of the longer answer's tokens before the two part; 1 for two empty ones."""
    longer = max(len(answer), len(dense))
    return 1.0 if longer == 0 else common_prefix(answer, dense) / longer
