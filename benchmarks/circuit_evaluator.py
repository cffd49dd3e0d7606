"""Threshold circuits on many inputs: the bit-parallel evaluator in gates per second.

A gate counts once per input. Peers: the reference, gate by gate in Python's integers; and one dense
matrix product per layer (numpy's BLAS, float64, exact while sums stay below 2**53), the usual way
to evaluate a network of linear threshold units.

Run: python benchmarks/circuit_evaluator.py.
"""

import numpy as np
from harness import Row, compare, median_seconds, write_results

from lcframework.circuits.threshold.catalogue import Size, build
from lcframework.circuits.threshold.circuit import Circuit
from lcframework.circuits.threshold.evaluate import Evaluator

SAMPLES, REFERENCE_SAMPLES = 65536, 16
CASES = {
    "iterated-add, 64 numbers of 8 bits": ("iterated-add", Size(8, n=64)),
    "iterated-multiply, 8 numbers of 4 bits": ("iterated-multiply", Size(4, n=8)),
    "float-add, bfloat16": ("float-add", Size(8, exponent_bits=8)),
    "float-multiply, bfloat16": ("float-multiply", Size(8, exponent_bits=8)),
    "attention step, n = 2, d = 2, p = 2": ("attention", Size(2)),
}


class DenseLayers:
    """One float64 matrix product per layer.

    Args:
        circuit: its sums must stay below 2**53.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        inputs, layers = len(circuit.inputs), np.array(circuit.layers)
        self._steps = []
        for layer in range(1, circuit.depth + 1):
            gates = np.flatnonzero(layers == layer)
            forms = [circuit.forms[circuit.gates[wire - inputs][0]] for wire in gates]
            sources = np.array(sorted({wire for form in forms for wire in form.wires}))
            weights = np.zeros((len(gates), len(sources)))
            for row, form in enumerate(forms):
                weights[row, np.searchsorted(sources, form.wires)] = form.weights
            thresholds = np.array([circuit.gates[wire - inputs][1] for wire in gates], float)
            self._steps.append((gates, sources, weights, thresholds[:, None]))

    def __call__(self, values: np.ndarray, block: int = 4096) -> np.ndarray:
        """(S, I) to (S, O), as `Evaluator`."""
        return np.concatenate(
            [self._block(values[i : i + block]) for i in range(0, len(values), block)]
        )

    def _block(self, values: np.ndarray) -> np.ndarray:
        wires = np.zeros((len(self.circuit.inputs) + self.circuit.size, len(values)))
        wires[: len(self.circuit.inputs)] = values.T
        for gates, sources, weights, thresholds in self._steps:
            wires[gates] = weights @ wires[sources] >= thresholds
        return wires[[wire for _, wire in self.circuit.outputs]].T > 0.5


def measure(case: str, name: str, size: Size) -> list[Row]:
    """Ours and both peers on the same random inputs."""
    circuit = build(name, size)
    values = np.random.default_rng(0).random((SAMPLES, len(circuit.inputs))) < 0.5
    ours, dense = Evaluator(circuit), DenseLayers(circuit)
    assert circuit.weight_bits < 53
    assert (ours(values) == dense(values)).all()
    few = values[:REFERENCE_SAMPLES]
    assert [list(circuit.evaluate_one(row).values()) for row in few] == ours(few).tolist()
    work = circuit.size * SAMPLES
    fast = work / median_seconds(lambda: ours(values), repeats=7, warmup=2)
    blas = work / median_seconds(lambda: dense(values), repeats=5)
    slow_seconds = median_seconds(lambda: [circuit.evaluate_one(row) for row in few], repeats=3)
    slow = circuit.size * len(few) / slow_seconds
    text = f"{case}: {circuit.size:,} gates, depth {circuit.depth}, {circuit.wire_count:,} wires"
    return [
        compare(text, "throughput", "gates/s", fast, "matrix product per layer", blas),
        compare(text, "throughput", "gates/s", fast, "gate by gate in Python", slow),
    ]


def main() -> None:
    rows: list[Row] = []
    for case, (name, size) in CASES.items():
        rows += measure(case, name, size)
    write_results("circuit_evaluator", rows)


if __name__ == "__main__":
    main()
