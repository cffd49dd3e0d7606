"""What distractors cost, on answers made up so that the numbers are known."""

import math

import pytest

from lcframework.callbacks.distraction_report import draw_map
from lcframework.scoring.distraction import (
    calibration,
    gap_differences,
    gaps,
    heat_map,
    place_of,
)


def row(question, task, score, answer="x", nats=1.0):
    return {"document": question, "task": task, "score": score, "answer": answer,
            "gold_nats": nats}  # fmt: skip


ROWS = [
    row("a", "gold only", 1, "Rome", 0.5), row("b", "gold only", 1, "Oslo", 0.5),
    row("c", "gold only", 0, "?", 2.0),
    row("a", "10 docs, gold at 0", 1, "the Rome!", 0.75),
    row("a", "10 docs, gold at 9", 0, "Lima", 1.5),
    row("b", "10 docs, gold at 0", 0, "Lima", 0.75), row("b", "10 docs, gold at 9", 0, "Lima", 1.5),
    row("c", "10 docs, gold at 0", 1, "yes", 2.0), row("c", "10 docs, gold at 9", 0, "?", 2.0),
]  # fmt: skip


def test_gap_flips_and_map():
    (found,) = gaps(ROWS)
    assert found["documents"] == 10 and found["n"] == 3
    assert found["gap"] == pytest.approx(100 * (2 / 3 - 2 / 6))
    assert found["low"] <= found["gap"] <= found["high"]
    assert found["nats_gap"] == pytest.approx((0.25 + 1.0 + 0.25 + 1.0) / 6)
    assert found["flips"] == pytest.approx(100 * 4 / 6)  # "the Rome!" is the same answer
    assert found["lost"] == pytest.approx(100 * 3 / 6) and found["won"] == pytest.approx(100 / 6)
    table = heat_map(ROWS)
    assert [(one["documents"], one["gold_at"]) for one in table] == [(1, 0), (10, 0), (10, 9)]
    assert table[1]["score"] == pytest.approx(100 * 2 / 3) and table[2]["score"] == 0
    assert table[2]["gold_nats"] == pytest.approx(5 / 3)
    texts = [one.get_text() for one in draw_map(table).axes[0].texts]
    assert texts == ["67", "67", "0"]


def test_calibration():
    given = [("a", 1, 0.9), ("b", 0, 0.9), ("c", 0, 0.1)]
    rows = [row(name, "gold only", score, nats=-math.log(p)) for name, score, p in given]
    table, error = calibration(rows)
    assert [(one["n"], one["score"]) for one in table] == [(1, 0), (2, 0.5)]
    assert error == pytest.approx((0.1 + 2 * 0.4) / 3)
    assert calibration([row("a", "gold only", 1, nats=0.0)])[0][0]["to"] == 1


def test_tasks_of_other_benchmarks_are_refused():
    assert place_of("gold only") is None and place_of("30 docs, gold at 4") == (30, 4, "")
    with pytest.raises(ValueError, match="no task with distractors"):
        place_of("qasper")
    assert gaps([row("a", "10 docs, gold at 0", 1)]) == []  # nothing to compare with


def test_likelihood_alone_is_enough():
    rows = [{**one, "score": None, "answer": None} for one in ROWS]
    (found,) = gaps(rows)
    assert found["gap"] is None and found["written"] == 0 and found["n"] == 3
    assert found["nats_gap"] == pytest.approx((0.25 + 1.0 + 0.25 + 1.0) / 6)
    mixed = gaps(ROWS[:1] + rows[1:3] + ROWS[3:5] + rows[5:])[0]
    assert mixed["written"] == 1 and mixed["gap"] == pytest.approx(50) and mixed["n"] == 3
    table = heat_map(rows)
    assert table[1]["score"] is None and table[1]["written"] == 0
    assert [one.get_text() for one in draw_map(table).axes[0].texts] == ["1.00", "1.17", "1.67"]
    assert calibration(rows)[0] == []


KINDS = [
    row("a", "gold only", 1), row("b", "gold only", 1),
    row("a", "3 docs, gold at 0", 0), row("b", "3 docs, gold at 0", 1),
    row("a", "3 docs, gold at 0, random", 1), row("b", "3 docs, gold at 0, random", 1, "y"),
    row("a", "3 docs, no gold", 0), row("b", "3 docs, no gold", 1),
]  # fmt: skip


def test_kinds_of_distractors_stand_apart():
    assert place_of("3 docs, gold at 0, random") == (3, 0, "random")
    assert place_of("3 docs, no gold, random") == (3, None, "random")
    main, random = gaps(KINDS)
    assert (main["kind"], main["gap"]) == ("", 50) and (random["kind"], random["gap"]) == (
        "random",
        0,
    )
    assert random["flips"] == 50
    table = heat_map(KINDS)
    assert [(one["kind"], one["documents"], one["gold_at"], one["score"]) for one in table] == [
        ("", 1, 0, 100), ("", 3, 0, 50), ("", 3, None, 50), ("random", 3, 0, 100),
    ]  # fmt: skip
    figure = draw_map(table)
    panels = figure.axes[:2]
    assert [one.get_title() for one in panels] == ["main kind", "random"]
    assert [one.get_text() for one in panels[0].get_xticklabels()] == ["0", "none"]


def test_gaps_of_two_models_are_compared_question_by_question():
    def other(one, **changes):
        return {**one, **changes}

    second = [
        other(one, score=1, gold_nats=0.5) if one["task"].startswith("10") else one for one in ROWS
    ]
    (found,) = gap_differences(ROWS, second)
    # First: gaps 0.5, 1, -0.5 (mean of both places); second: 0, 0, -1.
    assert found["gap"] == pytest.approx(100 * ((0 + 0 - 1) - (0.5 + 1 - 0.5)) / 3)
    assert found["score"] == pytest.approx(100 * (1 - 2 / 6))
    nats = ((0 + 0 - 1.5) - (0.625 + 0.625 + 0)) / 3
    assert found["nats"] == pytest.approx(nats) and found["n"] == found["written"] == 3
    assert found["gap_low"] <= found["gap"] <= found["gap_high"] < 0
    (same,) = gap_differences(ROWS, ROWS)
    assert same["gap"] == same["gap_low"] == same["gap_high"] == same["nats"] == 0
    (one,) = gap_differences(ROWS, [r for r in second if r["document"] != "c"])
    assert one["n"] == 2 and one["gap"] == pytest.approx(-75)
    (silent,) = gap_differences(ROWS, [other(r, score=None) for r in second])
    assert silent["gap"] is None and silent["written"] == 0
    assert silent["nats"] == pytest.approx(nats)
    assert gap_differences(ROWS, []) == []
