"""Compare what distractors cost several models: gap beside gap, and the difference from the first
run, paired by question."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lcframework.files import save_figure, write_csv
from lcframework.run.report_tasks import read_items
from lcframework.scoring.distraction import gap_differences

Record = Mapping[str, Any]
Rows = list[dict[str, Any]]
DIFFERENCES = ("score", "gap", "nats")


def scored_rows(folder: Path) -> Rows:
    """Rows of `scoring.distraction` from a run's table of items, with their digests; of items whose
    likelihood alone was measured, too.

    Raises:
        RunDirError: the table is missing or is not ours.
    """
    return [
        {
            "document": row["document"],
            "task": row["task"],
            "score": float(row["score"]) if row["score"] else None,
            "gold_nats": float(row["gold_nats"]),
            "digest": row["prompt_digest"],
        }
        for row in read_items(folder, ("gold_nats", "prompt_digest")).values()
    ]


def distraction_rows(
    names: Sequence[str], records: Sequence[Record], rows: Sequence[Rows]
) -> Rows:  # fmt: skip
    """One row per run, kind of distractors and number of documents.

    Args:
        names: of the runs; the first is the one that the others are held against.
        records: their `results.json`, with a table `distraction_gap`.
        rows: their scored items.

    Returns:
        Rows of `run`, `kind`, `documents`, `gap`, `nats_gap` with their ends, `flips`; and, each
        with `_low` and `_high`, `score_difference`, `gap_difference`, `nats_difference` from the
        first run on the items that both have, with the numbers of questions `paired_written` and
        `paired`; None for the first run, and where there is none.
    """
    shown = ("gap", "low", "high", "nats_gap", "nats_low", "nats_high", "flips")
    table = []
    for name, record, own in zip(names, records, rows, strict=True):
        theirs = {row["digest"] for row in own}
        mine = {row["digest"] for row in rows[0]}
        found = {}
        if own is not rows[0]:
            first, second = ([one for one in some if one["digest"] in theirs & mine]
                             for some in (rows[0], own))  # fmt: skip
            compared = gap_differences(first, second)
            found = {(one["kind"], one["documents"]): one for one in compared}
        for row in record["tables"]["distraction_gap"]:
            line = {"run": name, "kind": row["kind"], "documents": row["documents"]}
            line |= {key: row[key] for key in shown}
            paired = found.get((row["kind"], row["documents"]), {})
            for key in DIFFERENCES:
                for end in ("", "_low", "_high"):
                    line[f"{key}_difference{end}"] = paired.get(f"{key}{end}")
            line |= {"paired_written": paired.get("written"), "paired": paired.get("n")}
            table.append(line)
    return table


def draw_distraction(rows: Rows) -> Figure:
    """Gap (or, where no answer was written, its nats) against the number of documents, a line per
    run, a panel per kind of distractors."""
    written = any(row["gap"] is not None for row in rows)
    value, low, high = ("gap", "low", "high") if written else ("nats_gap", "nats_low", "nats_high")
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure = Figure(figsize=(1 + 4 * len(kinds), 3.5), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    runs = list(dict.fromkeys(row["run"] for row in rows))
    counts = sorted({row["documents"] for row in rows})
    for axes, kind in zip(panels, kinds, strict=True):
        for number, run in enumerate(runs):
            own = [
                one for one in rows
                if one["run"] == run and one["kind"] == kind and one[value] is not None
            ]  # fmt: skip
            middle, aside = [one[value] for one in own], 0.6 * (number + 0.5) / len(runs) - 0.3
            ends = [[one[value] - one[low] for one in own], [one[high] - one[value] for one in own]]
            axes.errorbar(
                [counts.index(one["documents"]) + aside for one in own],
                middle, yerr=ends, marker="o", capsize=2, label=run,
            )  # fmt: skip
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xticks(range(len(counts)), [str(one) for one in counts])
        axes.set(xlabel="documents", xlim=(-0.5, len(counts) - 0.5), title=kind or "")
    unit = "points" if written else "nats per token of the right answer"
    panels[0].set(ylabel=f"distraction gap ({unit})")
    panels[-1].legend(fontsize=7)
    return figure


def report_distraction(
    folders: Sequence[Path], names: Sequence[str], records: Sequence[Record], target: Path
) -> Rows:
    """Print the gaps and write `report_distraction.csv` and `report_distraction.png`; returns the
    rows.

    Raises:
        RunDirError: a run's table of items is missing.
    """
    rows = distraction_rows(names, records, [scored_rows(folder) for folder in folders])
    if not rows:
        return []
    table = Table(
        "run", "distractors",
        title="Distraction gap in points and nats; difference from the first run's gap, paired",
    )  # fmt: skip
    columns = ("gap", "95%", "nats", "flips %", "score diff", "gap diff", "95%", "nats diff", "95%")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["run"], f"{row['documents']} docs {row['kind']}", _number(row["gap"], ".1f"),
            _span(row, "low", "high"), _number(row["nats_gap"], ".3f"),
            _number(row["flips"], ".1f"), _number(row["score_difference"], "+.1f"),
            _number(row["gap_difference"], "+.1f"),
            _span(row, "gap_difference_low", "gap_difference_high"),
            _number(row["nats_difference"], "+.3f"),
            _span(row, "nats_difference_low", "nats_difference_high", "+.3f"),
        )  # fmt: skip
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)
    target.mkdir(parents=True, exist_ok=True)
    write_csv(target / "report_distraction.csv", rows)
    picture = save_figure(draw_distraction(rows), target / "report_distraction.png")
    console.print(f"Written: {target / 'report_distraction.csv'}, {picture}", soft_wrap=True)
    return rows


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _span(row: Mapping[str, Any], low: str, high: str, form: str = "+.1f") -> str:
    return "-" if row[low] is None else f"{row[low]:{form}} to {row[high]:{form}}"
