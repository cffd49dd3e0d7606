"""Makes circuits gate by gate: folds constants, shares equal gates, keeps what the outputs need."""

from collections.abc import Iterable, Sequence
from math import gcd

from lcframework.circuits.threshold.circuit import FALSE, TRUE, Circuit, Form
from lcframework.errors import CircuitError

MAX_GATES = 500_000
"""Largest circuit that is built unless more is asked for."""
MAX_WEIGHTS = 30_000_000
"""Most weights that are stored (a form's weights count once for all its gates): some gigabytes."""


class Builder:
    """A circuit under construction.

    Args:
        max_gates: a circuit that needs more is refused.
    """

    def __init__(self, max_gates: int = MAX_GATES) -> None:
        self.max_gates = max_gates
        self._names: list[str] = []
        self._forms: dict[Form, int] = {}
        self._gates: list[tuple[int, int]] = []
        self._known: dict[tuple[int, int], int] = {}
        self._weights = 0

    def input(self, name: str) -> int:
        """A new input; all inputs come before the first gate."""
        if self._gates:
            raise ValueError("inputs must be made before gates")
        self._names.append(name)
        return len(self._names) - 1

    def input_bits(self, name: str, width: int) -> list[int]:
        """Inputs `name0` (the least significant) to `name{width-1}`."""
        return [self.input(f"{name}{bit}") for bit in range(width)]

    def gate(self, weights: Iterable[tuple[int, int]], threshold: int) -> int:
        """The wire that is true where the weighted sum reaches `threshold`.

        Constant wires are folded, common factors divided out. A gate that is constant or equal to
        one of its inputs costs nothing, an equal gate is reused.

        Args:
            weights: (wire, weight) pairs; the weights of a wire that is named twice add up.
            threshold: see above.
        """
        return self.gates(weights, [threshold])[0]

    def gates(self, weights: Iterable[tuple[int, int]], thresholds: Iterable[int]) -> list[int]:
        """As `gate` for each of several thresholds of one weighted sum."""
        total: dict[int, int] = {}
        for wire, weight in weights:
            total[wire] = total.get(wire, 0) + weight
        shift = total.pop(TRUE, 0)
        total.pop(FALSE, None)
        terms = sorted((wire, weight) for wire, weight in total.items() if weight)
        low = shift + sum(weight for _, weight in terms if weight < 0)
        high = shift + sum(weight for _, weight in terms if weight > 0)
        factor = gcd(*(weight for _, weight in terms))
        form = -1
        wires = []
        for threshold in thresholds:
            if threshold <= low or threshold > high:
                wires.append(TRUE if threshold <= low else FALSE)
            elif len(terms) == 1 and terms[0][1] > 0:
                wires.append(terms[0][0])
            else:
                if form < 0:
                    one = Form(
                        tuple(wire for wire, _ in terms), tuple(w // factor for _, w in terms)
                    )
                    form = self._form(one)
                wires.append(self._wire(form, -((shift - threshold) // factor)))
        return wires

    def _form(self, form: Form) -> int:
        if form not in self._forms:
            self._weights += len(form.wires)
            if self._weights > MAX_WEIGHTS:
                raise CircuitError(
                    f"the circuit has more than {MAX_WEIGHTS:,} weights and would not fit into "
                    "memory. Ask for fewer bits or numbers."
                )
            self._forms[form] = len(self._forms)
        return self._forms[form]

    def _wire(self, form: int, threshold: int) -> int:
        key = (form, threshold)
        if key not in self._known:
            if len(self._gates) >= self.max_gates:
                raise CircuitError(
                    f"the circuit has more than {self.max_gates:,} gates. Ask for fewer bits or "
                    "numbers, or allow more with --max-gates (max_gates)."
                )
            self._gates.append(key)
            self._known[key] = len(self._names) + len(self._gates) - 1
        return self._known[key]

    def all_of(self, true: Iterable[int], false: Iterable[int] = ()) -> int:
        """AND of wires, those in `false` negated."""
        true = list(true)
        return self.gate(
            [*((wire, 1) for wire in true), *((wire, -1) for wire in false)], len(true)
        )

    def any_of(self, true: Iterable[int], false: Iterable[int] = ()) -> int:
        """OR of wires, those in `false` negated."""
        false = list(false)
        pairs = [*((wire, 1) for wire in true), *((wire, -1) for wire in false)]
        return self.gate(pairs, 1 - len(false))

    def not_(self, wire: int) -> int:
        """Negation."""
        return self.gate([(wire, -1)], 0)

    def finish(self, outputs: Sequence[tuple[str, int]]) -> Circuit:
        """The circuit of everything the outputs depend on, as few gates as were built for it."""
        n = len(self._names)
        forms = list(self._forms)
        live: set[int] = set()
        live_forms: set[int] = set()
        pending = [wire for _, wire in outputs if wire >= n]
        while pending:
            wire = pending.pop()
            if wire in live:
                continue
            live.add(wire)
            form = self._gates[wire - n][0]
            if form not in live_forms:
                live_forms.add(form)
                pending += [source for source in forms[form].wires if source >= n]
        new = {wire: wire for wire in range(n)}
        kept: dict[int, int] = {}
        gates = []
        for wire in sorted(live):
            form, threshold = self._gates[wire - n]
            gates.append((kept.setdefault(form, len(kept)), threshold))
            new[wire] = n + len(gates) - 1
        renamed = tuple(
            Form(tuple(new[wire] for wire in forms[form].wires), forms[form].weights)
            for form in kept
        )
        return Circuit(
            tuple(self._names),
            renamed,
            tuple(gates),
            tuple((name, new.get(wire, wire)) for name, wire in outputs),
        )
