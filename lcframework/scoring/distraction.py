"""What distractors cost a model: the score against their number and kind and the gold passage's
place, the distraction gap, answer flips, calibration, two models beside each other. Pure functions
of scored rows.

A row is one answer: `task` ("gold only", "10 docs, gold at 4", "10 docs, no gold", the last two
also with the name of a kind of distractors, "10 docs, gold at 4, random"), `document` (question),
`score` in [0, 1] and `answer` (text), both None where none was written, and `gold_nats`, the loss
of the right answer per token.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lcframework.scoring.intervals import Interval, bootstrap_ratio
from lcframework.scoring.longbench.token_f1 import normalize
from lcframework.scoring.paired import score_difference

GOLD_ONLY = "gold only"
PLACE = re.compile(r"(\d+) docs, (?:gold at (\d+)|no gold)(?:, (\w+))?")
BINS = 5
Row = Mapping[str, Any]


class Place(NamedTuple):
    """Where a question's gold passage stands.

    Attributes:
        documents: their number, the gold passage included.
        gold_at: its place, from 0; None: it is left out.
        kind: name of the kind of distractors; "": the main kind.
    """

    documents: int
    gold_at: int | None
    kind: str = ""


def place_of(task: str) -> Place | None:
    """The place that a task is about; None for "gold only".

    Raises:
        ValueError: a task of another benchmark.
    """
    if task == GOLD_ONLY:
        return None
    found = PLACE.fullmatch(task)
    if found is None:
        raise ValueError(f"{task!r} is no task with distractors")
    return Place(int(found[1]), None if found[2] is None else int(found[2]), found[3] or "")


def heat_map(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean score and mean loss of the right answer by kind of distractors, number of documents and
    gold place, each with its 95% interval over questions.

    Returns:
        Rows of `documents`, `gold_at` (None: no gold passage), `kind`; `score`, `low`, `high` in
        percent over the `written` answers, None without any; `gold_nats` over all `n`. The gold
        passage alone is one document of the main kind.
    """
    grouped: dict[Place, list[Row]] = {}
    for row in rows:
        grouped.setdefault(place_of(row["task"]) or Place(1, 0), []).append(row)
    table = []
    order = {name: n for n, name in enumerate(dict.fromkeys(key.kind for key in grouped))}
    for key in sorted(grouped, key=lambda one: (order[one.kind], one.documents, _column(one))):
        own = grouped[key]
        scores = [100 * row["score"] for row in own if row["score"] is not None]
        found = bootstrap_ratio(scores, np.ones(len(scores))) if scores else None
        table.append(
            {
                **key._asdict(),
                "score": found and found.value, "low": found and found.low,
                "high": found and found.high, "written": len(scores),
                "gold_nats": float(np.mean([row["gold_nats"] for row in own])), "n": len(own),
            }
        )  # fmt: skip
    return table


def _column(place: Place) -> float:
    return float("inf") if place.gold_at is None else place.gold_at


def _among(rows: Sequence[Row]) -> dict[tuple[str, int], list[tuple[Row, Row]]]:
    """By kind and number of documents: each question alone with its gold passage, and among
    distractors; those without the one or the other are left out."""
    alone = {row["document"]: row for row in rows if place_of(row["task"]) is None}
    found: dict[tuple[str, int], list[tuple[Row, Row]]] = {}
    for row in rows:
        place = place_of(row["task"])
        if place and place.gold_at is not None and row["document"] in alone:
            key = place.kind, place.documents
            found.setdefault(key, []).append((alone[row["document"]], row))
    order = {name: n for n, name in enumerate(dict.fromkeys(kind for kind, _ in found))}
    return {key: found[key] for key in sorted(found, key=lambda one: (order[one[0]], one[1]))}


def gaps(rows: Sequence[Row], seed: int = 0) -> list[dict[str, Any]]:
    """By kind of distractors and number of documents: what the distractors cost, each question
    compared with itself.

    Returns:
        Rows of `kind`, `documents`; `gap` with `low`, `high`: score(gold only) - score(gold among
        distractors), percent points, mean over gold places; `nats_gap` with its ends: rise of the
        right answer's loss per token; `flips`: share in percent of the answers that are another
        text than with the gold passage alone; `lost` and `won`: share that turn from right (score
        above 0.5) to wrong, and back; `written` and `n`, the questions that the scores and the
        losses rest on. What is about scores is None where no answer was written.
    """
    table = []
    for (kind, documents), both in _among(rows).items():
        nats = score_difference(
            [alone["gold_nats"] for alone, _ in both], [row["gold_nats"] for _, row in both],
            [row["document"] for _, row in both], seed=seed,
        )  # fmt: skip
        table.append(
            {
                "kind": kind, "documents": documents, **_gap(_scored(both), seed),
                "nats_gap": nats.value, "nats_low": nats.low, "nats_high": nats.high, "n": nats.n,
            }
        )  # fmt: skip
    return table


def _scored(both: Sequence[tuple[Row, Row]]) -> list[tuple[Row, Row]]:
    return [(a, b) for a, b in both if a["score"] is not None and b["score"] is not None]


def gap_differences(
    first: Sequence[Row], second: Sequence[Row], seed: int = 0
) -> list[dict[str, Any]]:
    """Two models on the same questions: whether the second one's distraction gap is another.

    The paired bootstrap draws whole questions, with all their gold places and both models' answers.

    Args:
        first: rows of one model; `answer` is not needed.
        second: of the other; what only one of them has is left out.
        seed: of the draws.

    Returns:
        Rows of `kind`, `documents`; with `_low` and `_high` each `score` (second minus first among
        the distractors, points), `gap` (second one's gap minus the first's, points; below 0: the
        second suffers less), `nats` (the same of the right answer's loss per token); `written` and
        `n`, the questions that these rest on. None where no answer was written.
    """
    others = {(row["document"], row["task"]): row for row in second}
    have = [row for row in first if (row["document"], row["task"]) in others]
    table = []
    for (kind, documents), both in _among(have).items():
        quads = [(a, b, *(others[row["document"], row["task"]] for row in (a, b)))
                 for a, b in both]  # fmt: skip
        nats = _difference(quads, "gold_nats", -1.0, seed)
        scored = [four for four in quads if all(row["score"] is not None for row in four)]
        row: dict[str, Any] = {"kind": kind, "documents": documents}
        score = gap = None
        if scored:
            names = [four[1]["document"] for four in scored]
            score = score_difference(
                [100 * four[1]["score"] for four in scored],
                [100 * four[3]["score"] for four in scored], names, seed=seed,
            )  # fmt: skip
            gap = _difference(scored, "score", 100.0, seed)
        for name, found in (("score", score), ("gap", gap), ("nats", nats)):
            row |= {name: found and found.value, f"{name}_low": found and found.low,
                    f"{name}_high": found and found.high}  # fmt: skip
        table.append({**row, "written": gap.n if gap else 0, "n": nats.n})
    return table


def _difference(quads: Sequence[Sequence[Row]], name: str, scale: float, seed: int) -> Interval:
    """(alone - among) of the second model minus that of the first."""
    before = [scale * (alone[name] - among[name]) for alone, among, _, _ in quads]
    after = [scale * (alone[name] - among[name]) for _, _, alone, among in quads]
    return score_difference(before, after, [four[1]["document"] for four in quads], seed=seed)


def _gap(pairs: Sequence[tuple[Row, Row]], seed: int) -> dict[str, Any]:
    """What is about scores, of (gold passage alone, among distractors)."""
    if not pairs:
        return {**dict.fromkeys(("gap", "low", "high", "flips", "lost", "won")), "written": 0}
    gap = score_difference(
        [100 * b["score"] for _, b in pairs], [100 * a["score"] for a, _ in pairs],
        [b["document"] for _, b in pairs], seed=seed,
    )  # fmt: skip
    return {
        "gap": gap.value, "low": gap.low, "high": gap.high,
        "flips": _share(normalize(a["answer"]) != normalize(b["answer"]) for a, b in pairs),
        "lost": _share(a["score"] > 0.5 >= b["score"] for a, b in pairs),
        "won": _share(b["score"] > 0.5 >= a["score"] for a, b in pairs),
        "written": gap.n,
    }  # fmt: skip


def _share(found: Any) -> float:
    return 100 * float(np.mean(list(found)))


def calibration(rows: Sequence[Row], bins: int = BINS) -> tuple[list[dict[str, Any]], float]:
    """How often answers are right against the probability that the model gives to the right one
    (exp of minus its mean loss per token), in bins of equal width.

    Returns:
        Rows of `from`, `to`, `probability` (mean), `score` (mean), `n`, empty bins left out; and
        the expected calibration error: mean over the written answers of the bin's
        |probability - score|, NaN without any.
    """
    rows = [row for row in rows if row["score"] is not None]
    chance = np.exp(-np.array([row["gold_nats"] for row in rows], dtype=float))
    score = np.array([row["score"] for row in rows], dtype=float)
    place = np.minimum((chance * bins).astype(int), bins - 1)
    table, error = [], 0.0
    for one in range(bins):
        own = place == one
        if own.any():
            probability, right = float(chance[own].mean()), float(score[own].mean())
            table.append(
                {
                    "from": one / bins, "to": (one + 1) / bins, "probability": probability,
                    "score": right, "n": int(own.sum()),
                }
            )  # fmt: skip
            error += abs(probability - right) * own.mean()
    return table, float(error) if len(rows) else float("nan")
