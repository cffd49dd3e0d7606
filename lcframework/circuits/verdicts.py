"""What an architecture can compute: a task's class against the architecture's, with citations.

Three answers: expressible (a published construction applies), not expressible (unless two classes
that are believed different are equal, or without any condition), open. An upper bound alone never
makes a task expressible.
"""

from dataclasses import dataclass, replace
from difflib import get_close_matches

from lcframework.circuits.constructions import CONSTRUCTIONS, Construction
from lcframework.circuits.setting import Setting
from lcframework.circuits.tasks import ALIASES, TASKS, Task
from lcframework.errors import ConfigError

CLASSES = ("AC0", "TC0", "NC1", "L", "NL", "TC1", "NC", "P")
"""Each is contained in the next."""
EXPRESSIBLE, NOT, OPEN = "expressible", "not expressible", "open"
CAVEATS = (
    "Asymptotic: a statement about inputs of growing length n. At one fixed n, such as a context "
    "length, every function is finite and some network of this kind computes it.",
    "Expressible is not learnable: that weights exist does not say that training finds them.",
    "An upper bound holds for all weights; it does not say that a model reaches it.",
)


@dataclass(frozen=True)
class UpperBound:
    """A class that contains everything a setting computes.

    Attributes:
        level: one of `CLASSES`.
        cite: references.
        text: the statement.
        uses: hypotheses of the setting that it needs.
    """

    level: str
    cite: tuple[str, ...]
    text: str
    uses: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """An answer.

    Attributes:
        task: its name.
        answer: `EXPRESSIBLE`, `NOT` or `OPEN`.
        condition: for `NOT`: "unless TC0 = NC1", or "" if there is none.
        reason: one or two sentences.
        cite: references for the answer and the classification.
        hypotheses: what the answer needs, in words.
        bound: the upper bound, None if none is known.
        conditions: what a construction needs beyond the setting; part of `hypotheses`.
    """

    task: str
    answer: str
    condition: str
    reason: str
    cite: tuple[str, ...]
    hypotheses: tuple[str, ...]
    bound: UpperBound | None
    conditions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer as one phrase."""
        if self.conditions:
            return f"{self.answer} (conditions)"
        return f"{self.answer} {self.condition}".strip()


def upper_bound_of(setting: Setting) -> UpperBound | None:
    """The smallest class known to contain what the setting computes, None if none is known."""
    if setting.kind not in ("transformer", "mamba"):
        return None
    if setting.cot != "none":
        if setting.cot == "poly":
            text = "poly(n) decoding steps of a polynomial-time network"
            return UpperBound("P", ("cot-power",), text, ("precision", "cot"))
        return None
    if setting.depth == "constant":
        return _constant_depth(setting)
    levels = {"log": "TC1", "polylog": "NC", "poly": "P"}
    text = "so many constant-depth threshold circuits in series (counted here)"
    cite = ("rope", "here") if setting.kind == "transformer" else ("mamba", "here")
    return UpperBound(levels[setting.depth], cite, text, ("precision", "width", "depth"))


def _constant_depth(setting: Setting) -> UpperBound:
    uses = ("precision", "depth", "width", "uniformity")
    uniform = "DLOGTIME-uniform" if setting.uniformity == "dlogtime" else "non-uniform"
    padded = setting.padding != "none"
    if setting.kind == "mamba":
        text = f"Mamba of constant depth with poly(n) precision is in {uniform} TC0"
        return UpperBound("TC0", ("mamba", "illusion"), text, uses)
    if setting.precision == "constant":
        cite = ("cot-circuits", "fixed-precision-padding") if padded else ("cot-circuits",)
        text = "constant-depth transformers with constant-bit precision are in AC0"
        return UpperBound("AC0", cite, text, uses)
    cite = ("rope", "chiang") if setting.rotary else ("chiang",)
    text = f"constant-depth transformers with poly(n) precision are in {uniform} TC0"
    if setting.width == "poly":
        cite = (*cite, "here")
        text += " (the paper has d <= O(n); the counts here stay polynomial for d <= poly(n))"
    if padded:
        cite, text = (*cite, "padding"), text + ", padding included"
    return UpperBound("TC0", cite, text, uses)


def find_task(name: str) -> str:
    """The task's own name.

    Raises:
        ConfigError: there is no such task.
    """
    plain = ALIASES.get(name.lower(), name.lower())
    if plain not in TASKS:
        close = get_close_matches(plain, [*TASKS, *ALIASES], 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"there is no task {name!r}.{hint} Known: {', '.join(TASKS)}.")
    return plain


def verdict(
    name: str,
    setting: Setting,
    unknown_parts: tuple[str, ...] = (),
    extension_parts: tuple[str, ...] = (),
) -> Verdict:
    """Whether a setting can do a task.

    Args:
        name: a key of `tasks.TASKS` or an alias.
        setting: architecture and hypotheses.
        unknown_parts: parts of the model that nothing covers; they make every answer open.
        extension_parts: parts that the theorem does not treat and that are counted here; they
            become a hypothesis of a negative answer.

    Raises:
        ConfigError: an unknown task.
    """
    name = find_task(name)
    found = _answer(name, TASKS[name], setting, unknown_parts)
    hypotheses = found.hypotheses
    if found.answer == NOT and extension_parts:
        text = "the parts that the theorem does not treat have constant depth too (counted here): "
        hypotheses = (*hypotheses, text + "; ".join(extension_parts))
    return replace(found, cite=tuple(dict.fromkeys(found.cite)), hypotheses=hypotheses)


def _answer(name: str, task: Task, setting: Setting, unknown_parts: tuple[str, ...]) -> Verdict:
    bound = upper_bound_of(setting)
    if setting.kind == "unknown" or unknown_parts:
        parts = ", ".join(unknown_parts) or "its layers"
        reason = f"The model has parts that no theorem here covers: {parts}."
        return Verdict(name, OPEN, "", reason, task.cite, (), None)
    for one in CONSTRUCTIONS:
        if one.covers(name, task) and one.applies(setting):
            return _expressible(name, task, setting, one, bound)
    special = _without_condition(name, task, setting, bound)
    if special:
        return special
    if bound and task.complete and CLASSES.index(bound.level) < CLASSES.index(task.level):
        reason = (
            f"{task.title} is complete for {task.level}; {bound.text}. If such a network did it, "
            f"{bound.level} would contain {task.level}."
        )
        condition = f"unless {bound.level} = {task.level}"
        cite = (*bound.cite, *task.cite)
        return Verdict(name, NOT, condition, reason, cite, _used(setting, bound), bound)
    return _open(name, task, setting, bound)


def _used(setting: Setting, bound: UpperBound) -> tuple[str, ...]:
    words = setting.hypotheses()
    return tuple(f"{key} {words[key]}" for key in (*bound.uses, "cot", "padding"))


def _expressible(
    name: str, task: Task, setting: Setting, one: Construction, bound: UpperBound | None
) -> Verdict:
    words = setting.hypotheses()
    needs = [f"{key} {words[key]}" for key in ("precision", "depth", "cot", "padding")]
    conditions = tuple(c for c in one.conditions if setting.rotary or "rotary" not in c)
    cite, hypotheses = (one.cite, *task.cite), (*needs, *conditions)
    return Verdict(name, EXPRESSIBLE, "", f"{one.text}.", cite, hypotheses, bound, conditions)


def _without_condition(
    name: str, task: Task, setting: Setting, bound: UpperBound | None
) -> Verdict | None:
    if bound and bound.level == "AC0" and task.outside_ac0:
        reason = f"{bound.text}, and {task.title} is not in AC0."
        cite = (*bound.cite, "parity-ac0", *task.cite)
        return Verdict(name, NOT, "", reason, cite, _used(setting, bound), bound)
    if setting.kind == "mamba" and setting.precision == "constant" and name == "parity":
        reason = (
            "Linear recurrent networks of finite precision whose transition matrices have only "
            "positive eigenvalues, as Mamba's, cannot solve parity."
        )
        needs = (f"precision {setting.hypotheses()['precision']}",)
        return Verdict(name, NOT, "", reason, ("negative-eigenvalues",), needs, bound)
    return None


def _open(name: str, task: Task, setting: Setting, bound: UpperBound | None) -> Verdict:
    if bound:
        reason = (
            f"{bound.text} ({bound.level}), which does not exclude {task.title} "
            f"({task.level}); no construction for this architecture is known here."
        )
        if setting.kind == "mamba" and task.level == "TC0":
            reason += " Easier state tracking by Mamba is an open problem (Merrill et al. 2024)."
        cite = (*bound.cite, *task.cite)
        if setting.kind == "mamba" and task.regular:
            cite = (*cite, "ssm-languages")
        return Verdict(name, OPEN, "", reason, cite, _used(setting, bound), bound)
    reason = "No upper bound for this setting and no construction for this task are known here."
    return Verdict(name, OPEN, "", reason, task.cite, (), bound)
