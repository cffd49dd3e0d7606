"""exp, sin, cos and sqrt of a fraction to any number of bits, with whole numbers only.

Each function returns an enclosing pair of fractions, so that a correctly rounded result can be
found by asking for more bits until both ends round alike (the reference of the circuits' tables).
"""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import isqrt

Enclosure = tuple[Fraction, Fraction]


@cache
def _ln2(bits: int) -> int:
    """floor-like ln 2 * 2**bits, within 2**-8: ln 2 = sum of 1 / (k 2**k)."""
    work = bits + 16
    total, power, k = 0, 2**work, 1
    while power := power >> 1:
        total += power // k
        k += 1
    return total >> 16


@cache
def pi(bits: int) -> int:
    """pi * 2**bits within one unit (Machin: 16 arctan(1/5) - 4 arctan(1/239))."""
    work = bits + 16

    def arctan_inverse(x: int) -> int:
        total, power, k = 0, 2**work // x, 0
        while power:
            total += (-1) ** k * (power // (2 * k + 1))
            power //= x * x
            k += 1
        return total

    return (16 * arctan_inverse(5) - 4 * arctan_inverse(239)) >> 16


def _taylor(r: int, bits: int, first: int, step: int, alternate: bool) -> int:
    """Sum of r**k / k! for k = first, first + step, ...; r and the result scaled by 2**bits."""
    term, total, k = 2**bits, 0, 0
    sign = 1
    while term:
        if k % step == first % step:
            total += sign * term
            sign = -sign if alternate else sign
        k += 1
        term = term * r // (k << bits)
    return total


def exp(x: Fraction, bits: int) -> Enclosure:
    """exp(x) to relative error 2**-bits.

    Args:
        x: any fraction; time grows with its size only through the exponent of the result.
        bits: wanted bits.
    """
    work = bits + 24 + max(0, abs(x.numerator // x.denominator).bit_length())
    scaled = (x.numerator << work) // x.denominator
    k = scaled // _ln2(work)
    r = scaled - k * _ln2(work)  # 0 <= r < ln 2
    value = Fraction(_taylor(r, work, 0, 1, False), 2**work)
    error = Fraction(1, 2 ** (bits + 2))
    return tuple(  # type: ignore[return-value]
        (value * (1 + sign * error)) * Fraction(2) ** k for sign in (-1, 1)
    )


def _sine(x: Fraction, bits: int, quarter: int) -> Enclosure:
    """sin(x + quarter * pi / 2) within 2**-bits, absolute."""
    work = bits + 24 + max(0, abs(x.numerator // x.denominator).bit_length())
    scaled = (x.numerator << work) // x.denominator
    half_pi = pi(work) // 2
    k = scaled // half_pi
    r = scaled - k * half_pi  # 0 <= r < pi / 2
    turn = (k + quarter) % 4
    value = _taylor(r, work, turn % 2 == 0, 2, True)
    sign = -1 if turn >= 2 else 1
    middle, error = Fraction(sign * value, 2**work), Fraction(1, 2 ** (bits + 2))
    return middle - error, middle + error


def sin(x: Fraction, bits: int) -> Enclosure:
    """sin(x) within 2**-bits, absolute."""
    return _sine(x, bits, 0)


def cos(x: Fraction, bits: int) -> Enclosure:
    """cos(x) within 2**-bits, absolute."""
    return _sine(x, bits, 1)


def sqrt(x: Fraction, bits: int) -> Enclosure:
    """sqrt(x) to relative error 2**-bits for x >= 0; both ends equal where it is exact."""
    if x == 0:
        return x, x
    shift = 2 * bits + 2 * x.denominator.bit_length()
    scaled = (x.numerator << shift) // x.denominator
    root = isqrt(scaled)
    exact = root * root == scaled and scaled * x.denominator == x.numerator << shift
    unit = Fraction(1, 2 ** (shift // 2))
    return root * unit, (root if exact else root + 1) * unit


def log(x: Fraction, bits: int) -> Enclosure:
    """ln(x) within 2**-bits, absolute, for x > 0: x = m * 2**k, ln m by the series of artanh."""
    work = bits + 24
    k = x.numerator.bit_length() - x.denominator.bit_length()
    work += abs(k).bit_length()
    m = x / Fraction(2) ** k  # 1/2 < m < 2
    z = ((m - 1) / (m + 1)).limit_denominator(2 ** (2 * work)) if m != 1 else Fraction(0)
    scaled = (z.numerator << work) // z.denominator
    total, power, j = 0, scaled, 1
    while power not in (0, -1):
        total += power // j
        power = power * scaled >> work
        power = power * scaled >> work
        j += 2
    middle = Fraction(2 * total + k * _ln2(work), 2**work)
    error = Fraction(1, 2 ** (bits + 2))
    return middle - error, middle + error


FUNCTIONS: dict[str, Callable[[Fraction, int], Enclosure]] = {
    "exp": exp,
    "sin": sin,
    "cos": cos,
    "sqrt": sqrt,
    "log": log,
}
