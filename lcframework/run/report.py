"""Compare finished runs: one table, one picture, one CSV. Reads run directories only, so it needs
no logger service."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lcframework.errors import RunDirError
from lcframework.files import write_csv
from lcframework.run.results import FILE_NAME, read_results

log = logging.getLogger(__name__)
WIDTH = 120  # columns of the tables where the output is no terminal


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Run directories (those with a `results.json`) among `folders` and anywhere below them,
    sorted.

    Raises:
        RunDirError: there is none.
    """
    found = {path.parent for folder in folders for path in folder.rglob(FILE_NAME)}
    if not found:
        names = ", ".join(map(str, folders))
        raise RunDirError(
            f"No {FILE_NAME} under {names}: name a run directory or a sweep whose runs have "
            f"finished."
        )
    return sorted(found)


def row_of(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """One line of the comparison; `name` tells the run from the others."""
    metrics, run = record["metrics"], record["run"]
    model = (record["tables"].get("model") or [{}])[0]
    perplexity = metrics.get("test/perplexity", {})
    return {
        "model": model.get("name", name),
        "seed": run.get("seed"),
        "parameters": metrics.get("model/parameters", {}).get("value"),
        "block_parameters": model.get("blocks"),
        "tokens": run.get("tokens"),
        "perplexity": perplexity.get("value"),
        "low": perplexity.get("low"),
        "high": perplexity.get("high"),
        "accuracy": metrics.get("test/accuracy", {}).get("value"),
        "wall_s": run.get("wall_s"),
        "run": name,
    }


def labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each row's model, behind the run's path where several runs share model and seed."""
    count = Counter((row["model"], row["seed"]) for row in rows)
    return [
        f"{row['run']}: {row['model']}" if count[row["model"], row["seed"]] > 1 else row["model"]
        for row in rows
    ]


def differing_tests(records: Sequence[dict[str, Any]]) -> bool:
    """Whether the runs were tested on different proteins, so that their scores do not compare."""
    tests = (record.get("data", {}).get("test", {}).get("fingerprint") for record in records)
    return len({one for one in tests if one is not None}) > 1


def _show(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3f}"


def print_table(rows: Sequence[dict[str, Any]], baselines: dict[str, float]) -> None:
    """The comparison, with the baselines every run shares below it."""
    rows = [row | {"model": label} for row, label in zip(rows, labels(rows), strict=True)]
    table = Table(title="Perplexity of masked residues, held-out proteins")
    table.add_column("model", min_width=12, overflow="fold")
    for column in (
        "seed",
        "params",
        "in blocks",
        "tokens",
        "perplexity",
        "95%",
        "accuracy",
        "time",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda one: one["perplexity"] or float("inf")):
        interval = f"{_show(row['low'])}-{_show(row['high'])}"
        keys = ("seed", "parameters", "block_parameters", "tokens", "perplexity")
        numbers = [_show(row[key]) for key in keys]
        accuracy, seconds = _show(row["accuracy"]), f"{row['wall_s']:.0f} s"
        table.add_row(row["model"], *numbers, interval, accuracy, seconds)
    below = Table("baseline", title="The same residues without a network")
    below.add_column("perplexity", justify="right")
    for name, value in baselines.items():
        below.add_row(name, f"{value:.3f}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)  # a log file needs no wrapping at 80 columns
    console.print(table)
    console.print(below)
    if any("seen" in name for name in baselines):
        console.print(
            "Masking leaves a residue in sight at one in five scored positions; the baselines "
            "with 'what is seen' know that, as the models do.",
            style="dim",
        )


def baselines_of(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Baseline perplexities, from the first run that has them."""
    names = {
        "baseline/neighbour_seen_perplexity": "neighbours + what is seen",
        "baseline/unigram_seen_perplexity": "unigram + what is seen",
        "baseline/neighbour_perplexity": "neighbour counts",
        "baseline/unigram_perplexity": "unigram counts",
        "baseline/uniform_perplexity": "uniform",
    }
    found: dict[str, float] = {}
    for record in records:
        for key, name in names.items():
            value = record["metrics"].get(key, {}).get("value")
            if value is not None:
                found.setdefault(name, value)
    return found


def _report_methods(paths: Sequence[str], records: Sequence[dict[str, Any]], target: Path) -> None:
    compared = [bool(record["tables"].get("methods")) for record in records]
    if any(compared):
        from lcframework.run.report_methods import report_methods

        if differing_tests(list(compress(records, compared))):
            log.warning("The runs answered different items: their points do not compare.")
        report_methods(list(compress(paths, compared)), list(compress(records, compared)), target)


def _report_distraction(
    runs: Sequence[Path], paths: Sequence[str], records: Sequence[dict[str, Any]], target: Path
) -> None:
    distracted = [bool(record["tables"].get("distraction_gap")) for record in records]
    if any(distracted):
        from lcframework.run.report_distraction import report_distraction

        report_distraction(
            list(compress(runs, distracted)), list(compress(paths, distracted)),
            list(compress(records, distracted)), target,
        )  # fmt: skip


def report(folders: Sequence[Path], to: Path | None = None) -> list[dict[str, Any]]:
    """Print the comparison of runs and write `report.csv` and `report.png`; of runs that answered
    benchmarks `report_tasks.csv` and `report_tasks.png`, and of those that compared a method with
    the dense model the files of `report_methods`, of those tested among distractors
    `report_distraction.csv` and `report_distraction.png`; of downstream tasks, averaged over seeds,
    `report_downstream.csv` and `report_downstream.png`.

    Args:
        folders: run directories, or folders that hold some.
        to: where the files go; None for the first folder.

    Returns:
        The rows of the table.

    Raises:
        RunDirError: no finished run is there.
    """
    from lcframework.run.figures import comparison_figure

    runs = find_runs(folders)
    records = [read_results(folder) for folder in runs]
    above = os.path.commonpath([folder.absolute().parent for folder in runs])
    paths = [os.path.relpath(folder.absolute(), above) for folder in runs]
    target = to or folders[0]
    found: list[dict[str, Any]] = []
    downstream = [bool(record["tables"].get("tape")) for record in records]
    if any(downstream):
        from lcframework.run.report_downstream import report_downstream

        found += report_downstream(list(compress(records, downstream)), target)
    answered = [bool(record["tables"].get("tasks")) for record in records]
    if any(answered):
        from lcframework.run.report_tasks import report_tasks

        found += report_tasks(
            list(compress(runs, answered)),
            list(compress(paths, answered)),
            list(compress(records, answered)),
            target,
        )
        _report_methods(paths, records, target)
        _report_distraction(runs, paths, records, target)
    if any(downstream) or any(answered):
        others = [not (one or other) for one, other in zip(downstream, answered, strict=True)]
        runs, paths = list(compress(runs, others)), list(compress(paths, others))
        records = list(compress(records, others))
        if not runs:
            return found
    rows = [row_of(path, record) for path, record in zip(paths, records, strict=True)]
    baselines = baselines_of(records)
    print_table(rows, baselines)
    target.mkdir(parents=True, exist_ok=True)
    write_csv(target / "report.csv", rows)
    named = {
        f"{label}, seed {row['seed']}": pair
        for label, row, pair in zip(
            labels(rows), rows, zip(runs, records, strict=True), strict=True
        )
    }
    picture = comparison_figure(named, baselines, target)
    if differing_tests(records):
        log.warning(
            "The runs were tested on different proteins: their perplexities do not compare, and "
            "the baselines are those of the first run."
        )
    Console().print(f"Written: {target / 'report.csv'}, {picture}", soft_wrap=True)
    return rows
