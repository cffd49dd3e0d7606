"""Float circuits equal the exact reference: every input of small formats, samples of bfloat16."""

import itertools
import random
from fractions import Fraction

import pytest
from circuit_helpers import evaluate_floats, float_circuit
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.circuits.threshold.attention import (
    Weights,
    attention,
    attention_circuit,
    exact,
    rope_theta,
)
from lcframework.circuits.threshold.float_circuits import (
    float_add,
    float_at_least,
    float_divide,
    float_function,
    float_multiply,
    float_product,
    float_sum,
)
from lcframework.circuits.threshold.floats import FloatFormat

FORMATS = [FloatFormat.paper(2), FloatFormat.paper(3), FloatFormat(4, 3, 5), FloatFormat(2, 1, 1)]
BFLOAT16 = FloatFormat.like_ieee(8, 8)
# name: (circuit, reference, depth)
OPERATIONS = {
    "add": (lambda b, x, f: float_add(b, *x, f), lambda f, *x: f.add(*x), 8),
    "multiply": (lambda b, x, f: float_multiply(b, *x, f), lambda f, *x: f.multiply(*x), 7),
    "divide": (lambda b, x, f: float_divide(b, *x, f), lambda f, *x: f.divide(*x), 3),
    "sum": (lambda b, x, f: float_sum(b, x, f), lambda f, *x: f.sum(x), 7),
    "product": (lambda b, x, f: float_product(b, x, f), lambda f, *x: f.product(x), 9),
}


def check(fmt, name, rows):
    make, reference, depth = OPERATIONS[name]
    circuit = float_circuit(lambda b, x: make(b, x, fmt), fmt, len(rows[0]))
    assert circuit.depth == depth
    for row, code in zip(rows, evaluate_floats(circuit, fmt, rows), strict=True):
        assert fmt.decode(code) == reference(fmt, *row), (fmt, name, row)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_every_pair(fmt, name):
    check(fmt, name, list(itertools.product(fmt.numbers(), repeat=2)))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_every_comparison(fmt):
    rows = list(itertools.product(fmt.numbers(), repeat=2))
    circuit = float_circuit(lambda b, x: float_at_least(b, *x), fmt, 2)
    assert circuit.depth == 2
    assert evaluate_floats(circuit, fmt, rows)[:, 0].tolist() == [x >= y for x, y in rows]


@pytest.mark.parametrize("name", ["sum", "product"])
def test_every_triple(name):
    fmt = FloatFormat(2, 2, 2)
    check(fmt, name, list(itertools.product(fmt.numbers(), repeat=3)))


@pytest.mark.parametrize("name", ["exp", "sin", "cos", "sqrt", "log"])
@pytest.mark.parametrize("fmt", FORMATS[:3], ids=str)
def test_every_argument_of_a_function(fmt, name):
    circuit = float_circuit(
        lambda b, x: float_function(b, x[0], fmt, lambda v: fmt.function(name, v)), fmt, 1
    )
    assert circuit.depth == 2
    rows = [(x,) for x in fmt.numbers()]
    for (x,), code in zip(rows, evaluate_floats(circuit, fmt, rows), strict=True):
        assert fmt.decode(code) == fmt.function(name, x)


@st.composite
def near_pairs(draw):
    """Two bfloat16 numbers, often close or far apart by about the length of a significand."""
    number = st.tuples(st.booleans(), st.integers(0, 255), st.integers(128, 255))

    def value(negative, exponent, m):
        return (-1) ** negative * m * Fraction(2) ** (exponent - BFLOAT16.bias)

    x = draw(number)
    apart = draw(st.integers(-11, 11))
    y = draw(number | st.just((not x[0], min(max(x[1] + apart, 0), 255), x[2])))
    return [value(*one) if draw(st.integers(0, 9)) else Fraction(0) for one in (x, y)]


@settings(deadline=None, max_examples=2)
@given(st.lists(near_pairs(), min_size=120, max_size=120))
def test_bfloat16_arithmetic(rows):
    for name in ("add", "multiply", "divide", "product"):
        check(BFLOAT16, name, rows)


@pytest.mark.parametrize("name", ["add", "multiply", "divide"])
@pytest.mark.parametrize("bits", [(2, 2), (5, 5), (11, 5)])
def test_depth_does_not_depend_on_precision(name, bits):
    check_depth(name, FloatFormat.like_ieee(*bits), 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["add", "multiply"])
def test_depth_in_single_precision(name):
    check_depth(name, FloatFormat.like_ieee(24, 8), 2)


@pytest.mark.parametrize("name", ["sum", "product"])
@pytest.mark.parametrize("n", [2, 3, 6, 12])
def test_depth_does_not_depend_on_how_many(name, n):
    check_depth(name, FloatFormat.paper(2), n)


def check_depth(name, fmt, n):
    make, _, depth = OPERATIONS[name]
    assert float_circuit(lambda b, x: make(b, x, fmt), fmt, n).depth == depth


# -- the attention step -----------------------------------------------------------------------


def matrix(rng, values, rows, columns):
    return [[rng.choice(values) for _ in range(columns)] for _ in range(rows)]


def compare_attention(fmt, n, d, wired, samples):
    rng = random.Random(0)
    numbers = fmt.numbers()
    middle = [x for x in numbers if x == 0 or Fraction(1, 8) <= abs(x) <= 4]

    def draw(rows, columns, values=middle):
        return matrix(rng, values, rows, columns)

    fixed = Weights(draw(d, d), draw(d, d), draw(d, d), rope_theta(fmt, d))
    circuit = attention_circuit(fmt, n, d, fixed if wired else None)
    rows, wanted = [], []
    for k in range(samples):
        values = middle if k % 4 else numbers  # every fourth: overflow, underflow, 0 / 0
        X = draw(n, d, values)
        W = [fixed.W_Q, fixed.W_K, fixed.W_V]
        angles = fixed.angles(fmt, n)
        others = []
        if not wired:
            W = [draw(d, d, values) for _ in range(3)]
            angles = [draw(n, n, values) for _ in range(d // 2)]
            others = [x for one in (*W, *angles) for row in one for x in row]
        rows.append([*(x for row in X for x in row), *others])
        wanted.append([y for row in attention(exact(fmt), X, *W, angles) for y in row])
    for code, want in zip(evaluate_floats(circuit, fmt, rows), wanted, strict=True):
        got = [fmt.decode(code[k * fmt.bits : (k + 1) * fmt.bits]) for k in range(n * d)]
        assert got == want
    assert len({tuple(want) for want in wanted}) > samples // 2  # not one answer for everything
    return circuit


def test_attention_with_everything_as_input_equals_exact_float_arithmetic():
    circuit = compare_attention(FloatFormat.paper(2), 2, 2, wired=False, samples=200)
    multiply, add_n, divide, function = 7, 7, 3, 2
    products, row_sum = 6 * (multiply + add_n), add_n + divide
    assert circuit.depth == products + row_sum + function
    # The papers' formula with the depths of these circuits: d_std is the deepest of add 8,
    # multiply, divide, compare.
    assert circuit.depth <= 7 * (8 + add_n) + function + function


@pytest.mark.parametrize(("p", "n", "d"), [(3, 2, 2), (2, 3, 2), (2, 2, 4)])
def test_attention_with_built_in_weights_equals_exact_float_arithmetic(p, n, d):
    circuit = compare_attention(FloatFormat.paper(p), n, d, wired=True, samples=100)
    assert len(circuit.inputs) == n * d * FloatFormat.paper(p).bits
    assert circuit.depth <= 96


def test_rope_angles_depend_on_the_offset_alone():
    fmt = FloatFormat.paper(3)
    weights = Weights([], [], [], rope_theta(fmt, 4))
    (first, second) = weights.angles(fmt, 3)
    assert first == [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]
    assert second[0][1] == fmt.round(Fraction(1, 100))


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="even d"):
        attention_circuit(FloatFormat.paper(2), 2, 3)
