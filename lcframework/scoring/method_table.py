"""Methods that read a part of a document beside the dense model, as tables: scores, divergence and
log-likelihood against the measured budget, paired, with intervals over documents."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lcframework.scoring.intervals import Interval
from lcframework.scoring.paired import score_difference, verdict
from lcframework.scoring.paired_sums import mean_over_documents, summarize_sums

DENSE = "dense"
ALL = "all"
MIN_DOCUMENTS = 10
"""With fewer, a bootstrap interval is not to be trusted with a verdict."""
Row = Mapping[str, Any]
Rows = list[dict[str, Any]]


def method_rows(items: Iterable[Row]) -> Rows:
    """One row per item and method.

    Args:
        items: each with `suite`, `task`, `key`, `document` and `readings`, by method what a
            `Reading` holds as plain values, and a `score` in [0, 1] or None.

    Returns:
        The readings, with `suite`, `task`, `key`, `document` and `method`.
    """
    return [
        {name: item[name] for name in ("suite", "task", "key", "document")}
        | {"method": method}
        | dict(reading)
        for item in items
        for method, reading in item["readings"].items()
    ]


def method_table(rows: Sequence[Row]) -> Rows:
    """One row per benchmark and method, then per method over all benchmarks.

    Args:
        rows: of `method_rows`; an item's dense reading is what its others are held against.

    Returns:
        Rows of `suite`, `method`, `items`, `documents`; with `_low` and `_high` each: `budget`,
        `kept_question` (shares), `score` (percent), `difference` (points, from the dense score of
        the same items), `kl`, `agreement` (on the dense answers), `gold` (difference of the gold
        answers' log-likelihood, nats per token), `gold_kl`; and `scored`, `tokens`, `gold_tokens`,
        what these rest on. None where nothing was measured.
    """
    dense = {(row["suite"], row["key"]): row for row in rows if row["method"] == DENSE}
    suites = list(dict.fromkeys(row["suite"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    table = []
    for suite in [*suites, *([ALL] if len(suites) > 1 else [])]:
        for method in methods:
            own = [row for row in rows if row["method"] == method and suite in (ALL, row["suite"])]
            if own:
                table.append({"suite": suite, "method": method, **_numbers(own, dense, method)})
    return table


def _numbers(own: Sequence[Row], dense: Mapping[tuple, Row], method: str) -> dict[str, Any]:
    documents = [_document(row) for row in own]
    scored = [row for row in own if row["score"] is not None]
    before = [dense[row["suite"], row["key"]]["score"] for row in scored]
    places = [_document(row) for row in scored]
    scores = [100 * row["score"] for row in scored]
    score = mean_over_documents(scores, places) if scored else None
    difference = None
    if scored and method != DENSE:
        difference = score_difference([100 * one for one in before], scores, places)
    found = {"items": len(own), "documents": len(set(documents)), "scored": len(scored)}
    for name in ("budget", "kept_question"):
        found |= _columns(name, mean_over_documents([row[name] for row in own], documents))
    found |= _columns("score", score) | _columns("difference", difference)
    for kind, names in (("own", ("kl", "agreement", None)), ("gold", ("gold_kl", None, "gold"))):
        pairs = [row for row in own if row[kind] is not None]
        summary = None
        if pairs:
            summary = summarize_sums([row[kind] for row in pairs], [_document(r) for r in pairs])
        found["tokens" if kind == "own" else "gold_tokens"] = summary.tokens if summary else 0
        for name, part in zip(names, ("kl", "agreement", "gold_difference"), strict=True):
            if name is not None:
                found |= _columns(name, getattr(summary, part) if summary else None)
    return found


def _document(row: Row) -> str:
    return f"{row['suite']}/{row['document']}"


def _columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _testable(row: Row, dense: Row | None, measure: str, loss: float) -> bool:
    """Whether a verdict on a claim can rest on this row: not where documents are few, where there
    was nothing to lose, or where no answer changed among too few documents (an interval without
    width; by the rule of three up to 3 / n of all documents may still change)."""
    if row["documents"] < MIN_DOCUMENTS:
        return False
    if measure != "difference":
        return True
    if dense is None or dense["score"] is None or dense["score"] <= loss:
        return False
    unchanged = row["difference_low"] == row["difference_high"]
    return not unchanged or 300.0 / row["documents"] < loss


def claim_rows(table: Sequence[Row], claims: Sequence[tuple[str, str, str, float]]) -> Rows:
    """Whether claims of the form "this method loses less than so much" hold here.

    Args:
        table: of `method_table`.
        claims: (whose claim, method, "difference" in points or "gold" in nats per token, loss that
            is not exceeded).

    Returns:
        Rows of `claim`, `suite`, `method`, `measure`, `loss`, `value`, `low`, `high`, `documents`
        and `verdict`: "holds", "fails" or "not testable here" (the interval reaches over the
        claim, fewer than `MIN_DOCUMENTS` documents, a dense score too low to lose that much, or
        no changed answer among too few documents); a method that was not run has no row.
    """
    dense = {row["suite"]: row for row in table if row["method"] == DENSE}
    rows = []
    for whose, method, measure, loss in claims:
        for row in table:
            if row["method"] != method or row[measure] is None:
                continue
            value, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
            rows.append(
                {
                    "claim": whose,
                    "suite": row["suite"],
                    "method": method,
                    "measure": measure,
                    "loss": loss,
                    "value": value,
                    "low": low,
                    "high": high,
                    "documents": row["documents"],
                    "verdict": verdict(Interval(value, low, high, row["documents"]), loss)
                    if _testable(row, dense.get(row["suite"]), measure, loss)
                    else "not testable here",
                }
            )
    return rows


def layer_table(rows: Sequence[Row], layers: Sequence[int]) -> Rows:
    """Mean share of the clustered tokens read in each layer, per method, over all items.

    Args:
        rows: of `method_rows`.
        layers: the layers' numbers in the model, in the order of `kept_layers`.

    Returns:
        Rows of `method`, `layer`, `kept`.
    """
    grouped: dict[str, list[Sequence[float]]] = {}
    for row in rows:
        grouped.setdefault(row["method"], []).append(row["kept_layers"])
    return [
        {"method": method, "layer": layer, "kept": sum(one[n] for one in some) / len(some)}
        for method, some in grouped.items()
        for n, layer in enumerate(layers)
    ]


def run_counts(items: Iterable[Row]) -> Rows:
    """Per benchmark and task what was asked for and what was run.

    Args:
        items: each with `suite`, `task` and `state`: "" if it was run, else why not.

    Returns:
        Rows of `suite`, `task`, `items`, `run`, and `not_run`, a text of the reasons with counts.
    """
    grouped: dict[tuple[str, str], list[str]] = {}
    for item in items:
        grouped.setdefault((item["suite"], item["task"]), []).append(item["state"])
    rows = []
    for (suite, task), states in grouped.items():
        reasons: dict[str, int] = {}
        for one in states:
            if one:
                reasons[one] = reasons.get(one, 0) + 1
        rows.append(
            {
                "suite": suite,
                "task": task,
                "items": len(states),
                "run": states.count(""),
                "not_run": "; ".join(f"{n} {why}" for why, n in reasons.items()),
            }
        )
    return rows
