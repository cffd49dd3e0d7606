"""The component algebra: what one part of a network costs, and how parts are put together.

In series depths add; side by side the larger one counts (coefficient by coefficient, which is an
upper bound); sizes always add.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lcframework.circuits.polynomial import Polynomial, upper_bound
from lcframework.circuits.symbols import unknown_symbols

PAPER, EXTENSION, UNKNOWN = "paper", "extension", "unknown"
NOT_CHECKED = "constants not compared with the paper's text; the same count is derived here"
DERIVED = "derived here"


@dataclass(frozen=True)
class Component:
    """One part of a network as a family of threshold circuits.

    Attributes:
        name: for tables.
        depth: in d_std, d_oplus, ... ; a constant is in layers of plain gates.
        size: upper bound in n, s_std, ... . The papers prove poly(n); these counts are ours.
        tag: "paper", "extension" or "unknown".
        checked: how sure the depth is.
        cite: keys of `references.REFERENCES`.
        how: the count in words.
        parameters: trained scalars.
    """

    name: str
    depth: Polynomial
    size: Polynomial
    tag: str
    checked: str
    cite: tuple[str, ...]
    how: str
    parameters: int = 0


def of_paper(name: str, depth: Polynomial, size: Polynomial, how: str, parameters: int = 0):
    """A component whose depth the RoPE paper states."""
    return Component(name, depth, size, PAPER, NOT_CHECKED, ("rope",), how, parameters)


def extension(
    name: str,
    depth: Polynomial,
    size: Polynomial,
    how: str,
    parameters: int = 0,
    cite: tuple[str, ...] = ("here",),
) -> Component:
    """A component that the paper does not treat."""
    return Component(name, depth, size, EXTENSION, DERIVED, cite, how, parameters)


def unknown(name: str, why: str) -> Component:
    """A part that is named but not understood: it keeps variables of its own in every total."""
    depth, size = unknown_symbols(name)
    return Component(name, depth, size, UNKNOWN, "not known", (), why)


def series(name: str, parts: Sequence[Component]) -> Component:
    """One after another."""
    return _joined(name, parts, sum((part.depth for part in parts), Polynomial()), "in series")


def parallel(name: str, parts: Sequence[Component]) -> Component:
    """Side by side on the same input."""
    return _joined(name, parts, upper_bound(*(part.depth for part in parts)), "in parallel")


def repeat(part: Component, times: int, name: str | None = None) -> Component:
    """`times` copies in series, each with parameters of its own."""
    return replace(
        part,
        name=name or f"{times} x {part.name}",
        depth=part.depth * times,
        size=part.size * times,
        parameters=part.parameters * times,
    )


def _joined(name: str, parts: Sequence[Component], depth: Polynomial, how: str) -> Component:
    tags = [part.tag for part in parts]
    tag = UNKNOWN if UNKNOWN in tags else EXTENSION if EXTENSION in tags else PAPER
    checked = dict.fromkeys(part.checked for part in parts)
    cite = dict.fromkeys(key for part in parts for key in part.cite)
    return Component(
        name,
        depth,
        sum((part.size for part in parts), Polynomial()),
        tag,
        "; ".join(checked),
        tuple(cite),
        f"{how}: " + ", ".join(part.name for part in parts),
        sum(part.parameters for part in parts),
    )
