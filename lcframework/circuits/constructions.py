"""Published constructions: which architecture does what, under which hypotheses."""

from collections.abc import Callable
from dataclasses import dataclass

from lcframework.circuits.setting import Setting
from lcframework.circuits.tasks import Task

OWN_POSITIONS = (
    "the construction adds position features of its own to the input; that rotary positions alone "
    "suffice is not shown in it"
)
HARD_ATTENTION = (
    "the theorem is about averaging-hard attention and masked pre-norm, not about softmax as it is"
)


@dataclass(frozen=True)
class Construction:
    """A lower bound.

    Attributes:
        covers: which tasks, by name and task.
        applies: which settings.
        cite: reference.
        text: what is constructed.
        conditions: what it needs beyond the setting.
    """

    covers: Callable[[str, Task], bool]
    applies: Callable[[Setting], bool]
    cite: str
    text: str
    conditions: tuple[str, ...] = ()


def _named(*names: str) -> Callable[[str, Task], bool]:
    return lambda name, task: name in names


def _plain(s: Setting) -> bool:
    """A fixed-depth softmax transformer with growing precision; more resources do no harm."""
    return s.kind == "transformer" and s.precision != "constant"


def _padded(depth: tuple[str, ...]) -> Callable[[Setting], bool]:
    return lambda s: (
        s.kind == "transformer"
        and s.padding == "poly"
        and s.depth in depth
        and s.precision != "constant"
    )


def _inside(*levels: str) -> Callable[[str, Task], bool]:
    return lambda name, task: task.level in levels


CONSTRUCTIONS = (
    Construction(
        _named("parity"),
        _plain,
        "parity-layers",
        "4 softmax layers compute parity, with or without causal mask",
        (OWN_POSITIONS,),
    ),
    Construction(
        _named("parity", "modular-addition", "solvable-group"),
        _plain,
        "shortcuts",
        "O(1) layers simulate every automaton whose groups are solvable",
        (OWN_POSITIONS, "the weights may depend on the length (not uniform)"),
    ),
    Construction(
        _named("dyck"),
        _plain,
        "chiang",
        "softmax transformers recognise Dyck languages (Yang and Chiang 2024, quoted there)",
        (OWN_POSITIONS,),
    ),
    Construction(
        _named("majority"),
        _plain,
        "counting",
        "softmax transformers express linear counting properties (C-RASP)",
    ),
    Construction(
        _inside("TC0"),
        _padded(("constant", "log", "polylog", "poly")),
        "padding",
        "with polynomially many padding tokens: all of FO-uniform TC0",
        (HARD_ATTENTION,),
    ),
    Construction(
        _inside("TC0", "NC1", "L", "NL"),
        _padded(("log", "polylog", "poly")),
        "padding",
        "padding and O(log n) loops: all of FO-uniform TC1, which contains NL",
        (HARD_ATTENTION,),
    ),
    Construction(
        lambda name, task: (
            task.regular or name == "undirected-connectivity" or name == "connectivity"
        ),
        lambda s: (
            s.kind == "transformer"
            and s.depth in ("log", "polylog", "poly")
            and s.precision != "constant"
        ),
        "log-depth",
        "depth Theta(log n) recognises every regular language and solves graph connectivity",
        ("looped middle layers, averaging-hard attention", "a graph in the encoding of the paper"),
    ),
    Construction(
        lambda name, task: task.regular,
        lambda s: (
            s.kind == "transformer"
            and s.causal
            and s.cot in ("linear", "poly")
            and s.precision != "constant"
        ),
        "cot-power",
        "linearly many decoding steps recognise every regular language",
        ("projected pre-norm", "a causal decoder that reads its own output"),
    ),
    Construction(
        _named("arithmetic-formula"),
        lambda s: (
            s.kind == "transformer" and s.causal and s.cot == "poly" and s.precision != "constant"
        ),
        "cot-arithmetic",
        "a transformer of constant size writes the derivation down step by step",
        ("a causal decoder that reads its own output",),
    ),
    Construction(
        _inside("AC0", "TC0", "NC1", "L", "NL", "P"),
        lambda s: (
            s.kind == "transformer" and s.causal and s.cot == "poly" and s.precision != "constant"
        ),
        "cot-power",
        "polynomially many decoding steps recognise exactly P",
        ("generalised pre-norm", "a causal decoder that reads its own output"),
    ),
    Construction(
        _inside("AC0", "TC0", "NC1", "L", "NL", "P"),
        lambda s: s.kind == "transformer" and s.causal and s.cot == "poly",
        "cot-circuits",
        "T steps of chain of thought solve what Boolean circuits of size T solve",
        (
            "embedding of size O(log n)",
            "the weights may depend on the length (not uniform)",
            "a causal decoder that reads its own output",
        ),
    ),
    Construction(
        lambda name, task: task.regular,
        lambda s: s.kind == "linear-rnn",
        "negative-eigenvalues",
        "transition matrices that are products of (identity minus an outer product) with "
        "eigenvalues in [-1, 1] give every regular language",
        ("enough such factors per token", "finite precision suffices"),
    ),
)
