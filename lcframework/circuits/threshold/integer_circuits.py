"""Comparison, addition, multiplication and their iterated forms on unsigned integers.

Depths do not depend on the number of bits or of numbers: comparison 1, addition and iterated
addition 2, multiplication 3, iterated multiplication 5. Siu and Roychowdhury (1993) prove depth 2,
3 and 4 for iterated addition, multiplication and multiple product with small weights; here the
weights are large and iterated multiplication takes one layer more.
"""

from collections.abc import Sequence
from itertools import takewhile
from math import prod

from lcframework.circuits.threshold.builder import Builder
from lcframework.circuits.threshold.integers import (
    Digit,
    Integer,
    at_least,
    binary,
    from_bits,
    staircase,
)


def compare(builder: Builder, x: Sequence[int], y: Sequence[int]) -> int:
    """One gate: x >= y."""
    return at_least(builder, from_bits(x) - from_bits(y), 0)


def sum_of(numbers: Sequence[Sequence[int]]) -> Integer:
    """The sum of numbers given by their bits; costs no gates."""
    total = Integer(())
    for bits in numbers:
        total = total + from_bits(bits)
    return total


def iterated_add(builder: Builder, numbers: Sequence[Sequence[int]]) -> list[int]:
    """The digits of the sum of n numbers, depth 2."""
    total = sum_of(numbers)
    return binary(builder, total, total.high.bit_length())


def product_of(builder: Builder, x: Sequence[int], y: Sequence[int]) -> Integer:
    """x * y as a sum of partial products, depth 1."""
    total = Integer(())
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            total = total + from_bits([builder.all_of([a, b])]) * 2 ** (i + j)
    return total


def multiply(builder: Builder, x: Sequence[int], y: Sequence[int]) -> list[int]:
    """The digits of x * y, depth 3."""
    return binary(builder, product_of(builder, x, y), len(x) + len(y))


def iterated_product_of(builder: Builder, numbers: Sequence[Integer]) -> Integer:
    """The product of n non-negative integers, depth 3 above them.

    Chinese remainders (Beame, Cook and Hoover 1986; uniform: Hesse, Allender and Barrington 2002).
    For each prime q of a set whose product M exceeds every possible result: layer 1 finds each
    number, of which the discrete logarithm modulo q is a function; layer 2 finds the sum of the
    logarithms, of which the residue of the product is a function. With c_q the number that is 1
    modulo q and 0 modulo the other primes, S = sum of (c_q * residue mod M) is congruent to the
    product; layer 3 compares S with the multiples of M.
    """
    largest = prod(number.high for number in numbers)
    primes = primes_above(largest)
    modulus = prod(primes)
    total = Integer(())
    for q in primes:
        cofactor = modulus // q
        unit = cofactor * pow(cofactor, -1, q)
        residue = _product_modulo(builder, numbers, q)
        for digit, table in residue.parts:
            total = total + Integer(((digit, tuple(unit * v % modulus for v in table)),))
        total = total + unit * residue.constant % modulus
    excess = staircase(
        builder,
        total,
        lambda value: value // modulus * modulus,
        range(modulus, total.high + 1, modulus),
    )
    return total - excess


def iterated_multiply(builder: Builder, numbers: Sequence[Sequence[int]]) -> list[int]:
    """The digits of the product of n numbers given by their bits, depth 5."""
    width = prod(2 ** len(bits) - 1 for bits in numbers).bit_length()
    return binary(builder, iterated_product_of(builder, [from_bits(b) for b in numbers]), width)


def _product_modulo(builder: Builder, numbers: Sequence[Integer], q: int) -> Integer:
    """The product modulo a prime as one function of one thermometer; a single part, constant 0."""
    generator = _generator(q)
    logarithm = {pow(generator, k, q): k for k in range(q - 1)}
    zero = len(numbers) * (q - 2) + 1  # above every sum of logarithms: marks a factor 0
    logs = Integer(())
    for number in numbers:
        logs = logs + staircase(
            builder,
            _modulo(number, q),
            lambda value: logarithm.get(value % q, zero),
        )
    return staircase(
        builder, logs, lambda k: 0 if k >= zero else pow(generator, k, q), range(1, zero + 1)
    )


def _modulo(number: Integer, q: int) -> Integer:
    """A number congruent to `number` with small coefficients: linear, no gates."""
    parts: list[tuple[Digit, tuple[int, ...]]] = []
    for digit, table in number.parts:
        parts.append((digit, tuple(value % q for value in table)))
    return Integer(tuple(parts), number.constant % q)


def primes_above(bound: int) -> list[int]:
    """The smallest primes whose product exceeds `bound`."""
    primes: list[int] = []
    product, candidate = 1, 2
    while product <= bound:
        if all(candidate % p for p in takewhile(lambda p: p * p <= candidate, primes)):  # noqa: B023
            primes.append(candidate)
            product *= candidate
        candidate += 1
    return primes


def _generator(q: int) -> int:
    """A primitive root of the prime q."""
    return next(g for g in range(1, q) if len({pow(g, k, q) for k in range(q - 1)}) == q - 1)
