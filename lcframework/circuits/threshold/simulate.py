"""One attention step by circuit and by exact float arithmetic, side by side."""

import random
import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lcframework.circuits.threshold.attention import (
    Weights,
    attention,
    attention_circuit,
    exact,
    rope_theta,
)
from lcframework.circuits.threshold.catalogue import CIRCUITS, Size, check, gate_bound
from lcframework.circuits.threshold.evaluate import Evaluator
from lcframework.errors import CircuitError


@dataclass(frozen=True)
class Simulation:
    """What came out.

    Attributes:
        size: of the step.
        samples: inputs tried.
        different: inputs on which circuit and arithmetic differ.
        depth: of the circuit.
        gates: of the circuit.
        bound: 7 (d_std + d_⊕) + d_△ + d_exp with the depths of these circuits.
        seconds: of the circuit's evaluation of all inputs.
    """

    size: Size
    samples: int
    different: int
    depth: int
    gates: int
    bound: int
    seconds: float

    def text(self) -> str:
        """A few lines for people."""
        s = self.size
        verdict = "equal on all of them" if not self.different else f"{self.different} DIFFER"
        rate = self.gates * self.samples / max(self.seconds, 1e-9)
        return (
            f"single-head RoPE attention, n = {s.n}, d = {s.dim}, p = {s.bits}: weights and angles "
            f"built in\n"
            f"circuit: depth {self.depth}, {self.gates:,} gates; "
            f"7 (d_std + d_⊕) + d_△ + d_exp = {self.bound} with the depths of these circuits\n"
            f"{self.samples:,} random inputs, circuit against exact float arithmetic: {verdict}\n"
            f"evaluated in {self.seconds:.2f} s, {rate:.3g} gates/s"
        )


def simulate_attention(p: int, n: int, d: int, samples: int, seed: int) -> Simulation:
    """Build the step for random weights and compare.

    Args:
        p: bits of the paper's floats.
        n: tokens.
        d: width.
        samples: random inputs.
        seed: of weights and inputs.

    Raises:
        CircuitError: impossible or too large a size.
    """
    size = Size(p, None, n, d)
    check("attention", size)
    if samples < 1:
        raise CircuitError(f"--samples {samples}: at least one input is needed.")
    bound = gate_bound("attention", size)
    if bound > 2_000_000:
        raise CircuitError(
            f"the step would have up to {bound:,} gates, more than the 2,000,000 that are "
            "simulated. Take fewer bits, tokens or channels."
        )
    fmt, rng = size.fmt, random.Random(seed)
    numbers = [x for x in fmt.numbers() if x == 0 or Fraction(1, 8) <= abs(x) <= 4]

    def draw(rows: int, columns: int) -> list[list[Fraction]]:
        return [[rng.choice(numbers) for _ in range(columns)] for _ in range(rows)]

    weights = Weights(draw(d, d), draw(d, d), draw(d, d), rope_theta(fmt, d))
    circuit = attention_circuit(fmt, n, d, weights, max_gates=2_000_000)
    inputs = [draw(n, d) for _ in range(samples)]
    codes = [[bit for row in X for x in row for bit in fmt.encode(x)] for X in inputs]
    evaluator = Evaluator(circuit)
    started = time.perf_counter()
    outputs = evaluator(np.array(codes, dtype=bool))
    seconds = time.perf_counter() - started
    different = 0
    for X, code in zip(inputs, outputs, strict=True):
        Y = attention(exact(fmt), X, weights.W_Q, weights.W_K, weights.W_V, weights.angles(fmt, n))
        want = [bit for row in Y for y in row for bit in fmt.encode(y)]
        different += code.tolist() != want
    depths = {name: entry.depth for name, entry in CIRCUITS.items()}
    std = max(depths[f"float-{name}"] for name in ("add", "multiply", "divide", "compare"))
    formula = 7 * (std + depths["float-sum"]) + depths["float-sin"] + depths["float-exp"]
    return Simulation(size, samples, different, circuit.depth, circuit.size, formula, seconds)
