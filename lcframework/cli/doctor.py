"""`lcf doctor`: what this machine offers, what is missing, and the command that cures it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

MARKS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "broken": "[red]broken[/red]"}


def register(commands: Any) -> None:
    """Add `lcf doctor` to the subcommands."""
    parser = commands.add_parser(
        "doctor", help="versions, devices, kernels, missing extras and their cure"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument(
        "--runs", default="runs", help="folder that runs are written to (default: runs)"
    )
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    from lcframework.run.doctor import examine

    found = examine(Path(arguments.runs))
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        _show(found)
    if not found["ok"]:
        raise SystemExit(1)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for check in found["checks"]:
        table.add_row(MARKS[check["status"]], escape(check["what"]), escape(check["found"]))
    console.print(table)
    cures = [check for check in found["checks"] if check["cure"]]
    if cures:
        console.print("\nTo mend or add:")
    for check in cures:
        # Printed as it is: a command to copy must not be wrapped or read as markup.
        sys.stdout.write(f"  {check['what']}: {check['cure']}\n")
    broken = [check["what"] for check in found["checks"] if check["status"] == "broken"]
    verdict = f"Broken: {', '.join(broken)}." if broken else "Nothing needed is broken."
    console.print(f"\n{verdict}")
