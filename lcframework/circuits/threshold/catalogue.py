"""The circuits by name: what they do, how to build them, their depth, a bound on their gates."""

from collections.abc import Callable
from dataclasses import dataclass

from lcframework.circuits.threshold import estimates, integer_circuits
from lcframework.circuits.threshold import float_circuits as floats
from lcframework.circuits.threshold.attention import attention_circuit
from lcframework.circuits.threshold.builder import MAX_GATES, Builder
from lcframework.circuits.threshold.circuit import Circuit
from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.circuits.threshold.rounding import FloatWires
from lcframework.errors import CircuitError


@dataclass(frozen=True)
class Size:
    """How large a circuit is wanted.

    Attributes:
        bits: of an integer, or of a float's significand (p).
        exponent_bits: of a float; None for the paper's p-bit numbers, p + 1 bits.
        n: how many numbers, or tokens.
        dim: width of the attention step.
    """

    bits: int = 3
    exponent_bits: int | None = None
    n: int = 2
    dim: int = 2

    @property
    def fmt(self) -> FloatFormat:
        """The floats.

        Raises:
            CircuitError: a precision that holds no numbers.
        """
        if self.bits < 2 or (self.exponent_bits is not None and self.exponent_bits < 1):
            raise CircuitError(
                f"precision of {self.bits} significand and {self.exponent_bits} exponent bits: a "
                "float needs at least 2 significand bits and 1 exponent bit. Give --bits 2 or more."
            )
        if self.exponent_bits is None:
            return FloatFormat.paper(self.bits)
        return FloatFormat.like_ieee(self.bits, self.exponent_bits)


@dataclass(frozen=True)
class Entry:
    """One kind of circuit.

    Attributes:
        about: what it computes.
        depth: of every instance large enough not to be folded.
        source: the construction.
        gates: upper bound for a size.
        make: adds it to a builder, returns (name, wire) outputs.
        counts: "n" if it takes n numbers, "2" or "1" otherwise.
        is_float: whether its numbers are floats.
    """

    about: str
    depth: int
    source: str
    gates: Callable[[Size], int]
    make: Callable[[Builder, Size, list], list[tuple[str, int]]]
    counts: str = "2"
    is_float: bool = False


def _number(bits: list[int]) -> list[tuple[str, int]]:
    return [(f"s{i}", wire) for i, wire in enumerate(bits)]


def _float(number: FloatWires) -> list[tuple[str, int]]:
    return [
        ("sign", number.sign),
        *((f"e{i}", wire) for i, wire in enumerate(number.exponent)),
        *((f"m{i}", wire) for i, wire in enumerate(number.significand)),
    ]


def _function(name: str) -> Entry:
    return Entry(
        f"{name}(x), correctly rounded",
        2,
        "one gate per change of the value (table; exponential in the bits)",
        lambda s: estimates.float_function_gates(s.fmt),
        lambda b, s, x: _float(
            floats.float_function(b, x[0], s.fmt, lambda v: s.fmt.function(name, v))
        ),
        "1",
        True,
    )


DEPTH_2_SUM = "depth-2 symmetric functions (Muroga; Siu and Roychowdhury 1993)"
CHINESE = "Chinese remainders (Beame, Cook and Hoover 1986)"
CIRCUITS: dict[str, Entry] = {
    "compare": Entry(
        "x >= y",
        1,
        "one gate",
        lambda s: 1,
        lambda b, s, x: [("at_least", integer_circuits.compare(b, x[0], x[1]))],
    ),
    "add": Entry(
        "x + y",
        2,
        DEPTH_2_SUM,
        lambda s: estimates.binary_gates(s.bits + 1, 2 * s.bits),
        lambda b, s, x: _number(integer_circuits.iterated_add(b, x)),
    ),
    "iterated-add": Entry(
        "x0 + ... + x(n-1)",
        2,
        DEPTH_2_SUM,
        lambda s: estimates.binary_gates(s.bits + s.n.bit_length(), s.n * s.bits),
        lambda b, s, x: _number(integer_circuits.iterated_add(b, x)),
        "n",
    ),
    "multiply": Entry(
        "x * y",
        3,
        "partial products, then " + DEPTH_2_SUM,
        lambda s: s.bits**2 + estimates.binary_gates(2 * s.bits, s.bits**2),
        lambda b, s, x: _number(integer_circuits.multiply(b, x[0], x[1])),
    ),
    "iterated-multiply": Entry(
        "x0 * ... * x(n-1)",
        5,
        CHINESE,
        lambda s: estimates.iterated_multiply_gates(s.n, s.bits),
        lambda b, s, x: _number(integer_circuits.iterated_multiply(b, x)),
        "n",
    ),
    "float-compare": Entry(
        "x >= y",
        2,
        "sign times the code read as an integer",
        lambda s: estimates.float_at_least_gates(s.fmt),
        lambda b, s, x: [("at_least", floats.float_at_least(b, x[0], x[1]))],
        is_float=True,
    ),
    "float-add": Entry(
        "x + y, rounded",
        8,
        "shift by the difference of the exponents, exact sum, rounding",
        lambda s: estimates.float_add_gates(s.fmt),
        lambda b, s, x: _float(floats.float_add(b, x[0], x[1], s.fmt)),
        is_float=True,
    ),
    "float-multiply": Entry(
        "x * y, rounded",
        7,
        "partial products, rounding",
        lambda s: estimates.float_multiply_gates(s.fmt),
        lambda b, s, x: _float(floats.float_multiply(b, x[0], x[1], s.fmt)),
        is_float=True,
    ),
    "float-divide": Entry(
        "x / y, rounded",
        3,
        "one gate per result (exponential in the significand)",
        lambda s: estimates.float_divide_gates(s.fmt),
        lambda b, s, x: _float(floats.float_divide(b, x[0], x[1], s.fmt)),
        is_float=True,
    ),
    "float-sum": Entry(
        "x0 + ... + x(n-1), one rounding",
        7,
        "fixed point over the whole range (exponential in the exponent bits), rounding",
        lambda s: estimates.float_sum_gates(s.fmt, s.n),
        lambda b, s, x: _float(floats.float_sum(b, x, s.fmt)),
        "n",
        True,
    ),
    "float-product": Entry(
        "x0 * ... * x(n-1), one rounding",
        9,
        CHINESE + ", rounding",
        lambda s: estimates.float_product_gates(s.fmt, s.n),
        lambda b, s, x: _float(floats.float_product(b, x, s.fmt)),
        "n",
        True,
    ),
    **{f"float-{name}": _function(name) for name in ("exp", "sin", "cos", "sqrt", "log")},
}
ATTENTION = "attention"
NAMES = (*CIRCUITS, ATTENTION)


def gate_bound(name: str, size: Size) -> int:
    """At most so many gates.

    Raises:
        CircuitError: an unknown name or an impossible size.
    """
    check(name, size)
    if name == ATTENTION:
        return estimates.attention_gates(size.fmt, size.n, size.dim)
    return CIRCUITS[name].gates(size)


def build(name: str, size: Size, max_gates: int = MAX_GATES) -> Circuit:
    """The circuit of this name.

    Raises:
        CircuitError: an unknown name, an impossible size, or more than `max_gates` gates are
            expected: refused before anything is built.
    """
    bound = gate_bound(name, size)
    if bound > max_gates:
        raise CircuitError(
            f"{name} with {_numbers(name, size)} would have up to {bound:,} gates, more than the "
            f"{max_gates:,} that are built. Ask for fewer bits or numbers, or allow more with "
            f"--max-gates (max_gates)."
        )
    if name == ATTENTION:
        return attention_circuit(size.fmt, size.n, size.dim, max_gates=max_gates)
    entry = CIRCUITS[name]
    builder = Builder(max_gates)
    labels = {"1": ["x"], "2": ["x", "y"]}.get(entry.counts, [f"x{i}." for i in range(size.n)])
    numbers: list = [
        floats.input_float(builder, label.rstrip("."), size.fmt)
        if entry.is_float
        else builder.input_bits(label, size.bits)
        for label in labels
    ]
    return builder.finish(entry.make(builder, size, numbers))


def describe(name: str, size: Size) -> str:
    """A title: what the circuit computes, on which numbers."""
    about = "one RoPE attention step" if name == ATTENTION else CIRCUITS[name].about
    return f"{name}: {about} ({_numbers(name, size)})"


def check(name: str, size: Size) -> None:
    """Refuse what cannot be built.

    Raises:
        CircuitError: an unknown name or an impossible size.
    """
    if name not in NAMES:
        raise CircuitError(f"there is no circuit {name!r}. Choose one of: {', '.join(NAMES)}.")
    if size.bits < 1 or size.n < 1 or size.dim < 1:
        raise CircuitError(
            f"bits, n and dim must be at least 1, got {size.bits}, {size.n} and {size.dim}."
        )
    if name == ATTENTION and size.dim % 2:
        raise CircuitError(
            f"--dim {size.dim}: rotary positions turn pairs of channels; give an even width."
        )
    if name == ATTENTION or CIRCUITS[name].is_float:
        _ = size.fmt


def _numbers(name: str, size: Size) -> str:
    if name != ATTENTION and not CIRCUITS[name].is_float:
        text = f"{size.bits} bits"
    else:
        text = f"{size.fmt.sig_bits} significand and {size.fmt.exp_bits} exponent bits"
    if name == ATTENTION:
        return f"{text}, n = {size.n}, width {size.dim}"
    return f"{text}, n = {size.n}" if CIRCUITS[name].counts == "n" else text
