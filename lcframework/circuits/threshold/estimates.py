"""Upper bounds on the number of gates, from sizes alone: what is refused before it is built.

Each bound follows its builder line by line; tests compare it with built circuits.
"""

from math import ceil, log2

from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.circuits.threshold.integer_circuits import primes_above


def binary_gates(width: int, digits: int) -> int:
    """`integers.binary` of a sum of so many digits: thresholds and one gate per output."""
    return width * (2 * digits + 1)


def iterated_multiply_gates(n: int, bits: int) -> int:
    """The product of n numbers of `bits` bits."""
    primes = primes_above((2**bits - 1) ** n)
    return (
        sum(n * bits * (q - 1) + n * max(q - 2, 0) + 1 for q in primes)
        + len(primes)
        + binary_gates(n * bits, len(primes) + 1)
    )


def round_gates(width: int, digits: int, signed: bool, exponent_digits: int, fmt: FloatFormat):
    """`rounding.round_to_float` of a number of `width` bits that is a sum of so many digits."""
    p, e = fmt.sig_bits, fmt.exp_bits
    per_sign = (width + 1) + binary_gates(width, digits) + width * (p + 2)
    return (
        (2 if signed else 1) * per_sign
        + (p - 1) * 2 * (p + 1)  # digits of the significand
        + e * 2 * (exponent_digits + 2)  # and of the exponent
        + 2  # carry, sign
        + finish_gates(fmt)
    )


def finish_gates(fmt: FloatFormat) -> int:
    """`rounding.finish_float` without the digits."""
    return 3 + fmt.bits


def float_at_least_gates(fmt: FloatFormat) -> int:
    """`float_circuits.float_at_least`."""
    return 4 * (fmt.bits - 1) + 1


def float_add_gates(fmt: FloatFormat) -> int:
    """`float_circuits.float_add`."""
    p = fmt.sig_bits
    reaches, shifted, larger = 2 * p + 4, 2 * (2 * p * (p + 2) + 2), 2 * fmt.exp_bits
    return reaches + shifted + larger + round_gates(2 * p + 3, 2 * p + 2, True, fmt.exp_bits, fmt)


def float_multiply_gates(fmt: FloatFormat) -> int:
    """`float_circuits.float_multiply`."""
    p = fmt.sig_bits
    return p * p + 3 + round_gates(2 * p, p * p, False, 2 * fmt.exp_bits, fmt)


def float_divide_gates(fmt: FloatFormat) -> int:
    """`float_circuits.float_divide`: exponential in the significand."""
    exponent_digits = 2 * fmt.exp_bits + 3
    return 2**fmt.sig_bits + 6 + fmt.exp_bits * 2 * (exponent_digits + 1) + finish_gates(fmt)


def float_sum_gates(fmt: FloatFormat, n: int) -> int:
    """`float_circuits.float_sum`: exponential in the exponent bits."""
    digits = n * fmt.sig_bits
    width = 2**fmt.exp_bits - 1 + fmt.sig_bits + ceil(log2(n)) if n > 1 else 2**fmt.exp_bits
    return digits * 2 * 2**fmt.exp_bits + round_gates(width, digits, True, 0, fmt)


def float_product_gates(fmt: FloatFormat, n: int) -> int:
    """`float_circuits.float_product`."""
    p = fmt.sig_bits
    primes = primes_above((2**p - 1) ** n)
    residues = sum(n * p * (q - 1) + n * max(q - 2, 0) + 1 for q in primes) + len(primes)
    rounding = round_gates(n * p, len(primes) + 1, False, n * fmt.exp_bits, fmt)
    return residues + rounding + n + 1


def float_function_gates(fmt: FloatFormat) -> int:
    """`float_circuits.float_function`: one gate per number at most, exponential in all bits."""
    return 2 ** (fmt.bits - 1) + fmt.bits


def attention_gates(fmt: FloatFormat, n: int, d: int) -> int:
    """`attention.attention_circuit`."""
    products, sums = attention_counts(n, d)
    return (
        products * float_multiply_gates(fmt)
        + sums["d"] * float_sum_gates(fmt, d)
        + sums["2"] * float_sum_gates(fmt, 2)
        + sums["n"] * float_sum_gates(fmt, n)
        + n * n * float_divide_gates(fmt)
        + (n * n + n * n * d) * float_function_gates(fmt)
        + n * n * d
    )


def attention_counts(n: int, d: int) -> tuple[int, dict[str, int]]:
    """(float products, float sums by their length) of one attention step as it is built."""
    products = n * d * d + n * n * (2 * d + d * d + d) + n * d * n + n * d * d
    return products, {"d": n * d + n * n * (d + 1) + n * d, "2": n * n * d, "n": n + n * d}
