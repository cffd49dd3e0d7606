"""Float operations as circuits, equal to `FloatFormat`'s, rounding included.

Depths, whatever the number of bits and of summands: compare 2, add 8, multiply 7, divide 3, sum of
n 7, product of n 9, any function of one number 2. Gates grow polynomially with p and E for
compare, add and multiply; the divider has about 2**p gates and a sum has 2**E * p * n, so that they
are meant for the small formats that models compute in. (The theory's polynomial-size division and
sums need Chinese remainders and grouping by exponent; they are cited, not built.)
"""

from collections.abc import Callable, Sequence
from fractions import Fraction

from lcframework.circuits.threshold.builder import Builder
from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.circuits.threshold.integer_circuits import iterated_product_of, product_of
from lcframework.circuits.threshold.integers import (
    Digit,
    Integer,
    at_least,
    binary,
    from_bits,
    one_of,
)
from lcframework.circuits.threshold.rounding import (
    FloatWires,
    finish_float,
    from_wires,
    round_to_float,
)


def input_float(builder: Builder, name: str, fmt: FloatFormat) -> FloatWires:
    """A float as inputs: name.sign, name.e0.., name.m0.. (least significant first)."""
    return FloatWires(
        builder.input(f"{name}.sign"),
        tuple(builder.input_bits(f"{name}.e", fmt.exp_bits)),
        tuple(builder.input_bits(f"{name}.m", fmt.sig_bits)),
    )


def float_at_least(builder: Builder, x: FloatWires, y: FloatWires) -> int:
    """x >= y, depth 2: sign times (exponent, significand) read as one integer orders the floats."""

    def key(number: FloatWires) -> Integer:
        total = Integer(())
        for i, wire in enumerate((*number.significand, *number.exponent)):
            plus = builder.all_of([wire], [number.sign])
            minus = builder.all_of([wire, number.sign])
            total = total + one_of([plus, minus], [2**i, -(2**i)])
        return total

    return at_least(builder, key(x) - key(y), 0)


def float_add(builder: Builder, x: FloatWires, y: FloatWires, fmt: FloatFormat) -> FloatWires:
    """x + y, depth 8, polynomially many gates.

    The number with the smaller exponent is shifted right by at most p + 1 places; further away it
    is less than a quarter of the other's last place and counts as one unit of the extended number.
    """
    guard = fmt.sig_bits + 1
    difference = from_bits(x.exponent) - from_bits(y.exponent)
    reaches = {d: at_least(builder, difference, d) for d in range(-guard, guard + 2)}

    def shifted(number: FloatWires, is_shift: Callable[[int], tuple[list[int], list[int]]]):
        total = Integer(())
        for bit, wire in enumerate(number.significand):
            wires, values = [], []
            for k in range(guard + 1):
                true, false = is_shift(k)
                for sign, signs in ((1, ([], [number.sign])), (-1, ([number.sign], []))):
                    wires.append(builder.all_of([*true, wire, *signs[0]], [*false, *signs[1]]))
                    values.append(sign * 2 ** (bit + guard - k))
            total = total + one_of(wires, values)
        true, false = is_shift(guard + 1)
        far = [
            builder.all_of([*true, number.nonzero], [*false, number.sign]),
            builder.all_of([*true, number.nonzero, number.sign], false),
        ]
        return total + one_of(far, [1, -1])

    def shift_of_x(k: int) -> tuple[list[int], list[int]]:
        if k == 0:
            return [reaches[0]], []
        if k > guard:
            return [], [reaches[-guard]]
        return [reaches[-k]], [reaches[1 - k]]

    def shift_of_y(k: int) -> tuple[list[int], list[int]]:
        if k == 0:
            return [], [reaches[1]]
        if k > guard:
            return [reaches[guard + 1]], []
        return [reaches[k]], [reaches[k + 1]]

    value = shifted(x, shift_of_x) + shifted(y, shift_of_y)
    larger = Integer((), -guard)
    for bit, (a, b) in enumerate(zip(x.exponent, y.exponent, strict=True)):
        chosen = [builder.all_of([reaches[0], a]), builder.all_of([b], [reaches[0]])]
        larger = larger + one_of(chosen, [2**bit] * 2)
    return round_to_float(builder, value, larger, fmt)


def float_multiply(builder: Builder, x: FloatWires, y: FloatWires, fmt: FloatFormat) -> FloatWires:
    """x * y, depth 7, polynomially many gates."""
    value = product_of(builder, x.significand, y.significand)
    exponent = from_bits(x.exponent) + from_bits(y.exponent) - fmt.bias
    return round_to_float(builder, value, exponent, fmt, _parity(builder, [x.sign, y.sign]))


def float_divide(builder: Builder, x: FloatWires, y: FloatWires, fmt: FloatFormat) -> FloatWires:
    """x / y (0 if y is 0), depth 3, about 2**p gates.

    Whether m_x / m_y lies above the middle of two neighbouring results is one gate each, because
    the middles are constants. A quotient of two p-bit significands is never such a middle.
    """
    p = fmt.sig_bits
    mx, my = from_bits(x.significand), from_bits(y.significand)
    half = 2 ** (p - 1)
    wires, results = [], [half]  # significands scaled so that those of a quotient >= 1 are doubled
    for m in range(half + 1, 2 * half + 1):
        wires.append(at_least(builder, mx * 4 * half - my * (2 * m - 1), 0))
        results.append(m)
    for m in range(half + 1, 2 * half):
        wires.append(at_least(builder, mx * 2 * half - my * (2 * m - 1), 0))
        results.append(2 * m)
    wires, results = _without_constants(wires, results)
    digit = Digit(tuple(wires))
    significand = [r if r < 2 * half else r // 2 for r in results]
    never = -(2 ** (fmt.exp_bits + 2))
    base = from_bits(x.exponent) - from_bits(y.exponent) + (fmt.bias - p)
    for number in (x, y):
        base = base + (from_bits([number.nonzero]) - 1) * -never
    exponent = base + Integer(((digit, tuple(int(r >= 2 * half) for r in results)),))
    at_least_one = at_least(builder, mx - my, 0)
    above_one = at_least(builder, mx - my, 1)
    beyond_half = builder.any_of([above_one], [at_least_one])
    return finish_float(
        builder,
        fmt,
        _parity(builder, [x.sign, y.sign]),
        exponent,
        [Integer(((digit, tuple(s >> i & 1 for s in significand)),)) for i in range(p - 1)],
        base + from_bits([at_least_one]),
        [beyond_half],
    )


def float_sum(builder: Builder, numbers: Sequence[FloatWires], fmt: FloatFormat) -> FloatWires:
    """The sum of n floats with one rounding, depth 7, about n * p * 2**E gates and more.

    Layer 1 places each significand bit in a fixed-point number that covers the whole range (as
    Kulisch's long accumulator), so that the exact sum is a linear form.
    """
    value = Integer(())
    for number in numbers:
        for bit, wire in enumerate(number.significand):
            wires, values = [], []
            for exponent in range(2**fmt.exp_bits):
                code = list(enumerate(number.exponent))
                true = [w for i, w in code if exponent >> i & 1] + [wire]
                false = [w for i, w in code if not exponent >> i & 1]
                wires.append(builder.all_of(true, [*false, number.sign]))
                wires.append(builder.all_of([*true, number.sign], false))
                values += [2 ** (exponent + bit), -(2 ** (exponent + bit))]
            value = value + one_of(wires, values)
    return round_to_float(builder, value, Integer(()), fmt)


def float_product(builder: Builder, numbers: Sequence[FloatWires], fmt: FloatFormat) -> FloatWires:
    """The product of n floats with one rounding, depth 9."""
    value = iterated_product_of(builder, [from_bits(one.significand) for one in numbers])
    exponent = Integer((), -fmt.bias * (len(numbers) - 1))
    for one in numbers:
        exponent = exponent + from_bits(one.exponent)
    sign = _parity(builder, [one.sign for one in numbers])
    return round_to_float(builder, value, exponent, fmt, sign)


def float_function(
    builder: Builder, x: FloatWires, fmt: FloatFormat, function: Callable[[Fraction], Fraction]
) -> FloatWires:
    """Any function of one float, depth 2, one gate per place where its value changes.

    Whether x reaches a constant is one gate, and every bit of the result is a linear form of the
    comparisons with the places where it changes.
    """
    numbers = fmt.numbers()
    results = [function(number) for number in numbers]
    magnitude = [(wire, 2**i) for i, wire in enumerate((*x.significand, *x.exponent))]
    big = 2 ** (fmt.sig_bits + fmt.exp_bits)
    wires, codes = [], [fmt.encode(results[0])]
    for number, before, after in zip(numbers[1:], results, results[1:], strict=False):
        if before == after:
            continue
        bits = fmt.encode(number)
        exponent, significand = bits[1 : 1 + fmt.exp_bits], bits[1 + fmt.exp_bits :]
        key = sum(bit << i for i, bit in enumerate((*significand, *exponent)))
        if number > 0:
            wires.append(builder.gate([*magnitude, (x.sign, -big)], key))
        else:
            negated = [(wire, -weight) for wire, weight in magnitude]
            wires.append(builder.gate([*negated, (x.sign, -big)], -key - big))
        codes.append(fmt.encode(after))
    wires, codes = _without_constants(wires, codes)
    digit = Digit(tuple(wires))
    outputs = [
        at_least(builder, Integer(((digit, tuple(int(code[i]) for code in codes)),)), 1)
        for i in range(fmt.bits)
    ]
    return from_wires(outputs, fmt)


def _without_constants(wires: list[int], values: list) -> tuple[list[int], list]:
    """A thermometer and its values without wires that are always true or always false."""
    start = sum(wire == -1 for wire in wires)
    stop = len(wires) - sum(wire == -2 for wire in wires)
    return wires[start:stop], values[start : stop + 1]


def _parity(builder: Builder, wires: Sequence[int]) -> int:
    total = Integer(())
    for wire in wires:
        total = total + from_bits([wire])
    return binary(builder, total, 1)[0]
