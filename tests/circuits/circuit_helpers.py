"""What the tests of circuits share."""

import numpy as np

from lcframework.circuits.threshold.builder import Builder
from lcframework.circuits.threshold.evaluate import Evaluator
from lcframework.circuits.threshold.float_circuits import input_float


def to_int(bits):
    """Least significant bit first."""
    return sum(int(bit) << i for i, bit in enumerate(bits))


def to_bits(value, width):
    return [bool(value >> i & 1) for i in range(width)]


def integer_circuit(make, widths):
    """make(builder, list of bit lists) -> output wires."""
    builder = Builder()
    numbers = [builder.input_bits(f"x{i}.", width) for i, width in enumerate(widths)]
    return builder.finish([(f"o{i}", wire) for i, wire in enumerate(make(builder, numbers))])


def evaluate_integers(circuit, widths, rows):
    """Output of each row of integers, as an integer."""
    values = [[b for x, w in zip(row, widths, strict=True) for b in to_bits(x, w)] for row in rows]
    return [to_int(bits) for bits in Evaluator(circuit)(np.array(values, dtype=bool))]


def float_circuit(make, fmt, n):
    """make(builder, list of floats) -> FloatWires or one wire."""
    builder = Builder()
    numbers = [input_float(builder, f"x{i}", fmt) for i in range(n)]
    result = make(builder, numbers)
    wires = result.wires if hasattr(result, "wires") else (result,)
    return builder.finish([(f"o{i}", wire) for i, wire in enumerate(wires)])


def evaluate_floats(circuit, fmt, rows):
    """(samples, outputs) truth values for rows of fractions."""
    codes = [[bit for x in row for bit in fmt.encode(x)] for row in rows]
    return Evaluator(circuit)(np.array(codes, dtype=bool))
