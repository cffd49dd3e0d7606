"""Integer arithmetic in circuits against Python's integers; depths that do not grow."""

from math import prod

import pytest
from circuit_helpers import evaluate_integers, integer_circuit
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.circuits.threshold.builder import Builder
from lcframework.circuits.threshold.circuit import FALSE, TRUE
from lcframework.circuits.threshold.integer_circuits import (
    compare,
    iterated_add,
    iterated_multiply,
    multiply,
)
from lcframework.circuits.threshold.integers import (
    Digit,
    Integer,
    binary,
    from_bits,
    signed_from_bits,
    staircase,
)

SMALL = settings(deadline=None, max_examples=30)


@st.composite
def rows(draw, max_numbers, max_bits):
    """(widths, some rows of integers that fit, extremes first)."""
    widths = draw(st.lists(st.integers(1, max_bits), min_size=2, max_size=max_numbers))
    full = tuple(2**w - 1 for w in widths)
    random = st.tuples(*(st.integers(0, 2**w - 1) for w in widths))
    return widths, [full, (0,) * len(widths), *draw(st.lists(random, min_size=1, max_size=20))]


@SMALL
@given(rows(2, 40))
def test_compare(case):
    widths, numbers = case
    circuit = integer_circuit(lambda b, x: [compare(b, *x)], widths)
    assert circuit.size <= 1
    numbers = [*numbers, *((x, x % 2 ** widths[1]) for x, _ in numbers)]
    got = evaluate_integers(circuit, widths, numbers)
    assert got == [int(x >= y) for x, y in numbers]


@SMALL
@given(rows(7, 12))
def test_iterated_add(case):
    widths, numbers = case
    circuit = integer_circuit(iterated_add, widths)
    assert circuit.depth <= 2
    assert evaluate_integers(circuit, widths, numbers) == [sum(row) for row in numbers]


@SMALL
@given(rows(2, 9))
def test_multiply(case):
    widths, numbers = case
    circuit = integer_circuit(lambda b, x: multiply(b, *x), widths)
    assert circuit.depth <= 3
    assert evaluate_integers(circuit, widths, numbers) == [x * y for x, y in numbers]


@SMALL
@given(rows(5, 4))
def test_iterated_multiply(case):
    widths, numbers = case
    circuit = integer_circuit(iterated_multiply, widths)
    assert circuit.depth <= 5
    assert evaluate_integers(circuit, widths, numbers) == [prod(row) for row in numbers]


@pytest.mark.parametrize(
    ("make", "depth"),
    [
        (lambda b, x: [compare(b, x[0], x[1])], 1),
        (iterated_add, 2),
        (lambda b, x: multiply(b, x[0], x[1]), 3),
        (iterated_multiply, 5),
    ],
)
def test_depth_depends_neither_on_bits_nor_on_numbers(make, depth):
    for n, bits in ((2, 4), (2, 8), (4, 3), (7, 3), (12, 2)):
        assert integer_circuit(make, [bits] * n).depth == depth


@SMALL
@given(st.data())
def test_digits_of_any_sum_of_any_functions(data):
    """Bits, thermometers and one-of groups with negative and large tables, in two's complement."""
    builder = Builder()
    total, value_of = Integer((), data.draw(st.integers(-50, 50))), []
    widths = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    big = st.integers(-(2**40), 2**40)
    for k, width in enumerate(widths):
        wires = tuple(builder.input_bits(f"d{k}.", width))
        table = tuple(data.draw(st.lists(big, min_size=width + 1, max_size=width + 1)))
        exclusive = data.draw(st.booleans())
        total = total + Integer(((Digit(wires, exclusive), table),))
        value_of.append((exclusive, table))
    digits = binary(builder, total, 44)
    circuit = builder.finish([(f"o{i}", wire) for i, wire in enumerate(digits)])
    assert circuit.depth <= 2
    states = [data.draw(st.integers(0, width)) for width in widths]
    inputs, want = [], total.constant
    for (exclusive, table), width, state in zip(value_of, widths, states, strict=True):
        want += table[state]
        inputs += [(i == state if exclusive else i <= state) for i in range(1, width + 1)]
    assert total.low <= want <= total.high
    got = sum(bit << i for i, bit in enumerate(circuit.evaluate_one(inputs).values()))
    assert got == want % 2**44


def test_signed_numbers_and_constants():
    builder = Builder()
    bits = builder.input_bits("x", 3)
    doubled = binary(builder, signed_from_bits(bits) * 2 + from_bits([TRUE, FALSE, TRUE]), 6)
    circuit = builder.finish([(f"o{i}", wire) for i, wire in enumerate(doubled)])
    signed = [x - 8 if x > 3 else x for x in range(8)]
    assert evaluate_integers(circuit, [3], [(x,) for x in range(8)]) == [
        (2 * x + 5) % 64 for x in signed
    ]


def test_staircase_costs_one_gate_per_step():
    builder = Builder()
    number = from_bits(builder.input_bits("x", 5))
    squares = staircase(builder, number, lambda v: (v // 7) ** 2)
    circuit = builder.finish([(f"o{i}", w) for i, w in enumerate(binary(builder, squares, 5))])
    assert len(squares.parts[0][0].wires) == 4
    assert evaluate_integers(circuit, [5], [(x,) for x in range(32)]) == [
        (x // 7) ** 2 for x in range(32)
    ]
