"""The exact float reference: rounding, coding, elementary functions."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.circuits.threshold import elementary
from lcframework.circuits.threshold.floats import FloatFormat

FORMATS = [FloatFormat.paper(2), FloatFormat.paper(3), FloatFormat(4, 3, 5)]


@pytest.mark.parametrize("fmt", FORMATS)
def test_rounding_is_nearest_with_ties_to_even(fmt):
    numbers = fmt.numbers()
    assert numbers == sorted(set(numbers))
    for low, high in zip(numbers, numbers[1:], strict=False):
        middle, sliver = (low + high) / 2, (high - low) / 1000
        assert fmt.round(low) == low
        assert fmt.round(middle - sliver) == low
        assert fmt.round(middle + sliver) == high
        tie = fmt.round(middle)
        if 0 in (low, high):
            assert tie == 0
        else:
            assert tie in (low, high)
            assert _significand(fmt, tie) % 2 == 0


def _significand(fmt, x):
    bits = fmt.encode(x)[1 + fmt.exp_bits :]
    return sum(bit << i for i, bit in enumerate(bits))


def test_the_papers_format_has_its_range():
    fmt = FloatFormat.paper(3)
    assert (fmt.smallest, fmt.largest) == (Fraction(4, 2**8), 7 * 2**7)
    assert len(fmt.numbers()) == 2 * 4 * 2**4 + 1


@pytest.mark.parametrize("fmt", FORMATS)
def test_beyond_the_range_lies_the_nearest_number(fmt):
    assert fmt.round(fmt.largest * 100) == fmt.largest
    assert fmt.round(-fmt.largest * 100) == -fmt.largest
    assert fmt.round(fmt.smallest * Fraction(51, 100)) == fmt.smallest
    assert fmt.round(fmt.smallest / 2) == 0


@settings(max_examples=200)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_single_precision_is_numpys(x):
    import numpy as np

    fmt = FloatFormat.like_ieee(24, 8)
    half = FloatFormat.like_ieee(11, 5)
    assert fmt.round(Fraction(x)) == Fraction(x)
    if 2.0**-14 <= abs(x) <= 65504:
        assert half.round(Fraction(x)) == Fraction(float(np.float16(x)))


@pytest.mark.parametrize("fmt", FORMATS)
def test_codes_round_trip_and_others_are_refused(fmt):
    for number in fmt.numbers():
        assert fmt.decode(fmt.encode(number)) == number
    with pytest.raises(ValueError, match="not a number of"):
        fmt.encode(fmt.largest * 2)
    with pytest.raises(ValueError, match="not a number of"):
        fmt.encode(fmt.smallest * Fraction(3, 2) / 2**fmt.sig_bits)
    minus_zero = [True] + [False] * (fmt.bits - 1)
    with pytest.raises(ValueError, match="not a normalised code"):
        fmt.decode(minus_zero)
    with pytest.raises(ValueError, match="has .* bits"):
        fmt.decode([False])


def test_too_few_bits_are_refused():
    with pytest.raises(ValueError, match="at least 2 significand bits"):
        FloatFormat(1, 3, 0)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["exp", "sin", "cos", "sqrt", "log"]),
    st.fractions(-300, 300, max_denominator=10**6),
)
def test_elementary_functions_enclose_the_c_librarys_value(name, x):
    if name in ("sqrt", "log"):
        x = abs(x) + Fraction(1, 10**6)
    low, high = elementary.FUNCTIONS[name](x, 80)
    want = getattr(math, name)(float(x))
    tolerance = 1e-13 * max(abs(want), abs(float(x)) if name in ("sin", "cos") else 0, 1e-3)
    if name == "exp":
        tolerance = 1e-12 * want
    assert low <= high
    assert abs(float(low) - want) <= tolerance
    assert high - low <= Fraction(4, 2**80) * max(1, high)


@pytest.mark.parametrize("name", ["exp", "sin", "cos", "sqrt", "log"])
def test_the_quick_path_gives_the_reference(name, monkeypatch):
    fmt = FloatFormat.paper(3)
    quick = [fmt.function(name, x) for x in fmt.numbers()]
    monkeypatch.setattr(FloatFormat, "_quick", lambda *_: None)
    assert quick == [fmt.function(name, x) for x in fmt.numbers()]


def test_conventions():
    fmt = FloatFormat.paper(3)
    assert fmt.divide(Fraction(3), Fraction(0)) == 0
    assert fmt.function("sqrt", Fraction(-4)) == 0
    assert fmt.function("log", Fraction(0)) == -fmt.largest
    assert fmt.function("exp", fmt.largest) == fmt.largest
    assert fmt.function("exp", -fmt.largest) == 0
    assert fmt.function("cos", Fraction(0)) == 1
    # One rounding of the exact sum: left to right would lose the 1 twice.
    assert fmt.sum([Fraction(64), Fraction(1), Fraction(-64)]) == 1
    assert fmt.add(fmt.add(Fraction(64), Fraction(1)), Fraction(-64)) == 0
