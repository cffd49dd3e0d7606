"""Verdicts: the paper's theorem, its hypotheses, and what changes when one of them falls."""

import pytest

from lcframework.circuits.references import REFERENCES
from lcframework.circuits.setting import CHOICES, Setting
from lcframework.circuits.tasks import ALIASES, TASKS
from lcframework.circuits.verdicts import (
    CAVEATS,
    CLASSES,
    EXPRESSIBLE,
    NOT,
    OPEN,
    find_task,
    upper_bound_of,
    verdict,
)
from lcframework.errors import ConfigError

PAPER = Setting()


@pytest.mark.parametrize("task", ["bfvp", "arithmetic-formula"])
def test_the_theorem(task):
    found = verdict(task, PAPER)
    assert (found.answer, found.condition) == (NOT, "unless TC0 = NC1")
    assert "rope" in found.cite
    assert found.bound.level == "TC0"
    text = " ".join(found.hypotheses)
    for hypothesis in ("O(poly n) bits", "O(1) layers", "d <= O(n)"):
        assert hypothesis in text


@pytest.mark.parametrize("task", ["bfvp", "arithmetic-formula", "s5", "permutation-composition"])
def test_the_sibling_theorem_on_mamba(task):
    found = verdict(task, Setting(kind="mamba"))
    assert (found.answer, found.condition) == (NOT, "unless TC0 = NC1")
    assert "mamba" in found.cite


@pytest.mark.parametrize("task", ["parity", "modular-addition", "solvable-group", "dyck"])
def test_controls_are_expressible_with_a_construction_and_its_conditions(task):
    found = verdict(task, PAPER)
    assert found.answer == EXPRESSIBLE
    assert found.text == "expressible (conditions)"
    assert any("rotary positions alone" in text for text in found.conditions)
    assert REFERENCES[found.cite[0]].states


def test_an_upper_bound_alone_makes_nothing_expressible():
    found = verdict("iterated-multiplication", PAPER)
    assert found.answer == OPEN
    assert verdict("iterated-multiplication", Setting(padding="poly")).answer == EXPRESSIBLE


@pytest.mark.parametrize(
    ("setting", "task", "answer"),
    [
        ({"precision": "constant"}, "parity", NOT),
        ({"precision": "constant"}, "bfvp", NOT),
        ({"depth": "log"}, "s5", EXPRESSIBLE),
        ({"depth": "log"}, "bfvp", OPEN),
        ({"depth": "log", "padding": "poly"}, "bfvp", EXPRESSIBLE),
        ({"depth": "polylog", "padding": "poly"}, "connectivity", EXPRESSIBLE),
        ({"cot": "log"}, "bfvp", OPEN),
        ({"cot": "linear"}, "s5", EXPRESSIBLE),
        ({"cot": "linear"}, "bfvp", OPEN),
        ({"cot": "poly"}, "circuit-value", EXPRESSIBLE),
        ({"cot": "poly", "precision": "constant"}, "bfvp", EXPRESSIBLE),
        ({"cot": "poly", "causal": False}, "bfvp", OPEN),
        ({"kind": "mamba"}, "parity", OPEN),
        ({"kind": "mamba", "precision": "constant"}, "parity", NOT),
        ({"kind": "linear-rnn"}, "s5", EXPRESSIBLE),
        ({"kind": "linear-rnn"}, "bfvp", OPEN),
        ({"width": "poly"}, "bfvp", NOT),
        ({"uniformity": "none"}, "bfvp", NOT),
    ],
)
def test_when_a_hypothesis_changes(setting, task, answer):
    assert verdict(task, Setting(**setting)).answer == answer


def test_constant_precision_needs_no_condition():
    found = verdict("bfvp", Setting(precision="constant"))
    assert found.condition == ""
    assert found.bound.level == "AC0"
    assert "cot-circuits" in found.cite


def test_deeper_problems_fall_with_their_own_condition():
    assert verdict("connectivity", PAPER).condition == "unless TC0 = NL"
    assert verdict("circuit-value", PAPER).condition == "unless TC0 = P"
    assert verdict("circuit-value", Setting(depth="log")).condition == "unless TC1 = P"


def test_without_rope_the_rope_paper_is_not_cited():
    found = verdict("bfvp", Setting(rotary=False))
    assert "rope" not in found.cite and "chiang" in found.cite
    assert verdict("parity", Setting(rotary=False)).conditions == ()


def test_unknown_parts_make_everything_open():
    for task in TASKS:
        found = verdict(task, PAPER, unknown_parts=("warp drive",))
        assert found.answer == OPEN
        assert "warp drive" in found.reason


def test_extensions_become_a_hypothesis_of_a_negative_answer():
    found = verdict("bfvp", PAPER, extension_parts=("RMSNorm", "gated MLP"))
    assert "RMSNorm; gated MLP" in found.hypotheses[-1]
    assert (
        verdict("parity", PAPER, extension_parts=("RMSNorm",)).hypotheses
        == verdict("parity", PAPER).hypotheses
    )


def test_every_setting_has_consistent_verdicts():
    """Nothing is both constructed and excluded; every citation exists; answers have reasons."""
    import itertools

    names = ("precision", "depth", "cot", "padding")
    for kind in CHOICES["kind"]:
        for values in itertools.product(*(CHOICES[name] for name in names)):
            setting = Setting(kind=kind, **dict(zip(names, values, strict=True)))
            bound = upper_bound_of(setting)
            for name, task in TASKS.items():
                found = verdict(name, setting)
                assert found.answer in (EXPRESSIBLE, NOT, OPEN)
                assert found.reason
                assert all(key in REFERENCES for key in found.cite)
                if found.answer == EXPRESSIBLE and bound:
                    reached = CLASSES.index(bound.level) >= CLASSES.index(task.level)
                    assert reached or not task.complete, (name, setting)


def test_more_resources_never_take_an_expressible_task_away():
    order = {
        "precision": ("constant", "log", "poly"),
        "depth": ("constant", "log", "polylog", "poly"),
        "cot": ("none", "log", "linear", "poly"),
        "padding": ("none", "poly"),
    }
    for name, steps in order.items():
        for less, more in zip(steps, steps[1:], strict=False):
            for task in TASKS:
                if verdict(task, Setting(**{name: less})).answer == EXPRESSIBLE:
                    assert verdict(task, Setting(**{name: more})).answer == EXPRESSIBLE


def test_names_and_aliases():
    assert find_task("BFVP") == "bfvp"
    assert find_task("boolean-formula") == "bfvp"
    assert set(ALIASES.values()) <= set(TASKS)
    with pytest.raises(ConfigError, match="Did you mean 'parity'"):
        find_task("partiy")
    with pytest.raises(ConfigError, match="Known: parity"):
        find_task("chess")
    with pytest.raises(ConfigError, match="precision = 'much'"):
        Setting(precision="much")


def test_caveats_say_asymptotic_and_not_learnable():
    assert CAVEATS[0].startswith("Asymptotic")
    assert "not learnable" in CAVEATS[1]


def test_references_say_how_much_was_read():
    for key, one in REFERENCES.items():
        assert one.read in ("abstract", "quoted", "not read", "derived"), key
        assert one.who and one.title and one.where and one.states
    assert REFERENCES["rope"].read == "abstract"
