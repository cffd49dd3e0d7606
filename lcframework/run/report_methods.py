"""Compare runs of squeezed attention and baselines: quality against the measured budget, what each
layer reads, what preparing documents costs and when it pays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lcframework.files import save_figure, write_csv
from lcframework.scoring.method_table import DENSE

Record = Mapping[str, Any]
Rows = list[dict[str, Any]]


def method_summary(names: Sequence[str], records: Sequence[Record]) -> Rows:
    """The dense row of the first run, then one row per run: what `method_table` says of its method
    over all items, under the run's name.

    Args:
        names: of the runs.
        records: their `results.json`.
    """
    rows: Rows = []
    for name, record in zip(names, records, strict=True):
        suites = [row["suite"] for row in record["tables"]["methods"]]
        own = [row for row in record["tables"]["methods"] if row["suite"] == suites[-1]]
        if not rows:
            rows += [row | {"run": name} for row in own if row["method"] == DENSE]
        method = [row for row in own if row["method"] != DENSE][-1]
        rows.append(method | {"method": f"{setting_of(record)} ({name})", "run": name})
    return rows


def setting_of(record: Record) -> str:
    """A run's method in words, such as "squeezed 0.9" or "quest 0.9"; the number is the sparsity,
    for a baseline the one whose budget it got, or its share."""
    (squeeze,) = record["tables"]["squeeze"]
    method, share = squeeze["method"], squeeze["share"]
    if method == DENSE:
        return "dense again"
    return f"{method} {squeeze['sparsity']:g}" if share is None else f"{method} share {share:g}"


def cost_summary(names: Sequence[str], records: Sequence[Record]) -> Rows:
    """One row per run: means over its documents.

    Returns:
        Rows of `run`, `method`, `documents`, `context_tokens`, `read_s` (which the dense model
        needs too), `prepare_s` (clustering and calibration), `lookup_bytes`, `dense_token_ms`,
        `token_ms` (of answers, the reading of the question included), and `break_even_questions`:
        how many questions, with answers as long as the dense ones, make up for preparing a
        document; None where the method is not faster here, or prepares nothing.
    """
    rows = []
    for name, record in zip(names, records, strict=True):
        documents = record["tables"]["cost"]
        method = record["tables"]["methods"][-1]["method"]
        n = len(documents)
        questions = sum(one["questions"] for one in documents)
        prepare = sum(one["cluster_s"] + one["calibrate_s"] for one in documents) / n
        seconds = {who: sum(one[f"{who}_seconds"] for one in documents) for who in (DENSE, method)}
        tokens = {who: sum(one[f"{who}_tokens"] for one in documents) for who in (DENSE, method)}
        each = {who: seconds[who] / max(1, tokens[who]) for who in (DENSE, method)}
        saved = (each[DENSE] - each[method]) * tokens[DENSE] / questions
        drops = record["tables"]["squeeze"][0]["sparsity"] > 0 and method == "squeezed"
        rows.append(
            {
                "run": name,
                "method": method,
                "documents": n,
                "context_tokens": sum(one["context_tokens"] for one in documents) / n,
                "read_s": sum(one["read_s"] for one in documents) / n,
                "prepare_s": prepare,
                "lookup_bytes": sum(one["lookup_bytes"] for one in documents) / n,
                "dense_token_ms": 1000 * each[DENSE],
                "token_ms": 1000 * each[method],
                "break_even_questions": prepare / saved if drops and saved > 0 else None,
            }
        )
    return rows


def layer_rows(names: Sequence[str], records: Sequence[Record]) -> Rows:
    """What each run's method reads in each layer."""
    rows: Rows = []
    for name, record in zip(names, records, strict=True):
        table = record["tables"]["kept_by_layer"]
        last = table[-1]["method"]
        rows += [
            row | {"method": f"{setting_of(record)} ({name})"}
            for row in table
            if row["method"] == last
        ]
    return rows


def report_methods(names: Sequence[str], records: Sequence[Record], target: Path) -> Rows:
    """Print both tables and write `report_methods.csv`, `report_costs.csv`, `report_budget.png` and
    `report_layers.png`; returns the rows of the first table."""
    from lcframework.callbacks.method_figures import draw_budget, draw_layers

    rows, costs = method_summary(names, records), cost_summary(names, records)
    table = Table("method (run)", title="Against the dense model, 95% intervals over documents")
    for column in ("items", "budget", "score", "difference", "KL nats", "same token", "gold nats"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["method"], str(row["items"]), f"{row['budget']:.3f}", _show(row, "score", ".1f"),
            _show(row, "difference", "+.1f"), _show(row, "kl", ".4f"),
            _show(row, "agreement", ".3f"), _show(row, "gold", "+.4f"),
        )  # fmt: skip
    below = Table("run", title="Costs, mean over documents")
    for column in ("tokens", "read s", "prepare s", "lookup MB", "dense ms/token", "ms/token",
                   "break-even questions"):  # fmt: skip
        below.add_column(column, justify="right", no_wrap=True)
    for row in costs:
        even = row["break_even_questions"]
        below.add_row(
            row["run"], f"{row['context_tokens']:,.0f}", f"{row['read_s']:.2f}",
            f"{row['prepare_s']:.2f}", f"{row['lookup_bytes'] / 1e6:.2f}",
            f"{row['dense_token_ms']:.1f}", f"{row['token_ms']:.1f}",
            "not faster here" if even is None else f"{even:.0f}",
        )  # fmt: skip
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)
    console.print(below)
    target.mkdir(parents=True, exist_ok=True)
    write_csv(target / "report_methods.csv", rows)
    write_csv(target / "report_costs.csv", costs)
    save_figure(draw_budget([row | {"suite": "all"} for row in rows]), target / "report_budget.png")
    layers = layer_rows(names, records)
    picture = save_figure(draw_layers(layers), target / "report_layers.png")
    console.print(f"Written: {target / 'report_budget.png'}, {picture}", soft_wrap=True)
    return rows


def _show(row: Mapping[str, Any], name: str, form: str) -> str:
    if row[name] is None:
        return "-"
    return f"{row[name]:{form}} [{row[name + '_low']:{form}}, {row[name + '_high']:{form}}]"
