"""What d_std, d_⊕, ... are: symbols (the papers), or numbers that a circuit here backs.

The papers never give numbers. The explicit model takes depths from the builders in `threshold`: an
operation gets a number only if its circuit in the wanted format is small enough to be built here.
Those that build in a moment are built; for the others the depth is that of the construction, which
tests build at many smaller sizes. Everything else stays a symbol, with the reason.
"""

from dataclasses import dataclass

from lcframework.circuits.polynomial import Polynomial, as_polynomial
from lcframework.circuits.precision import describe
from lcframework.circuits.threshold.builder import MAX_GATES
from lcframework.circuits.threshold.catalogue import CIRCUITS, Size, build, gate_bound
from lcframework.circuits.threshold.floats import FloatFormat

QUICK = 5000
"""Circuits with so many gates at most are built when they are asked for."""
OPERATIONS = {
    "std": ("float-add", "float-multiply", "float-divide", "float-compare"),
    "oplus": ("float-sum",),
    "otimes": ("float-product",),
    "exp": ("float-exp",),
    "sqrt": ("float-sqrt",),
    "tri": ("float-sin", "float-cos"),
    "log": ("float-log",),
}
CONTEXT = (
    "For integers the literature has numbers: Siu and Roychowdhury 1993 prove depth 2 for iterated "
    "addition, 3 for multiplication and division, 4 for multiple product, with small weights. The "
    "circuits here reach 2, 3 and 5 for addition, multiplication and product with large weights. "
    "As majority gates a whole circuit gets one layer more (Goldmann and Karpinski 1992). In these "
    "circuits the gates of division, sums and functions grow exponentially with the bits of the "
    "format, where the theory's are polynomial."
)


@dataclass(frozen=True)
class Cost:
    """One symbol.

    Attributes:
        symbol: "std", "oplus", ...
        depth: layers, None where it stays a symbol.
        gates: upper bound of one operation, None where the depth is.
        source: what backs the numbers, or why there are none.
    """

    symbol: str
    depth: int | None
    gates: int | None
    source: str


def explicit_costs(fmt: FloatFormat, summands: int, factors: int) -> dict[str, Cost]:
    """Numbers for a format.

    Args:
        fmt: of every operation.
        summands: numbers in the longest sum.
        factors: numbers in the longest product.
    """
    counts = {"oplus": summands, "otimes": factors}
    return {
        symbol: _cost(symbol, names, fmt, max(2, counts.get(symbol, 2)))
        for symbol, names in OPERATIONS.items()
    }


def _cost(symbol: str, names: tuple[str, ...], fmt: FloatFormat, n: int) -> Cost:
    depth, gates, sources = 0, 0, []
    for name in names:
        bound = _bound(name, fmt, 2)
        if bound > MAX_GATES:
            reason = (
                f"{name} is not built in this format: up to {bound:,} gates "
                f"({CIRCUITS[name].source})"
            )
            return Cost(symbol, None, None, reason)
        entry = CIRCUITS[name]
        if bound <= QUICK:
            circuit = build(name, _size(fmt, 2))
            depth = max(depth, circuit.depth)
            sources.append(f"{name} built: depth {circuit.depth}, {circuit.size:,} gates")
        else:
            depth = max(depth, entry.depth)
            sources.append(f"{name}: depth {entry.depth} by construction ({entry.source})")
        gates = max(gates, _bound(name, fmt, n))
    if n > 2:
        sources.append(f"gates for {n:,} numbers by its bound")
    return Cost(symbol, depth, gates, "; ".join(sources))


def _bound(name: str, fmt: FloatFormat, n: int) -> int:
    return gate_bound(name, _size(fmt, n))


def _size(fmt: FloatFormat, n: int) -> Size:
    paper = fmt == FloatFormat.paper(fmt.sig_bits)
    return Size(fmt.sig_bits, None if paper else fmt.exp_bits, n)


def apply(polynomial: Polynomial, costs: dict[str, Cost]) -> Polynomial:
    """A depth or a size with numbers for the symbols that have them."""
    values: dict[str, Polynomial | int] = {}
    for symbol, cost in costs.items():
        if cost.depth is not None and cost.gates is not None:
            values[f"d_{symbol}"], values[f"s_{symbol}"] = cost.depth, cost.gates
    return as_polynomial(polynomial).substitute(values)


def heading(fmt: FloatFormat) -> str:
    """A sentence about the model of cost."""
    return (
        f"Explicit costs in {describe(fmt)}: layers and gates of the circuits in "
        "lcframework.circuits.threshold."
    )
