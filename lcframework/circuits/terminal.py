"""Reports and verdicts on a terminal."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lcframework.circuits import render
from lcframework.circuits.costs import CONTEXT, heading
from lcframework.circuits.references import REFERENCES
from lcframework.circuits.report import SURE, Report
from lcframework.circuits.setting import Setting
from lcframework.circuits.symbols import DEPTH, SIZE
from lcframework.circuits.tasks import TASKS
from lcframework.circuits.verdicts import CAVEATS, Verdict

TAGS = {"paper": "green", "extension": "yellow", "unknown": "red"}
ANSWERS = {"expressible": "green", "not expressible": "red", "open": "yellow"}
WIDTH = 132
"""Used where the output is no terminal, so that a file holds readable lines."""


def show_report(report: Report) -> None:
    """Print a report."""
    console = _console()
    console.print(escape(render.title(report)), style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in render.HEADERS[1:]:
        table.add_column(
            name,
            justify="right" if name == "x" else "left",
            overflow="fold",
            no_wrap=name == "depth of one",
        )
    part = ""
    for where, *row in render.rows(report):
        if where != part:
            part = where
            table.add_row(f"[dim]{escape(where)}[/dim]")
        cells = [escape(cell) for cell in row]
        cells[0] = f"  {cells[0]}"
        cells[4] = f"[{TAGS[row[4]]}]{row[4]}[/]"
        table.add_row(*cells)
    console.print(table)
    totals = Table(box=None, show_header=False, pad_edge=False)
    totals.add_column(no_wrap=True, style="bold")
    totals.add_column()
    for what, value in render.summary(report):
        totals.add_row(what, escape(value))
    console.print()
    console.print(totals)
    _show_symbols(console, report)
    for part, why in report.unknown:
        console.print(f"[red]not understood:[/red] {escape(part)}: {escape(why)}")
    for note in report.notes:
        console.print(f"note: {escape(note)}")
    console.print()
    show_verdicts(report.model.name, report.setting, report.verdicts, console)
    console.print(f"\n{escape(SURE)}")
    _show_references(console, report.cited())


def _show_symbols(console: Console, report: Report) -> None:
    console.print()
    if report.costs:
        console.print(escape(heading(report.fmt)))
        for cost in report.costs.values():
            symbol = DEPTH[f"d_{cost.symbol}"]
            value = "stays a symbol" if cost.depth is None else f"{cost.depth} layers"
            console.print(f"  {symbol.text}: {value}; {escape(cost.source)}")
        console.print(f"  {escape(CONTEXT)}")
        return
    used = report.total.depth.variables | (report.formula.variables if report.formula else set())
    for name, symbol in DEPTH.items():
        if name in used:
            console.print(f"  {symbol.text}: {escape(symbol.meaning)}")
    console.print(
        f"  {SIZE['s_std'].text}, {SIZE['s_oplus'].text}, ...: gates of the same; a whole number "
        "is plain gates"
    )


def show_verdicts(
    name: str, setting: Setting, verdicts: Sequence[Verdict], console: Console | None = None
) -> None:
    """Print a table of verdicts, the hypotheses and what must be kept in mind."""
    console = console or _console()
    bound = next((one.bound for one in verdicts if one.bound), None)
    text = f"{bound.text} ({bound.level})" if bound else "no upper bound is known here"
    console.print(f"[bold]What {escape(name)} can compute[/bold] as n grows: {escape(text)}")
    for key, words in setting.hypotheses().items():
        console.print(f"  {key} {escape(words)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "class", "verdict", "source"):
        table.add_column(column)
    for one in verdicts:
        task = TASKS[one.task]
        level = task.level + ("-complete" if task.complete else "")
        answer = f"[{ANSWERS[one.answer]}]{one.text}[/]"
        table.add_row(f"{task.title} ({one.task})", level, answer, render.cited(one.cite[:1]))
    console.print(table)
    console.print("Conditions of each: lcf circuits verdict --task NAME")
    for caveat in CAVEATS:
        console.print(escape(caveat))


def _show_references(console: Console, keys: Sequence[str]) -> None:
    console.print("\n[bold]Sources[/bold] (what could be read of them in brackets)")
    for key in keys:
        one = REFERENCES[key]
        console.print(
            f"  {key}: {escape(one.who)}. {escape(one.title)}. {escape(one.where)}. \\[{one.read}]"
        )


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)
