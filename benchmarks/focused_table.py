"""The comparison of Focused Learning's variants on NQd, one command: trains every variant and seed
(finished runs are passed over, stopped ones resumed), then compares each variant with vanilla
fine-tuning, question by question, averaged over the seeds that both have.

Run: python benchmarks/focused_table.py --questions nqd_oracle.jsonl --passages nqd_passages.jsonl
     (another trainer or size: any override of the training command behind --, such as trainer=gpu)
"""

import argparse
import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS
from hydra import compose, initialize_config_dir

from lcframework.files import write_csv, write_json
from lcframework.paths import conf_dir
from lcframework.run.app import register
from lcframework.run.config import forget_run_id
from lcframework.run.fit import train
from lcframework.scoring.distraction import place_of
from lcframework.scoring.paired import score_difference

THREE_SEEDS = ("vanilla", "augmentation", "full", "vanilla_retrieval")
ONE_SEED = ("contrast", "consistency", "full_random", "full_oracle", "raft")
LONG = "vanilla_equal_compute"
EQUAL_COMPUTE = 8 / 3
"""Passes of the cached step with views of one length (2 forward, then 2 forward and backward of
twice the cost) over those of vanilla training (1 and 2)."""
Answers = dict[str, dict[str, Any]]


def settings(variant: str, seed: int, folder: Path, given: Any) -> list[str]:
    """Overrides of one run."""
    named = "vanilla" if variant == LONG else variant
    steps = round(given.steps * (EQUAL_COMPUTE if variant == LONG else 1))
    return [
        "experiment=focused/ablation", f"variant={named}", f"seed={seed}",
        f"data.questions={given.questions}", f"data.passages={given.passages}",
        f"model.path={given.model}", f"trainer.max_steps={steps}",
        f"task.max_written={given.written}", f"paths.run_dir={folder}", *given.overrides,
    ]  # fmt: skip


def run_all(given: Any) -> dict[str, dict[int, Path]]:
    """Train what is not finished yet; returns the run directories by variant and seed."""
    wanted = dict.fromkeys((*THREE_SEEDS, LONG), (1, 2, 3)) | dict.fromkeys(ONE_SEED, (1,))
    found: dict[str, dict[int, Path]] = {}
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for variant, seeds in wanted.items():
            for seed in seeds[: given.seeds]:
                folder = Path(given.to).resolve() / f"{variant}_seed{seed}"
                if not (folder / "results.json").is_file():
                    train(compose("train", overrides=settings(variant, seed, folder, given)))
                    forget_run_id()
                found.setdefault(variant, {})[seed] = folder
    return found


def answers_of(folder: Path) -> Answers:
    """By item: `task`, `document`, `score` (None where none was written), `gold_nats`."""
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
            found[row["key"]]["gold_nats"] = row["gold_nats"]
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
    """Mean score (percent) or loss (nats per token) of each question among distractors."""
    values: dict[str, list[float]] = {}
    for answers in runs:
        for row in answers.values():
            place = place_of(row["task"])
            if place and place[0] == documents and row[column] is not None:
                scale = 100 if column == "score" else 1
                values.setdefault(row["document"], []).append(scale * row[column])
    return {name: statistics.fmean(found) for name, found in values.items()}


def table_rows(found: Mapping[str, Mapping[int, Answers]], documents: Sequence[int]) -> list[dict]:
    """A row per variant, number of documents and quantity, with its difference from vanilla on the
    seeds and questions that both have, and the paired interval over questions."""
    rows = []
    quantities = {
        ("score", "score, %"): level, ("gold_nats", "answer loss, nats per token"): level,
        ("score", "distraction gap, points"): by_question,
        ("gold_nats", "distraction gap, nats per token"): by_question,
    }  # fmt: skip
    for (column, name), measure in quantities.items():
        for n in documents:
            for variant, seeds in found.items():
                shared = sorted(seeds.keys() & found["vanilla"].keys())
                own = measure([seeds[one] for one in shared], column, n)
                base = measure([found["vanilla"][one] for one in shared], column, n)
                both = sorted(own.keys() & base.keys())
                if not both:
                    continue
                change = score_difference([base[q] for q in both], [own[q] for q in both], both)
                rows.append(
                    {
                        "quantity": name, "documents": n, "variant": variant, "seeds": len(shared),
                        "questions": len(both), "value": statistics.fmean(own[q] for q in both),
                        "minus_vanilla": change.value, "low": change.low, "high": change.high,
                    }
                )  # fmt: skip
    return rows


def main() -> None:
    """Train, compare and write `results/focused/table.json` and `.csv`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--passages", required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="at most so many of each variant")
    parser.add_argument("--written", type=int, default=150, help="answers written of each task")
    parser.add_argument("--to", default="runs/focused-table", help="folder of the runs")
    parser.add_argument("overrides", nargs="*", help="of every training command, behind --")
    given = parser.parse_args()
    folders = run_all(given)
    found = {
        variant: {seed: answers_of(folder) for seed, folder in seeds.items()}
        for variant, seeds in folders.items()
    }
    tasks = {row["task"] for row in found["vanilla"][1].values()}
    documents = sorted({place[0] for task in tasks if (place := place_of(task))})
    rows = table_rows(found, documents)
    results = {
        f"{variant}/seed{seed}": json.loads((folder / "results.json").read_text())["run"]
        for variant, seeds in folders.items()
        for seed, folder in seeds.items()
    }
    write_json(RESULTS / "focused" / "table.json", {"runs": results, "rows": rows})
    write_csv(RESULTS / "focused" / "table.csv", rows)
    for row in rows:
        print(
            f"{row['quantity']:32} {row['documents']:3} docs  {row['variant']:22} "
            f"{row['value']:8.3f}  minus vanilla {row['minus_vanilla']:+.3f} "
            f"({row['low']:+.3f} to {row['high']:+.3f}, n={row['questions']}, "
            f"{row['seeds']} seeds)"
        )


if __name__ == "__main__":
    main()
