"""Bit-parallel evaluation: 64 inputs per machine word, all gates of one shape at once.

A layer's gates are grouped by the multiset of their weights. For each linear form the weighted sum
is computed in bit slices (word k holds bit k of 64 sums) by a tree of full adders on whole numpy
arrays, then compared with the thresholds of all gates that read it. Nothing depends on the size of
the weights, which may exceed 64 bits. A weight is a signed sum of few powers of two (the
non-adjacent form); -2**k on x is 2**k on NOT x, with the threshold raised by 2**k.

Legend: S samples, I inputs, O outputs, W words of 64 samples, G gates, F fan-in.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcframework.circuits.threshold.circuit import TRUE, Circuit

Words = NDArray[np.uint64]
ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
WIRE_BYTES = 2**26
MAX_WORDS = 1024
"""Enough that numpy's cost per call does not count, few enough that arrays stay in the cache."""
MAX_GATHERED = 2**22
"""Words read at once: bounds the working memory at some hundred megabytes."""


@dataclass(frozen=True)
class _Group:
    """Gates of one layer whose forms have the same weights.

    Attributes:
        powers: (place, k, negated) for each power of two of each of F weights: the place's bit, or
            its complement, counts 2**k.
        sources: (forms, F) wires.
        form: (G,) row of `sources` each gate reads.
        thresholds: G positive thresholds, for the sum over `powers`.
        gates: (G,) wires the gates drive.
    """

    powers: tuple[tuple[int, int, bool], ...]
    sources: NDArray[np.int64]
    form: NDArray[np.int64]
    thresholds: tuple[int, ...]
    gates: NDArray[np.int64]


class Evaluator:
    """A circuit prepared for many inputs.

    Args:
        circuit: what to evaluate.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self._groups = _group(circuit)

    def __call__(self, values: NDArray[np.bool_], block: int | None = None) -> NDArray[np.bool_]:
        """Evaluate a batch.

        Args:
            values: (S, I) truth values in the order of `circuit.inputs`.
            block: samples evaluated at once; None for as many as keep all wires in `WIRE_BYTES`.

        Returns:
            (S, O) in the order of `circuit.outputs`.

        Raises:
            ValueError: `values` has another number of columns than the circuit has inputs.
        """
        values = np.asarray(values, dtype=bool)
        if values.ndim != 2 or values.shape[1] != len(self.circuit.inputs):
            raise ValueError(
                f"values must be (samples, {len(self.circuit.inputs)}), got {values.shape}"
            )
        if block is None:
            wires = len(self.circuit.inputs) + self.circuit.size
            block = 64 * max(1, min(MAX_WORDS, WIRE_BYTES // (8 * max(1, wires))))
        results = [
            self._block(values[start : start + block]) for start in range(0, len(values), block)
        ]
        empty = np.zeros((0, len(self.circuit.outputs)), dtype=bool)
        return np.concatenate(results) if results else empty

    def _block(self, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        samples, inputs = values.shape
        words = -(-samples // 64)
        padded = np.zeros((inputs, words * 64), dtype=bool)
        padded[:, :samples] = values.T
        wires = np.zeros((inputs + self.circuit.size, words), dtype=np.uint64)
        wires[:inputs] = np.packbits(padded, axis=1, bitorder="little").view(np.uint64)
        for group in self._groups:
            rows = max(1, MAX_GATHERED // (words * group.sources.shape[1]))
            for start in range(0, len(group.sources), rows):
                _evaluate(group, wires, start, start + rows)
        outputs = np.empty((len(self.circuit.outputs), words), dtype=np.uint64)
        for row, (_, wire) in enumerate(self.circuit.outputs):
            outputs[row] = wires[wire] if wire >= 0 else (ONES if wire == TRUE else 0)
        bits = np.unpackbits(outputs.view(np.uint8), axis=1, bitorder="little")
        return bits[:, :samples].T.astype(bool)


def _group(circuit: Circuit) -> list[_Group]:
    by_form: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for gate, (form, threshold) in enumerate(circuit.gates):
        by_form[form].append((len(circuit.inputs) + gate, threshold))
    shapes: dict[tuple, list[tuple[tuple[int, ...], list[tuple[int, int]]]]] = defaultdict(list)
    for form, gates in by_form.items():
        one = circuit.forms[form]
        order = sorted(range(len(one.wires)), key=lambda i: (one.weights[i], one.wires[i]))
        weights = tuple(one.weights[i] for i in order)
        layer = circuit.layers[gates[0][0]]
        shapes[layer, weights].append((tuple(one.wires[i] for i in order), gates))
    groups = []
    for (_, weights), forms in sorted(shapes.items(), key=lambda item: item[0][0]):
        powers = [
            (place, k, sign < 0)
            for place, weight in enumerate(weights)
            for k, sign in non_adjacent_form(weight)
        ]
        shift = sum(2**k for _, k, negated in powers if negated)
        flat = [(row, w, t + shift) for row, (_, gates) in enumerate(forms) for w, t in gates]
        groups.append(
            _Group(
                tuple(powers),
                np.array([wires for wires, _ in forms]),
                np.array([row for row, _, _ in flat]),
                tuple(threshold for _, _, threshold in flat),
                np.array([wire for _, wire, _ in flat]),
            )
        )
    return groups


def _evaluate(group: _Group, wires: Words, start: int, stop: int) -> None:
    """Set the wires of the gates that read forms start .. stop-1 of the group."""
    chosen = np.flatnonzero((group.form >= start) & (group.form < stop))
    if not len(chosen):
        return
    gathered = wires[group.sources[start:stop]]
    columns: dict[int, list[Words]] = defaultdict(list)
    for place, k, negated in group.powers:
        columns[k].append(~gathered[:, place] if negated else gathered[:, place])
    slices = bit_sliced_sum(columns)
    form = group.form[chosen] - start
    thresholds = [group.thresholds[index] for index in chosen]
    wires[group.gates[chosen]] = _reaches(slices, form, thresholds)


def non_adjacent_form(weight: int) -> list[tuple[int, int]]:
    """(k, +-1) with sum of +-2**k equal to `weight` and the fewest terms."""
    terms, k = [], 0
    while weight:
        if weight & 1:
            sign = 2 - (weight & 3)
            terms.append((k, sign))
            weight -= sign
        weight >>= 1
        k += 1
    return terms


def bit_sliced_sum(columns: dict[int, list[Words]]) -> list[Words]:
    """Bits of the sums of bits with weights, least significant first.

    Args:
        columns: for each k, arrays of words whose bits count 2**k; at least one array. Used up.

    Returns:
        Arrays of the same shape: bit k of each sample's sum.
    """
    columns = defaultdict(list, columns)
    bit, last = min(columns), max(columns)
    zero = np.zeros_like(columns[last][0])
    slices = [zero] * bit
    while bit <= last:
        column = columns[bit]
        while len(column) > 1:
            a, b = column.pop(), column.pop()
            half = a ^ b
            if column:
                c = column.pop()
                column.insert(0, half ^ c)
                columns[bit + 1].append((a & b) | (half & c))
            else:
                column.append(half)
                columns[bit + 1].append(a & b)
            last = max(last, bit + 1)
        slices.append(column[0] if column else zero)
        bit += 1
    return slices


def _reaches(slices: list[Words], form: NDArray[np.int64], thresholds: list[int]) -> Words:
    """(G, W): sum of the gate's form >= its threshold, from the least significant bit up."""
    shape = (len(form), slices[0].shape[1])
    reached = np.full(shape, ONES)
    for bit, plane in enumerate(slices):
        own = plane[form]
        ones = np.array([t >> bit & 1 for t in thresholds], dtype=bool)[:, None]
        reached = np.where(ones, reached & own, reached | own)
    if max(t.bit_length() for t in thresholds) > len(slices):
        reached[[t.bit_length() > len(slices) for t in thresholds]] = 0
    return reached
