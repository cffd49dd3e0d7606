"""Integers inside a circuit, and the two constructions everything else is made of.

A `Digit` is a group of wires of which every function is a linear form: a single bit, a thermometer
(t_1 >= t_2 >= ...), or wires of which at most one is true. An `Integer` is a sum of functions of
digits, so it costs no gates. Two layers then give its binary digits: bit i of S depends only on S
modulo 2**(i+1); with every digit's contribution reduced modulo 2**(i+1), S takes fewer than
2 * (number of digits) different multiples of 2**i, one gate compares with each of them, and bit i
is a linear form of these comparisons (the depth-2 construction for symmetric functions of Muroga,
used for iterated addition by Siu and Roychowdhury 1993).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lcframework.circuits.threshold.builder import Builder
from lcframework.circuits.threshold.circuit import FALSE, TRUE


@dataclass(frozen=True)
class Digit:
    """Wires in one of len(wires) + 1 states, numbered from 0.

    Attributes:
        wires: a thermometer (state = how many are true, always a prefix), or, if `exclusive`,
            wires of which at most one is true (state = its place from 1, or 0).
        exclusive: see above.
    """

    wires: tuple[int, ...]
    exclusive: bool = False


@dataclass(frozen=True)
class Integer:
    """constant + sum over parts of table[state of the digit].

    Attributes:
        parts: (digit, table) pairs; a table has one integer per state.
        constant: added.
    """

    parts: tuple[tuple[Digit, tuple[int, ...]], ...]
    constant: int = 0

    @property
    def low(self) -> int:
        """No value lies below."""
        return self.constant + sum(min(table) for _, table in self.parts)

    @property
    def high(self) -> int:
        """No value lies above."""
        return self.constant + sum(max(table) for _, table in self.parts)

    def __add__(self, other: "Integer | int") -> "Integer":
        if isinstance(other, int):
            return Integer(self.parts, self.constant + other)
        return Integer(self.parts + other.parts, self.constant + other.constant)

    def __mul__(self, factor: int) -> "Integer":
        parts = tuple((digit, tuple(factor * v for v in table)) for digit, table in self.parts)
        return Integer(parts, self.constant * factor)

    def __neg__(self) -> "Integer":
        return self * -1

    def __sub__(self, other: "Integer | int") -> "Integer":
        return self + (-other)

    def linear(self) -> tuple[int, dict[int, int]]:
        """(constant, weight of each wire) of the same value."""
        constant, weights = self.constant, {}
        for digit, table in self.parts:
            constant += table[0]
            for state, wire in enumerate(digit.wires, start=1):
                step = table[state] - (table[0] if digit.exclusive else table[state - 1])
                weights[wire] = weights.get(wire, 0) + step
        return constant, weights


def from_bits(bits: Sequence[int]) -> Integer:
    """The integer with these binary digits, least significant first; constants are allowed."""
    constant = sum(2**i for i, wire in enumerate(bits) if wire == TRUE)
    parts = ((Digit((wire,)), (0, 2**i)) for i, wire in enumerate(bits) if wire >= 0)
    return Integer(tuple(parts), constant)


def signed_from_bits(bits: Sequence[int]) -> Integer:
    """As `from_bits` in two's complement: the last digit counts negative."""
    return from_bits(bits) + from_bits([FALSE] * (len(bits) - 1) + [bits[-1]]) * -2


def one_of(wires: Sequence[int], values: Sequence[int]) -> Integer:
    """The value whose wire is true, 0 if none is; at most one of `wires` may be true."""
    if TRUE in wires:
        return Integer((), values[wires.index(TRUE)])
    kept = [(wire, value) for wire, value in zip(wires, values, strict=True) if wire != FALSE]
    if not kept:
        return Integer(())
    digit = Digit(tuple(wire for wire, _ in kept), exclusive=True)
    return Integer(((digit, (0, *(value for _, value in kept))),))


def at_least(builder: Builder, number: Integer, threshold: int) -> int:
    """One gate: number >= threshold."""
    constant, weights = number.linear()
    return builder.gate(weights.items(), threshold - constant)


def staircase(
    builder: Builder,
    number: Integer,
    function: Callable[[int], int],
    steps: Sequence[int] | None = None,
) -> Integer:
    """function(number) as an integer, one layer above `number`.

    Args:
        builder: where the gates go, one per step.
        number: the argument.
        function: of an integer.
        steps: every v for which function(v) may differ from function(v - 1), ascending; by default
            all integers the number can reach.
    """
    low, high = number.low, number.high
    if steps is None:
        steps = range(low + 1, high + 1)
    values, kept = [function(low)], []
    for step in steps:
        if low < step <= high and function(step) != values[-1]:
            kept.append(step)
            values.append(function(step))
    constant, weights = number.linear()
    wires = builder.gates(weights.items(), [step - constant for step in kept])
    start = values[0]
    while wires and wires[0] == TRUE:
        wires, values = wires[1:], values[1:]
        start = values[0]
    while wires and wires[-1] == FALSE:
        wires, values = wires[:-1], values[:-1]
    if not wires:
        return Integer((), start)
    return Integer(((Digit(tuple(wires)), tuple(values)),))


def binary(builder: Builder, number: Integer, width: int) -> list[int]:
    """The lowest `width` binary digits (two's complement) of a number, at most two layers above.

    Returns:
        Wires, least significant first.
    """
    return [at_least(builder, binary_digit(builder, number, i), 1) for i in range(width)]


def binary_digit(builder: Builder, number: Integer, i: int) -> Integer:
    """Binary digit i of a number as an integer that is 0 or 1, at most one layer above."""
    modulus = 2 ** (i + 1)
    parts = []
    constant = number.constant % modulus
    for digit, table in number.parts:
        reduced = tuple(value % modulus for value in table)
        if len(set(reduced)) == 1:
            constant += reduced[0]
        else:
            parts.append((digit, reduced))
    rest = Integer(tuple(parts), constant % modulus)
    if len(parts) > 1:
        steps = range(2**i, rest.high + 1, 2**i)
        return staircase(builder, rest, lambda v: (v >> i) & 1, steps)
    if not parts:
        return Integer((), (rest.constant >> i) & 1)
    ((digit, table),) = parts
    return Integer(((digit, tuple(((v + rest.constant) >> i) & 1 for v in table)),))
