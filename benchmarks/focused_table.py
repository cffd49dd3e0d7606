"""The comparison of Focused Learning's variants on NQd, one command: tunes the learning rate on the
validation split, trains every variant and seed, several at a time on one device, then compares each
with vanilla fine-tuning at equal steps and at equal compute, question by question, averaged over
the seeds that both have.

Run: python benchmarks/focused_table.py --questions nqd_oracle.jsonl.xz \
        --passages nqd_passages.jsonl.xz --gpu --tune --minutes 9
The same command goes on where an earlier one stopped; tables are made of what is complete and name
what is missing. Further overrides of every training command stand behind --.
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from focused_runs import (
    EQUAL_COMPUTE,
    LONG,
    ONE_SEED,
    THREE_SEEDS,
    VANILLA,
    Run,
    best_rates,
    grid,
    planned,
    run_all,
)
from harness import RESULTS, device_name
from omegaconf import OmegaConf

from lcframework.callbacks.distraction_report import draw_map
from lcframework.files import save_figure, write_csv, write_json, write_text
from lcframework.run.results import git_revision, versions
from lcframework.scoring.distraction import gaps, heat_map, place_of
from lcframework.scoring.paired import score_difference

OUT = RESULTS / "focused"
GPU = ("trainer=gpu", "model.dtype=bfloat16", "task.pass_tokens=8192", "task.test_tokens=65536")
Answers = dict[str, dict[str, Any]]


def answers_of(folder: Path) -> Answers:
    """By item: `task`, `document`, `score` (None where none was written), `answer`, `gold_nats`."""
    with (folder / "figures" / "items.csv").open(newline="") as file:
        found: Answers = {
            row["key"]: {
                "task": row["task"], "document": row["document"],
                "score": float(row["score"]) if row["score"] else None,
            }
            for row in csv.DictReader(file)
        }  # fmt: skip
    for path in sorted((folder / "answers").glob("rank*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found[row["key"]] |= {"gold_nats": row["gold_nats"], "answer": row["answer"]}
    return found


def by_question(runs: Sequence[Answers], column: str, documents: int) -> dict[str, float]:
    """What distractors cost each question, mean over gold places and seeds: percent points of the
    score that are lost, or nats per token that the right answer costs more."""
    costs: dict[str, list[float]] = {}
    for answers in runs:
        usable = [row for row in answers.values() if row[column] is not None]
        alone = {row["document"]: row for row in usable if place_of(row["task"]) is None}
        for row in usable:
            place = place_of(row["task"])
            if place and place[0] == documents and row["document"] in alone:
                rise = row[column] - alone[row["document"]][column]
                cost = -100 * rise if column == "score" else rise
                costs.setdefault(row["document"], []).append(cost)
    return {name: statistics.fmean(values) for name, values in costs.items()}


def level(runs: Sequence[Answers], column: str, documents: int) -> dict[str, float]:
    """Mean score (percent) or loss (nats per token) of each question among so many documents; 1:
    with the gold passage alone."""
    values: dict[str, list[float]] = {}
    for answers in runs:
        for row in answers.values():
            place = place_of(row["task"])
            if (place or (1, 0))[0] == documents and row[column] is not None:
                scale = 100 if column == "score" else 1
                values.setdefault(row["document"], []).append(scale * row[column])
    return {name: statistics.fmean(found) for name, found in values.items()}


QUANTITIES = (
    ("score", "score, %", level),
    ("gold_nats", "answer loss, nats per token", level),
    ("score", "distraction gap, points", by_question),
    ("gold_nats", "distraction gap, nats per token", by_question),
)


def _against(
    measure: Any, column: str, n: int, own: Mapping[int, Answers], base: Mapping[int, Answers]
) -> dict[str, Any]:
    """Own minus base with its paired interval, on the seeds and questions that both have."""
    shared = sorted(own.keys() & base.keys())
    first, second = (
        measure([one[seed] for seed in shared], column, n) if shared else {} for one in (base, own)
    )
    both = sorted(first.keys() & second.keys())
    if not both:
        return {"value": None, "low": None, "high": None, "seeds": 0}
    found = score_difference([first[q] for q in both], [second[q] for q in both], both)
    return {"value": found.value, "low": found.low, "high": found.high, "seeds": len(shared)}


def table_rows(found: Mapping[str, Mapping[int, Answers]], documents: Sequence[int]) -> list[dict]:
    """A row per quantity, number of documents and variant: its mean, that of each seed, and its
    difference from vanilla training at equal steps and at equal compute with paired intervals over
    questions."""
    rows = []
    for column, name, measure in QUANTITIES:
        for n in documents if measure is by_question else (1, *documents):
            for variant, seeds in found.items():
                own = measure(list(seeds.values()), column, n)
                if not own:
                    continue
                each = [measure([one], column, n) for _, one in sorted(seeds.items())]
                row = {
                    "quantity": name, "documents": n, "variant": variant,
                    "questions": len(own), "value": statistics.fmean(own.values()),
                    "by_seed": [statistics.fmean(one.values()) for one in each if one],
                }  # fmt: skip
                for label, base in (("vanilla", VANILLA), ("equal_compute", LONG)):
                    difference = _against(measure, column, n, seeds, found.get(base, {}))
                    row |= {f"minus_{label}": difference["value"]}
                    row |= {f"minus_{label}_{end}": difference[end] for end in ("low", "high")}
                    row[f"minus_{label}_seeds"] = difference["seeds"]
                rows.append(row)
    return rows


def _shown(value: Any, low: Any = None, high: Any = None, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if low is None else (
        f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
    )  # fmt: skip


def markdown(rows: Sequence[dict], missing: Sequence[str]) -> str:
    """The tables as text, and what they lack."""
    lines = []
    for quantity in dict.fromkeys(row["quantity"] for row in rows):
        own = [row for row in rows if row["quantity"] == quantity]
        digits = 2 if "nats" not in quantity else 3
        lines += [f"## {quantity}", "", "| documents | variant | value | by seed | minus vanilla, "
                  "equal steps | minus vanilla, equal compute | questions |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        for row in own:
            ends = [
                _shown(
                    row[f"minus_{base}"],
                    row[f"minus_{base}_low"],
                    row[f"minus_{base}_high"],
                    digits,
                )
                for base in ("vanilla", "equal_compute")
            ]
            ends[0] = "" if row["variant"] == VANILLA else ends[0]
            ends[1] = "" if row["variant"] == LONG else ends[1]
            seeds = ", ".join(_shown(one, digits=digits) for one in row["by_seed"])
            lines.append(
                f"| {row['documents']} | {row['variant']} | {_shown(row['value'], digits=digits)} "
                f"| {seeds} | {ends[0]} | {ends[1]} | {row['questions']} |"
            )
        lines.append("")
    if missing:
        lines += ["Missing, not run or not complete: " + ", ".join(missing) + ".", ""]
    return "\n".join(lines)


def maps(found: Mapping[str, Mapping[int, Answers]], to: Path) -> None:
    """A heat map and its table per variant, over the answers of all its seeds."""
    for variant, seeds in found.items():
        rows = [row for answers in seeds.values() for row in answers.values()]
        table = heat_map(rows)
        for row in table:  # the intervals would count a question once per seed
            del row["low"], row["high"]
        write_csv(to / f"map_{variant}.csv", table)
        save_figure(draw_map(table), to / f"map_{variant}.png")


def seed_tables(found: Mapping[str, Mapping[int, Answers]]) -> list[dict]:
    """The distraction report of each run: gap, nats, flips."""
    return [
        {"variant": variant, "seed": seed, **row}
        for variant, seeds in found.items()
        for seed, answers in sorted(seeds.items())
        for row in gaps(list(answers.values()))
    ]


def write_all(runs: Sequence[Run], given: argparse.Namespace, failed: Mapping[str, str]) -> str:
    """Tables, pictures, configs and `results.json` of the runs that are complete; returns the
    tables as text."""
    complete = [run for run in runs if run.done(given.to)]
    missing = [run.name for run in runs if not run.done(given.to)]
    found: dict[str, dict[int, Answers]] = {}
    records = {}
    for run in complete:
        folder = run.folder(given.to)
        found.setdefault(run.variant, {})[run.seed] = answers_of(folder)
        record = json.loads((folder / "results.json").read_text())
        records[run.name] = {
            "variant": run.variant, "seed": run.seed, "lr": run.lr, "steps": run.steps,
            **record["run"], "metrics": record["metrics"],
        }  # fmt: skip
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        parts = ("task", "data", "optimizer", "trainer", "model")
        kept: dict[str, Any] = {name: config[name] for name in parts}
        for name in ("questions", "passages"):
            kept["data"][name] = Path(kept["data"][name]).name
        kept["model"]["path"] = Path(kept["model"]["path"]).name
        write_text(given.out / "configs" / f"{run.name}.yaml", OmegaConf.to_yaml(kept))
    tasks = {row["task"] for seeds in found.values() for one in seeds.values()
             for row in one.values()}  # fmt: skip
    documents = sorted({place[0] for task in tasks if (place := place_of(task))})
    rows = table_rows(found, documents)
    rates, tuned = best_rates(given)
    record = {
        "device": device_name(), "versions": versions(), "git": git_revision(),
        "tuning": tuned, "rates": rates, "missing": missing, "failed": dict(failed),
        "runs": records, "rows": rows, "gaps": seed_tables(found),
    }  # fmt: skip
    write_json(given.out / "results.json", record)
    flat = [{**row, "by_seed": " ".join(f"{one:.4f}" for one in row["by_seed"])} for row in rows]
    if rows:
        write_csv(given.out / "table.csv", flat)
        maps(found, given.out)
    text = markdown(rows, missing)
    write_text(given.out / "table.md", text)
    return text


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--passages", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="at most so many of each variant")
    parser.add_argument("--written", type=int, default=150, help="answers written of each task")
    parser.add_argument("--lr", type=float, default=5e-4, help="where nothing is tuned")
    parser.add_argument("--tune", action="store_true", help="choose the rate on the validation")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3])
    parser.add_argument("--tune-steps", type=int, default=60)
    parser.add_argument("--equal-compute", type=float, default=EQUAL_COMPUTE,
                        help="steps of vanilla training that cost one of the method")  # fmt: skip
    parser.add_argument("--variants", nargs="+", default=[*THREE_SEEDS, *ONE_SEED],
                        choices=[*THREE_SEEDS, *ONE_SEED])  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="runs at the same time")
    parser.add_argument("--threads", type=int, default=2, help="of each of them")
    parser.add_argument("--minutes", type=float, default=1e6, help="the whole command")
    parser.add_argument("--gpu", action="store_true", help=f"the same as -- {' '.join(GPU)}")
    parser.add_argument("--to", type=Path, default=Path("runs/focused-table"), help="runs")
    parser.add_argument("--out", type=Path, default=OUT, help="tables")
    parser.add_argument("overrides", nargs="*", help="of every training command, behind --")
    given = parser.parse_args(arguments)
    for name in ("to", "out", "questions", "passages"):
        setattr(given, name, getattr(given, name).resolve())
    given.overrides = [*(GPU if given.gpu else ()), *given.overrides]
    return given


def main() -> None:
    """Tune, train, compare; write results.json, table.csv, table.md, maps and configs."""
    started, given = time.time(), options()
    deadline = started + 60 * given.minutes - 10
    failed: dict[str, str] = {}
    if given.tune:
        failed |= run_all(grid(given), given, deadline)
    rates, tuned = best_rates(given)
    for row in tuned:
        print("tuning:", json.dumps(row))
    print("learning rates:", rates, flush=True)
    runs = planned(given, rates)
    failed |= run_all(runs, given, deadline)
    print(write_all(runs, given, failed))
    for name, error in failed.items():
        print(f"FAILED {name}: {error}")
    print(f"{sum(run.done(given.to) for run in runs)} of {len(runs)} runs complete, "
          f"{time.time() - started:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
