"""One single-head RoPE attention step as a circuit, and the same in exact float arithmetic.

The operations and their order are those whose depth the paper counts (arXiv 2411.07602): scores
x_i W_Q R_(j-i) W_K^T x_j^T as four matrix products from the left, exp, row sums, division, then
times X and times W_V. Each product of two entries is rounded, each sum of n products once.

Legend: n tokens, d width (even), h = d / 2 rotation planes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lcframework.circuits.threshold.builder import MAX_GATES, Builder
from lcframework.circuits.threshold.circuit import Circuit
from lcframework.circuits.threshold.float_circuits import (
    float_divide,
    float_function,
    float_multiply,
    float_sum,
    input_float,
)
from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.circuits.threshold.rounding import FloatWires, constant_float

Matrix = list[list[Any]]


@dataclass(frozen=True)
class Arithmetic:
    """The four operations of an attention step, on fractions or on wires.

    Attributes:
        multiply: of two numbers.
        sum: of a list, one rounding.
        divide: of two numbers.
        function: exp, sin or cos by name.
        minus: negation, which is exact.
    """

    multiply: Callable[[Any, Any], Any]
    sum: Callable[[list[Any]], Any]
    divide: Callable[[Any, Any], Any]
    function: Callable[[str, Any], Any]
    minus: Callable[[Any], Any]


def exact(fmt: FloatFormat) -> Arithmetic:
    """On fractions of the format: the reference."""
    return Arithmetic(fmt.multiply, fmt.sum, fmt.divide, fmt.function, lambda x: -x)


def in_circuit(builder: Builder, fmt: FloatFormat) -> Arithmetic:
    """On wires: every call adds its circuit to the builder."""

    def minus(x: FloatWires) -> FloatWires:
        sign = builder.all_of([x.nonzero], [x.sign])
        return FloatWires(sign, x.exponent, x.significand)

    return Arithmetic(
        lambda x, y: float_multiply(builder, x, y, fmt),
        lambda numbers: float_sum(builder, numbers, fmt),
        lambda x, y: float_divide(builder, x, y, fmt),
        lambda name, x: float_function(builder, x, fmt, lambda v: fmt.function(name, v)),
        minus,
    )


def attention(
    a: Arithmetic, X: Matrix, W_Q: Matrix, W_K: Matrix, W_V: Matrix, angles: Sequence[Matrix]
) -> Matrix:
    """D^-1 A X W_V for one head.

    Args:
        a: the arithmetic.
        X: (n, d).
        W_Q: (d, d); W_K, W_V alike.
        W_K: see W_Q.
        W_V: see W_Q.
        angles: (h, n, n), the angle (j - i) * theta_k of plane k for tokens i and j.

    Returns:
        (n, d).
    """
    n, d = len(X), len(X[0])
    queries = matrix_product(a, X, W_Q)
    W_K_T, X_T = transpose(W_K), transpose(X)
    A = []
    for i in range(n):
        row = []
        for j in range(n):
            rotated = rotate(a, queries[i], [plane[i][j] for plane in angles])
            left = matrix_product(a, [rotated], W_K_T)
            column = [[X_T[k][j]] for k in range(d)]
            row.append(a.function("exp", matrix_product(a, left, column)[0][0]))
        A.append(row)
    weights = []
    for row in A:
        total = a.sum(row)
        weights.append([a.divide(one, total) for one in row])
    return matrix_product(a, matrix_product(a, weights, X), W_V)


def matrix_product(a: Arithmetic, left: Matrix, right: Matrix) -> Matrix:
    """One rounded product per pair, one rounded sum per entry."""
    columns = transpose(right)
    return [
        [a.sum([a.multiply(x, y) for x, y in zip(row, column, strict=True)]) for column in columns]
        for row in left
    ]


def rotate(a: Arithmetic, row: Sequence[Any], angles: Sequence[Any]) -> list[Any]:
    """row times the block-diagonal rotation by `angles`: two products and one sum per entry."""
    rotated = []
    for k, angle in enumerate(angles):
        x, y = row[2 * k], row[2 * k + 1]
        cos, sin = a.function("cos", angle), a.function("sin", angle)
        rotated.append(a.sum([a.multiply(x, cos), a.multiply(y, a.minus(sin))]))
        rotated.append(a.sum([a.multiply(x, sin), a.multiply(y, cos)]))
    return rotated


def transpose(matrix: Matrix) -> Matrix:
    """Rows to columns."""
    return [list(column) for column in zip(*matrix, strict=True)]


@dataclass(frozen=True)
class Weights:
    """What the circuit has built in; numbers of the format.

    Attributes:
        W_Q: (d, d).
        W_K: (d, d).
        W_V: (d, d).
        theta: h frequencies.
    """

    W_Q: Matrix
    W_K: Matrix
    W_V: Matrix
    theta: Sequence[Fraction]

    def angles(self, fmt: FloatFormat, n: int) -> list[Matrix]:
        """The rounded angles (j - i) * theta_k, (h, n, n)."""
        return [
            [[fmt.round((j - i) * theta) for j in range(n)] for i in range(n)]
            for theta in self.theta
        ]


def rope_theta(fmt: FloatFormat, d: int, base: float = 10_000.0) -> list[Fraction]:
    """base ** (-2k / d) for the d / 2 planes, rounded to the format."""
    return [fmt.round(Fraction(math.pow(base, -2 * k / d))) for k in range(d // 2)]


def attention_circuit(
    fmt: FloatFormat,
    n: int,
    d: int,
    weights: Weights | None = None,
    max_gates: int = MAX_GATES,
) -> Circuit:
    """The step as a circuit.

    Args:
        fmt: the numbers.
        n: tokens.
        d: width, even.
        weights: built in as constants, as in a trained model; None makes weights and angles inputs
            too, so that nothing is folded and depths are those of the general case.
        max_gates: see `Builder`.

    Returns:
        Inputs x{i}{k} (then, without `weights`, q, k, v entries and angles t{k}_{i}{j}); outputs
        y{i}{k}.
    """
    if n < 1 or d < 2 or d % 2:
        raise ValueError(f"an attention step needs n >= 1 and an even d >= 2, got n={n}, d={d}")
    builder = Builder(max_gates)

    def inputs(name: str, rows: int, columns: int) -> Matrix:
        return [
            [input_float(builder, f"{name}{i}{k}", fmt) for k in range(columns)]
            for i in range(rows)
        ]

    def constants(matrix: Matrix) -> Matrix:
        return [[constant_float(fmt.encode(x), fmt) for x in row] for row in matrix]

    X = inputs("x", n, d)
    if weights is None:
        W_Q, W_K, W_V = (inputs(name, d, d) for name in "qkv")
        angles = [inputs(f"t{k}_", n, n) for k in range(d // 2)]
    else:
        W_Q, W_K, W_V = (constants(one) for one in (weights.W_Q, weights.W_K, weights.W_V))
        angles = [constants(one) for one in weights.angles(fmt, n)]
    Y = attention(in_circuit(builder, fmt), X, W_Q, W_K, W_V, angles)
    names = [".sign", *(f".e{i}" for i in range(fmt.exp_bits))]
    names += [f".m{i}" for i in range(fmt.sig_bits)]
    return builder.finish(
        [
            (f"y{i}{k}{part}", wire)
            for i, row in enumerate(Y)
            for k, one in enumerate(row)
            for part, wire in zip(names, one.wires, strict=True)
        ]
    )
