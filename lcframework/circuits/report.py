"""The calculator's answer for one model: lines, totals, formula, costs, verdicts."""

from dataclasses import dataclass
from typing import Any

from lcframework.circuits.architecture import Architecture, Attention
from lcframework.circuits.assemble import Line, assemble, totals
from lcframework.circuits.component import EXTENSION, UNKNOWN, Component
from lcframework.circuits.composition import Composition
from lcframework.circuits.costs import Cost, apply, explicit_costs
from lcframework.circuits.paper_parts import depth_formula
from lcframework.circuits.polynomial import Polynomial
from lcframework.circuits.precision import describe
from lcframework.circuits.references import REFERENCES
from lcframework.circuits.setting import Setting
from lcframework.circuits.symbols import TEXT
from lcframework.circuits.tasks import TASKS
from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.circuits.verdicts import CAVEATS, Verdict, verdict
from lcframework.errors import ConfigError

SURE = (
    "Lines tagged `paper` have the depth that the paper of the RoPE bounds gives them, as far as "
    "known: its body was not available, so each was derived again by counting levels. Compare them "
    "with the PDF before quoting. Lines tagged `extension` are counted here and in no paper. Sizes "
    "are upper bounds counted here; the papers state poly(n). Depths are for any weights, in "
    "series where the order could be shortened, and no lower bounds."
)


@dataclass(frozen=True)
class Report:
    """What is known of one model.

    Attributes:
        model: its structure.
        lines: components in order.
        total: all of them in series.
        length: n.
        fmt: precision of the arithmetic.
        costs: numbers for the symbols; None for the symbolic model.
        setting: hypotheses of the verdicts.
        verdicts: one per task.
        notes: what the reader should know of this model.
    """

    model: Architecture | Composition
    lines: list[Line]
    total: Component
    length: int
    fmt: FloatFormat
    costs: dict[str, Cost] | None
    setting: Setting
    verdicts: list[Verdict]
    notes: tuple[str, ...]

    @property
    def formula(self) -> Polynomial | None:
        """The paper's formula for so many layers; None if the model is no RoPE transformer."""
        if isinstance(self.model, Composition) or self.model.kind != "transformer":
            return None
        rotary = all(
            isinstance(block.mixer, Attention) and block.mixer.rotary
            for _, block in self.model.blocks
        )
        return depth_formula(self.model.layers) if rotary else None

    @property
    def family(self) -> str:
        """The model type."""
        return "composition" if isinstance(self.model, Composition) else self.model.family

    @property
    def unknown(self) -> tuple[tuple[str, str], ...]:
        """(part, why) of what was not understood."""
        return () if isinstance(self.model, Composition) else self.model.unknown

    def depth(self, depth: Polynomial) -> Polynomial:
        """A depth under the cost model."""
        return apply(depth, self.costs) if self.costs else depth

    def gates(self, size: Polynomial) -> Polynomial:
        """A size under the cost model, at this length if it is explicit."""
        if not self.costs:
            return size
        return apply(size, self.costs).substitute({"n": self.length})

    def record(self) -> dict[str, Any]:
        """Everything, for JSON."""
        total_depth, total_gates = self.depth(self.total.depth), self.gates(self.total.size)
        return {
            "model": self.model.name,
            "family": self.family,
            "kind": self.setting.kind,
            "parameters": self.total.parameters,
            "length": self.length,
            "precision": {"format": describe(self.fmt), "bits": self.fmt.bits},
            "cost_model": "explicit" if self.costs else "paper",
            "lines": [self._line(line) for line in self.lines],
            "total": {
                "depth": self.total.depth.text(TEXT),
                "depth_coefficients": self.total.depth.coefficients(),
                "depth_number": total_depth.number(),
                "size": self.total.size.text(TEXT),
                "size_coefficients": self.total.size.coefficients(),
                "size_degree_in_n": self.total.size.degree("n"),
                "gates_at_length": total_gates.number() if self.costs else None,
                "tag": self.total.tag,
            },
            "paper_formula": self.formula.text(TEXT) if self.formula else None,
            "costs": {
                symbol: {"depth": cost.depth, "gates": cost.gates, "source": cost.source}
                for symbol, cost in (self.costs or {}).items()
            },
            "setting": self.setting.record(),
            "hypotheses": self.setting.hypotheses(),
            "verdicts": [verdict_record(one) for one in self.verdicts],
            "unknown": [{"part": part, "why": why} for part, why in self.unknown],
            "notes": list(self.notes),
            "sure": SURE,
            "caveats": list(CAVEATS),
            "references": references(self.cited()),
        }

    def _line(self, line: Line) -> dict[str, Any]:
        one = line.component
        return {
            "where": line.where,
            "component": one.name,
            "times": line.times,
            "depth": one.depth.text(TEXT),
            "depth_coefficients": one.depth.coefficients(),
            "depth_number": self.depth(one.depth).number(),
            "size": one.size.text(TEXT),
            "gates_at_length": self.gates(one.size).number() if self.costs else None,
            "tag": one.tag,
            "checked": one.checked,
            "cite": list(one.cite),
            "how": one.how,
            "parameters": one.parameters,
        }

    def cited(self) -> list[str]:
        """Keys of every reference used, in order of use."""
        keys = [key for line in self.lines for key in line.component.cite]
        keys += [key for one in self.verdicts for key in one.cite]
        if self.costs:
            keys += ["siu", "goldmann"]
        return list(dict.fromkeys(keys))


def verdict_record(one: Verdict) -> dict[str, Any]:
    """For JSON."""
    return {
        "task": one.task,
        "title": TASKS[one.task].title,
        "class": TASKS[one.task].level,
        "complete": TASKS[one.task].complete,
        "answer": one.answer,
        "condition": one.condition,
        "reason": one.reason,
        "upper_bound": one.bound.level if one.bound else None,
        "hypotheses": list(one.hypotheses),
        "cite": list(one.cite),
        "note": TASKS[one.task].note,
        "caveats": list(CAVEATS),
    }


def references(keys: list[str]) -> dict[str, dict[str, str]]:
    """The references of these keys, for JSON."""
    return {
        key: {
            "who": REFERENCES[key].who,
            "title": REFERENCES[key].title,
            "where": REFERENCES[key].where,
            "states": REFERENCES[key].states,
            "read": REFERENCES[key].read,
        }
        for key in keys
    }


def model_setting(model: Architecture | Composition, **hypotheses: Any) -> Setting:
    """The setting of a model under hypotheses for what grows."""
    if isinstance(model, Composition):
        return Setting(kind=model.kind, **hypotheses)
    mixers = [block.mixer for _, block in model.blocks]
    causal = all(not isinstance(m, Attention) or m.causal for m in mixers)
    causal = causal and model.family not in ("esm", "esm2", "lcplm")
    rotary = all(isinstance(m, Attention) and m.rotary for m in mixers)
    return Setting(kind=model.kind, causal=causal, rotary=rotary, **hypotheses)


def covered_parts(lines: list[Line]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(unknown, extension) names of components, each once."""
    unknown, extensions = (
        tuple(dict.fromkeys(x.component.name for x in lines if x.component.tag == tag))
        for tag in (UNKNOWN, EXTENSION)
    )
    return unknown, extensions


def calculate(
    model: Architecture | Composition,
    fmt: FloatFormat,
    length: int | None = None,
    explicit: bool = False,
    **hypotheses: Any,
) -> Report:
    """Everything about one model.

    Args:
        model: from `read_model`.
        fmt: precision of the arithmetic.
        length: n; None for the longest input the model's configuration allows.
        explicit: numbers for the symbols where a circuit backs them.
        **hypotheses: of `Setting`: precision, depth, width, cot, padding, uniformity.

    Raises:
        ConfigError: no length is given and the configuration sets no bound, or an impossible one.
    """
    if length is None and model.max_length is None:
        raise ConfigError(
            f"{model.name}: the configuration sets no bound on the length. Give one with --length."
        )
    n = length if length is not None else int(model.max_length or 0)
    if n < 1:
        raise ConfigError(f"--length {n}: an input has at least one token.")
    lines = assemble(model)
    notes = [] if isinstance(model, Composition) else list(model.notes)
    if model.max_length is not None and n > model.max_length:
        notes.append(
            f"{n:,} tokens are more than the {model.max_length:,} that the configuration allows; "
            "the counts do not depend on that."
        )
    setting = model_setting(model, **hypotheses)
    if setting.precision != "constant":
        notes.append(
            f"{describe(fmt).split(':')[0]} is one fixed precision and gives the gates; the "
            f"verdicts let precision grow with n ({setting.precision}). Fixed formats: "
            "--precision-growth constant."
        )
    unknown, extensions = covered_parts(lines)
    costs = explicit_costs(fmt, max(n, model.widest), n) if explicit else None
    verdicts = [verdict(name, setting, unknown, extensions) for name in TASKS]
    return Report(model, lines, totals(lines), n, fmt, costs, setting, verdicts, tuple(notes))
