"""Tables, pictures and results.json of benchmarks/squeezed_quality.py, from the answers on disk."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import _git_revision, _versions, device_name
from rich.console import Console
from rich.table import Table
from squeezed_items import SETUPS, key_of, read_plan, states

from lcframework.callbacks.answer_store import AnswerStore
from lcframework.callbacks.method_figures import draw_budget, draw_layers, draw_suites
from lcframework.files import save_figure, write_csv, write_json
from lcframework.scoring.method_table import (
    ALL,
    claim_rows,
    layer_table,
    method_rows,
    method_table,
    run_counts,
)

CLAIMS = (
    # The paper's: no loss at 3.1x (in its table at most 0.1 points), under 0.5 points at 8x.
    ("paper: no loss at 3.1x", "squeeze 70", "difference", 0.1),
    ("paper: under 0.5 points at 8x", "squeeze 90", "difference", 0.5),
    ("paper: hierarchical, under 0.7 points", "hierarchical 90", "difference", 0.7),
    # Ours, which tokens can resolve: the gold answers' perplexity rises by less than 1%, 5%.
    ("ours: gold perplexity up by less than 1%", "squeeze 70", "gold", 0.01),
    ("ours: gold perplexity up by less than 1%", "squeeze 90", "gold", 0.01),
    ("ours: gold perplexity up by less than 5%", "squeeze 70", "gold", 0.0488),
    ("ours: gold perplexity up by less than 5%", "squeeze 90", "gold", 0.0488),
    ("ours: gold perplexity up by less than 5%", "hierarchical 90", "gold", 0.0488),
)
SHOWN = ("score", "difference", "kl", "agreement", "gold")


def write_tables(given: argparse.Namespace) -> None:
    """Write everything under `given.out`, per model and together."""
    record: dict[str, Any] = {
        "benchmark": "squeezed_quality",
        "device": device_name(),
        "versions": _versions(),
        "git": _git_revision(),
        "date": datetime.now(UTC).date().isoformat(),
        "models": {},
    }
    for name in given.models:
        if not (given.work / name / "plan.json").is_file():
            print(f"{name}: no plan, so nothing was run.")
            continue
        record["models"][name] = _model(name, given.work / name, given.out / name)
    hidden = ("stage", "part", "deadline", "data", "out", "work")
    config = {key: value for key, value in vars(given).items() if key not in hidden}
    setups = {name: vars(SETUPS[name]) for name in given.models}
    write_json(given.out / "config.json", config | {"setups": setups})
    write_json(given.out / "results.json", record)
    print(f"Written: {given.out / 'results.json'}")


def _model(name: str, work: Path, folder: Path) -> dict[str, Any]:
    units, refused = read_plan(work / "plan.json")
    digests = {key_of(p.item): p.item.digest for unit in units for p in unit.prompts}
    found = AnswerStore(work / "answers").read(digests)
    items = list(found.values())
    counts = run_counts(states(units, refused, found))
    write_csv(folder / "counts.csv", counts)
    cost = work / "cost.json"
    record: dict[str, Any] = {
        "counts": counts,
        "cost": json.loads(cost.read_text()) if cost.is_file() else None,
        "cut_prompts": sum(item["truncated"] > 0 for item in items),
        "prompt_tokens": _spread([item["prompt_tokens"] for item in items]),
    }
    _print_counts(name, counts)
    if not items:
        return record | {"methods": [], "claims": [], "layers": []}
    rows = method_rows(items)
    table = method_table(rows)
    layers = layer_table(rows, items[0]["layers"])
    claims = claim_rows(table, CLAIMS)
    for title, some in (("methods", table), ("layers", layers), ("claims", claims)):
        if some:
            write_csv(folder / f"{title}.csv", some)
    title = f"{name}, {len({i['suite'] + i['document'] for i in items})} documents"
    save_figure(draw_budget(table, title), folder / "budget.png")
    save_figure(draw_suites(table, title), folder / "suites.png")
    save_figure(draw_layers(_main_methods(layers), title), folder / "layers.png")
    _print_methods(name, table)
    _print_claims(name, claims)
    if record["cost"]:
        _print_cost(name, record["cost"])
    return record | {"methods": table, "claims": claims, "layers": layers}


def _main_methods(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose share differs between layers."""
    names = ("squeeze 70", "squeeze 80", "squeeze 90", "hierarchical 90")
    return [row for row in rows if row["method"] in names]


def _spread(values: list[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"least": min(values), "mean": sum(values) / len(values), "most": max(values)}


def _print_counts(name: str, counts: list[dict[str, Any]]) -> None:
    table = Table("benchmark", "task", "items", "run", "not run", title=f"{name}: what was run")
    for row in counts:
        table.add_row(row["suite"], row["task"], str(row["items"]), str(row["run"]), row["not_run"])
    Console(width=140).print(table)


def _print_methods(name: str, rows: list[dict[str, Any]]) -> None:
    suites = {row["suite"] for row in rows}
    table = Table("benchmark", "method", title=f"{name}: 95% intervals over documents")
    for column in ("items", "budget", "score %", "against dense", "KL nats", "same token",
                   "gold nats"):  # fmt: skip
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        if row["suite"] == ALL or len(suites) == 1 or " @ " not in row["method"]:
            table.add_row(
                row["suite"], row["method"], str(row["items"]), f"{row['budget']:.3f}",
                _show(row, "score", ".1f"), _show(row, "difference", "+.1f"),
                _show(row, "kl", ".4f"), _show(row, "agreement", ".3f"), _show(row, "gold", "+.4f"),
            )  # fmt: skip
    Console(width=180).print(table)


def _show(row: dict[str, Any], name: str, form: str) -> str:
    if row[name] is None:
        return "-"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:{form}} [{low:{form}}, {high:{form}}]"


def _print_claims(name: str, rows: list[dict[str, Any]]) -> None:
    table = Table("claim", "benchmark", "method", "value", "verdict", title=f"{name}: claims")
    for row in rows:
        value = f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        table.add_row(row["claim"], row["suite"], row["method"], value, row["verdict"])
    Console(width=140).print(table)


def _print_cost(name: str, cost: dict[str, Any]) -> None:
    table = Table("method", "first token ms", "further token ms", "break-even questions")
    table.title = (
        f"{name}: {cost['context_tokens']:,} tokens on {cost['device']}; read {cost['read_s']:.1f} "
        f"s, cluster {cost['cluster_s']:.1f} s, calibrate {cost['calibrate_s']:.1f} s; lookup "
        f"{cost['bytes']['lookup'] / 1e6:.1f} MB beside {cost['bytes']['keys_values'] / 1e6:.1f}"
    )
    for row in cost["methods"]:
        even = row["break_even_questions"]
        table.add_row(
            row["method"], f"{row['first_token_ms']:.1f}", f"{row['token_ms']:.1f}",
            "" if row["method"] == "dense" else "never here" if even is None else f"{even:.0f}",
        )  # fmt: skip
    Console(width=140).print(table)
