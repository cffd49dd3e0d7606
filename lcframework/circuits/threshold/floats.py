"""Floating-point numbers with a chosen number of bits, exactly, as fractions: the reference.

A number is 0 or +-m * 2**(e - bias) with a significand 2**(p-1) <= m < 2**p of p bits and an
exponent 0 <= e < 2**E of E bits. There are no subnormals, infinities or NaN. The paper's p-bit
numbers (arXiv 2411.07602, after Chiang 2025) are `FloatFormat.paper(p)`: E = p + 1, bias = 2**p.

Rounding is to the nearest number, ties to the even significand. The papers' behaviour outside the
range was not available; here it is the nearest number again: the largest, or below half the
smallest (that half included) 0. A quotient by 0 is 0 and the root of a negative number is 0.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from lcframework.circuits.threshold import elementary


@dataclass(frozen=True)
class FloatFormat:
    """A set of floating-point numbers; every operation returns the rounded exact result.

    Attributes:
        sig_bits: p, the leading bit included; at least 2.
        exp_bits: E; at least 1.
        bias: see above.
    """

    sig_bits: int
    exp_bits: int
    bias: int

    def __post_init__(self) -> None:
        if self.sig_bits < 2 or self.exp_bits < 1:
            raise ValueError(
                "a format needs at least 2 significand bits and 1 exponent bit, got "
                f"{self.sig_bits} and {self.exp_bits}"
            )

    @classmethod
    def paper(cls, p: int) -> "FloatFormat":
        """F_p: exponents from -2**p to 2**p - 1."""
        return cls(p, p + 1, 2**p)

    @classmethod
    def like_ieee(cls, sig_bits: int, exp_bits: int) -> "FloatFormat":
        """The range of the IEEE format's normal numbers, with one exponent more at either end."""
        return cls(sig_bits, exp_bits, 2 ** (exp_bits - 1) - 2 + sig_bits)

    @property
    def bits(self) -> int:
        """Wires of one number: sign, exponent, significand."""
        return 1 + self.exp_bits + self.sig_bits

    @property
    def smallest(self) -> Fraction:
        """The smallest positive number."""
        return Fraction(2) ** (self.sig_bits - 1 - self.bias)

    @property
    def largest(self) -> Fraction:
        """The largest number."""
        return (2**self.sig_bits - 1) * Fraction(2) ** (2**self.exp_bits - 1 - self.bias)

    def round(self, x: Fraction) -> Fraction:
        """The nearest number of the format."""
        size = abs(x)
        sign = -1 if x < 0 else 1
        if size <= self.smallest / 2:
            return Fraction(0)
        if size >= self.largest:
            return sign * self.largest
        # The unit of the last place in the binade of x, but never below the smallest number's.
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        if Fraction(2) ** exponent > size:
            exponent -= 1
        if size < self.smallest:
            return sign * self.smallest
        unit = Fraction(2) ** (exponent - self.sig_bits + 1)
        return sign * min(round(size / unit) * unit, self.largest)  # round(): ties to even

    # -- coding ------------------------------------------------------------------------------

    def encode(self, x: Fraction) -> tuple[bool, ...]:
        """Sign, exponent bits, significand bits, least significant first; 0 is all false."""
        if x == 0:
            return (False,) * self.bits
        exponent, m = 0, abs(x) * Fraction(2) ** self.bias
        while m >= 2**self.sig_bits:
            m, exponent = m / 2, exponent + 1
        if m.denominator != 1 or not 2 ** (self.sig_bits - 1) <= m or exponent >= 2**self.exp_bits:
            raise ValueError(f"{x} is not a number of {self}")
        return (
            x < 0,
            *(bool(exponent >> i & 1) for i in range(self.exp_bits)),
            *(bool(int(m) >> i & 1) for i in range(self.sig_bits)),
        )

    def decode(self, bits: Iterable[bool]) -> Fraction:
        """The number with this code.

        Raises:
            ValueError: not a code: another length, a leading significand bit 0 in a number that is
                not 0, or a minus sign on 0.
        """
        sign, *rest = (int(bool(bit)) for bit in bits)
        if len(rest) != self.bits - 1:
            raise ValueError(f"a code has {self.bits} bits, got {len(rest) + 1}")
        exponent = sum(bit << i for i, bit in enumerate(rest[: self.exp_bits]))
        m = sum(bit << i for i, bit in enumerate(rest[self.exp_bits :]))
        if m < 2 ** (self.sig_bits - 1) and (m or exponent or sign):
            raise ValueError(f"not a normalised code: sign {sign}, exponent {exponent}, m {m}")
        return (-1) ** sign * m * Fraction(2) ** (exponent - self.bias)

    def numbers(self) -> list[Fraction]:
        """Every number, ascending."""
        positive = [
            m * Fraction(2) ** (e - self.bias)
            for e in range(2**self.exp_bits)
            for m in range(2 ** (self.sig_bits - 1), 2**self.sig_bits)
        ]
        return [*(-x for x in reversed(positive)), Fraction(0), *positive]

    # -- operations --------------------------------------------------------------------------

    def add(self, x: Fraction, y: Fraction) -> Fraction:
        """x + y."""
        return self.round(x + y)

    def multiply(self, x: Fraction, y: Fraction) -> Fraction:
        """x * y."""
        return self.round(x * y)

    def divide(self, x: Fraction, y: Fraction) -> Fraction:
        """x / y, 0 if y is 0."""
        return self.round(x / y) if y else Fraction(0)

    def sum(self, numbers: Iterable[Fraction]) -> Fraction:
        """The sum of all numbers with one rounding at the end."""
        return self.round(sum(numbers, Fraction(0)))

    def product(self, numbers: Iterable[Fraction]) -> Fraction:
        """The product of all numbers with one rounding at the end."""
        return self.round(math.prod(numbers, start=Fraction(1)))

    def function(self, name: str, x: Fraction) -> Fraction:
        """The correctly rounded exp, sin, cos, sqrt or log of x.

        sqrt is 0 below 0, log is -largest at 0 and below.
        """
        if name == "sqrt" and x < 0:
            return Fraction(0)
        if name == "log" and x <= 0:
            return -self.largest
        if x == 0:
            return Fraction(int(name in ("exp", "cos")))
        if name == "exp" and abs(x) > 2 ** (self.exp_bits + 2) + self.bias:
            return self.largest if x > 0 else Fraction(0)
        quick = self._quick(name, x)
        if quick is not None:
            return quick
        bits = self.sig_bits + 16
        while True:
            low, high = elementary.FUNCTIONS[name](x, bits)
            if self.round(low) == self.round(high):
                return self.round(low)
            bits *= 2

    def _quick(self, name: str, x: Fraction) -> Fraction | None:
        """By the C library where its error of a few units in the 53rd bit cannot matter."""
        try:
            y = float(x)
            if Fraction(y) != x:
                return None
            value = Fraction(getattr(math, name)(y))
        except (OverflowError, ValueError):
            return None
        slack = abs(value) * Fraction(1, 2**48)
        low, high = self.round(value - slack), self.round(value + slack)
        return low if low == high and abs(value) > Fraction(1, 2**900) else None
