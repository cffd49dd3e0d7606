"""The tasks that verdicts are about, and where they lie.

`complete` means complete for the class under AC0 reductions, so that a class below contains the
task only if the two classes are equal. `inside` means only that the class contains it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        title: in words.
        level: class it is in, see `verdicts.CLASSES`.
        complete: whether it is complete for that class.
        outside_ac0: known not to be in AC0, without any assumption.
        regular: whether it is a regular language (or the word problem of a finite group).
        cite: keys of references for the classification.
        note: what to know when measuring it.
    """

    title: str
    level: str
    complete: bool
    outside_ac0: bool
    regular: bool
    cite: tuple[str, ...]
    note: str = ""


CONTROL = "In TC0: a failure on it says something about learning or positions, not about the class."
SHORTCUT = (
    "A random formula is nearly decided by its topmost levels; use instances whose value is "
    "decided deep down."
)
TASKS: dict[str, Task] = {
    "parity": Task("parity of n bits", "TC0", False, True, True, ("parity-ac0",), CONTROL),
    "modular-addition": Task(
        "sum of n numbers modulo a fixed m", "TC0", False, True, True, ("shortcuts",), CONTROL
    ),
    "majority": Task("majority of n bits", "TC0", True, True, False, ("counting",), CONTROL),
    "solvable-group": Task(
        "word problem of a solvable group (Z60, A4 x Z5)",
        "TC0",
        False,
        True,
        True,
        ("shortcuts", "barrington"),
        CONTROL,
    ),
    "dyck": Task(
        "well-formed brackets (Dyck language)", "TC0", False, True, False, ("chiang",), CONTROL
    ),
    "iterated-addition": Task(
        "sum of n numbers of n bits", "TC0", False, True, False, ("siu", "hab"), CONTROL
    ),
    "iterated-multiplication": Task(
        "product of n numbers of n bits, division", "TC0", False, True, False, ("hab",), CONTROL
    ),
    "s5": Task(
        "word problem of S5: composition of n permutations of 5",
        "NC1",
        True,
        True,
        True,
        ("barrington",),
        "The sign of the product is parity: a model that learnt only parity answers better than "
        "chance. A5 does not leak it.",
    ),
    "a5": Task(
        "word problem of A5", "NC1", True, True, True, ("barrington",), "A5 is simple: no quotient."
    ),
    "bfvp": Task("Boolean formula value problem", "NC1", True, True, False, ("buss",), SHORTCUT),
    "arithmetic-formula": Task(
        "arithmetic formula evaluation over a fixed finite ring",
        "NC1",
        True,
        True,
        False,
        ("formulas", "buss"),
        "Products are biased to 0; print the majority class. " + SHORTCUT,
    ),
    "undirected-connectivity": Task(
        "is there a path in an undirected graph?",
        "L",
        True,
        True,
        False,
        ("connectivity", "log-depth"),
    ),
    "connectivity": Task(
        "is there a path in a directed graph?", "NL", True, True, False, ("connectivity",)
    ),
    "circuit-value": Task("Boolean circuit value problem", "P", True, True, False, ("ladner",)),
}
ALIASES = {
    "boolean-formula": "bfvp",
    "permutation-composition": "s5",
    "permutations": "s5",
    "formula": "arithmetic-formula",
    "st-connectivity": "connectivity",
    "mod-sum": "modular-addition",
    "division": "iterated-multiplication",
    "cvp": "circuit-value",
}
