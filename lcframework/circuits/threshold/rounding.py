"""Rounds an integer in a circuit to a floating-point number, six layers above it.

This is the last step of every float operation: layers 1-2 the binary digits of |v| and the place of
the leading one; layer 3 the p digits that are kept and whether to round up (guard digit and, for a
tie, the last digit or anything below); layer 4 the carry; layer 5 whether the exponent is in range;
layer 6 the code. The number of gates is polynomial in the width of v and in p.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lcframework.circuits.threshold.builder import Builder
from lcframework.circuits.threshold.circuit import FALSE, TRUE
from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.circuits.threshold.integers import (
    Integer,
    at_least,
    binary,
    binary_digit,
    from_bits,
    one_of,
    staircase,
)


@dataclass(frozen=True)
class FloatWires:
    """The wires of one number; exponent and significand least significant bit first."""

    sign: int
    exponent: tuple[int, ...]
    significand: tuple[int, ...]

    @property
    def wires(self) -> tuple[int, ...]:
        """In the order of `FloatFormat.encode`."""
        return (self.sign, *self.exponent, *self.significand)

    @property
    def nonzero(self) -> int:
        """True unless the number is 0: the leading bit."""
        return self.significand[-1]


def from_wires(wires: Sequence[int], fmt: FloatFormat) -> FloatWires:
    """The inverse of `FloatWires.wires`."""
    return FloatWires(
        wires[0], tuple(wires[1 : 1 + fmt.exp_bits]), tuple(wires[1 + fmt.exp_bits :])
    )


def constant_float(code: Sequence[bool], fmt: FloatFormat) -> FloatWires:
    """A number known in advance, from `FloatFormat.encode`."""
    return from_wires([TRUE if bit else FALSE for bit in code], fmt)


@dataclass(frozen=True)
class _Lead:
    """One sign and place j of the leading one: |v| in [2**j, 2**(j+1))."""

    place: int
    true: tuple[int, ...]
    false: tuple[int, ...]
    digits: Sequence[int]  # of |v|

    def gated_any(self, builder: Builder, all_of: Sequence[int], any_of: Sequence[int]) -> int:
        """One gate: this lead AND all of `all_of` AND at least one of `any_of`."""
        big = max(1, len(any_of))
        pairs = [(wire, big) for wire in (*self.true, *all_of)]
        pairs += [(wire, -big) for wire in self.false] + [(wire, 1) for wire in any_of]
        return builder.gate(pairs, big * (len(self.true) + len(all_of)) + 1)


def _leads(builder: Builder, value: Integer) -> list[_Lead]:
    found = []
    width = max(value.high, -value.low).bit_length()
    above = [at_least(builder, value, 2**j) for j in range(width + 1)]
    digits = binary(builder, value, width)
    for j in range(width):
        if above[j] != FALSE:
            found.append(_Lead(j, (above[j],), (above[j + 1],), digits))
    if value.low < 0:
        below = [at_least(builder, value, 1 - 2**j) for j in range(width + 1)]
        digits = binary(builder, -value, width)
        for j in range(width):
            if below[j] != TRUE:
                found.append(_Lead(j, (below[j + 1],), (below[j],), digits))
    return found


def _significand(builder: Builder, leads: Sequence[_Lead], p: int) -> Integer:
    """The rounded significand, 2**(p-1) to 2**p, or 0; three layers above the value."""
    kept: list[list[int]] = [[] for _ in range(p)]
    ups = []
    for lead in leads:
        shift = lead.place - p + 1
        for i in range(max(0, -shift), p):
            digit = [lead.digits[shift + i]] if i < p - 1 else []
            kept[i].append(builder.all_of([*lead.true, *digit], lead.false))
        if shift >= 1:
            tie_breakers = [lead.digits[shift], *lead.digits[: shift - 1]]
            ups.append(lead.gated_any(builder, [lead.digits[shift - 1]], tie_breakers))
    total = one_of(ups, [1] * len(ups))
    for i, wires in enumerate(kept):
        total = total + one_of(wires, [2**i] * len(wires))
    return total


def round_to_float(
    builder: Builder, value: Integer, exponent: Integer, fmt: FloatFormat, sign: int | None = None
) -> FloatWires:
    """The nearest number to value * 2**(exponent - bias), or to minus that.

    Args:
        builder: where the gates go.
        value: negative values only if `sign` is None.
        exponent: may have other digits than `value`.
        fmt: the format of the result.
        sign: true where the result is negative; None to take the sign of `value`.
    """
    leads = _leads(builder, value)
    significand = _significand(builder, leads, fmt.sig_bits)
    carry = at_least(builder, significand, 2**fmt.sig_bits)
    # A value of 0 gets an exponent so low that it counts as out of range.
    never = -(exponent.high + value.high.bit_length() + value.low.bit_length() + 2)
    width = max(value.high, -value.low).bit_length()
    steps = sorted({1 - 2**j for j in range(width)} | {2**j for j in range(width)})
    place = staircase(
        builder, value, lambda v: abs(v).bit_length() - fmt.sig_bits if v else never, steps
    )
    before = exponent + place
    beyond_half = [
        lead.gated_any(builder, [], lead.digits[: lead.place]) for lead in leads if lead.place
    ]
    if sign is None:
        sign = builder.not_(at_least(builder, value, 0))
    return finish_float(
        builder,
        fmt,
        sign,
        before + from_bits([carry]),
        [binary_digit(builder, significand, i) for i in range(fmt.sig_bits - 1)],
        before,
        beyond_half,
    )


def finish_float(
    builder: Builder,
    fmt: FloatFormat,
    sign: int,
    exponent: Integer,
    digits: Sequence[Integer],
    before: Integer,
    beyond_half: Sequence[int],
) -> FloatWires:
    """The code of a rounded number, two layers above `exponent`: largest number above the range, 0
    or the smallest below it.

    Args:
        builder: where the gates go.
        fmt: the format.
        sign: true where negative.
        exponent: of the rounded number.
        digits: of its significand without the leading one, as integers 0 or 1.
        before: the exponent before rounding; a number with -1 here is at least half the smallest.
        beyond_half: wires, at most one true: such a number is more than half the smallest.
    """
    fits = at_least(builder, exponent, 0)
    over = at_least(builder, exponent, 2**fmt.exp_bits)
    near = at_least(builder, before, -1)

    def unless_out(digit: Integer) -> int:
        constant, weights = digit.linear()
        return builder.gate([*weights.items(), (fits, 1), (over, 2)], 2 - constant)

    def when_nonzero(extra: Sequence[tuple[int, int]], threshold: int) -> int:
        nearly = [(wire, 1) for wire in (near, *beyond_half)]
        return builder.gate([(fits, 2), *nearly, *extra], threshold)

    return FloatWires(
        when_nonzero([(sign, 3)], 5),
        tuple(unless_out(binary_digit(builder, exponent, i)) for i in range(fmt.exp_bits)),
        (*map(unless_out, digits), when_nonzero([], 2)),
    )
