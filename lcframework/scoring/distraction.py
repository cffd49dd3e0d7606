"""What distractors cost a model: the score against their number and the gold passage's place, the
distraction gap, answer flips, calibration. Pure functions of scored rows.

A row is one answer: `task` ("gold only" or "10 docs, gold at 4"), `document` (the question),
`score` in [0, 1] and `answer` (text), both None where none was written, and `gold_nats`, the loss
of the right answer per token.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lcframework.scoring.intervals import bootstrap_ratio
from lcframework.scoring.longbench.token_f1 import normalize
from lcframework.scoring.paired import score_difference

GOLD_ONLY = "gold only"
PLACE = re.compile(r"(\d+) docs, gold at (\d+)")
BINS = 5
Row = Mapping[str, Any]


def place_of(task: str) -> tuple[int, int] | None:
    """(documents, place of the gold passage) of a task; None for "gold only".

    Raises:
        ValueError: a task of another benchmark.
    """
    if task == GOLD_ONLY:
        return None
    found = PLACE.fullmatch(task)
    if found is None:
        raise ValueError(f"{task!r} is no task with distractors")
    return int(found[1]), int(found[2])


def heat_map(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean score and mean loss of the right answer by number of documents and gold place, each with
    its 95% interval over questions.

    Returns:
        Rows of `documents`, `gold_at`; `score`, `low`, `high` in percent over the `written`
        answers, None without any; `gold_nats` over all `n`.
    """
    table = []
    for key in sorted({place_of(row["task"]) or (1, 0) for row in rows}):
        own = [row for row in rows if (place_of(row["task"]) or (1, 0)) == key]
        scores = [100 * row["score"] for row in own if row["score"] is not None]
        found = bootstrap_ratio(scores, np.ones(len(scores))) if scores else None
        table.append(
            {
                "documents": key[0], "gold_at": key[1],
                "score": found and found.value, "low": found and found.low,
                "high": found and found.high, "written": len(scores),
                "gold_nats": float(np.mean([row["gold_nats"] for row in own])), "n": len(own),
            }
        )  # fmt: skip
    return table


def gaps(rows: Sequence[Row], seed: int = 0) -> list[dict[str, Any]]:
    """By number of documents: what the distractors cost, each question compared with itself.

    Returns:
        Rows of `documents`; `gap` with `low`, `high`: score(gold only) - score(gold among
        distractors), percent points, mean over gold places; `nats_gap` with its ends: rise of the
        right answer's loss per token; `flips`: share in percent of the answers that are another
        text than with the gold passage alone; `lost` and `won`: share that turn from right (score
        above 0.5) to wrong, and back; `written` and `n`, the questions that the scores and the
        losses rest on. What is about scores is None where no answer was written.
    """
    alone = {row["document"]: row for row in rows if place_of(row["task"]) is None}
    table = []
    for documents in sorted({p[0] for row in rows if (p := place_of(row["task"]))}):
        own = [
            row for row in rows
            if (p := place_of(row["task"])) and p[0] == documents and row["document"] in alone
        ]  # fmt: skip
        if not own:
            continue
        names = [row["document"] for row in own]
        nats = score_difference(
            [alone[name]["gold_nats"] for name in names], [row["gold_nats"] for row in own], names,
            seed=seed,
        )  # fmt: skip
        pairs = [
            (alone[row["document"]], row) for row in own
            if row["score"] is not None and alone[row["document"]]["score"] is not None
        ]  # fmt: skip
        table.append(
            {
                "documents": documents, **_gap(pairs, seed), "nats_gap": nats.value,
                "nats_low": nats.low, "nats_high": nats.high, "n": nats.n,
            }
        )  # fmt: skip
    return table


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
