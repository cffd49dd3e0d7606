"""`lcf`: the conveniences around training and evaluation, which themselves are Hydra apps.

Help answers at once: a subcommand imports what it needs when it runs.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lcframework import __version__
from lcframework.cli import (
    circuits,
    completion,
    contacts,
    context,
    doctor,
    embed,
    export,
    import_lcplm,
    models,
    score_variants,
    split_long,
    tune,
)
from lcframework.errors import ConfigError, LCFrameworkError


def _report(arguments: argparse.Namespace) -> None:
    from lcframework.run.report import report

    report([Path(one) for one in arguments.runs], Path(arguments.to) if arguments.to else None)


def _data_get(arguments: argparse.Namespace) -> None:
    from lcframework.data.sources import SOURCES, fetch

    if arguments.name not in SOURCES:
        raise ConfigError(
            f"No data set is called {arguments.name!r}; there are: {', '.join(SOURCES)} "
            "(lcf data list)."
        )
    fetch(SOURCES[arguments.name], Path(arguments.to))


def _data_list(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from lcframework.data.sources import SOURCES

    table = Table("name", "what", "licence")
    table.add_column("address", overflow="fold")
    for source in SOURCES.values():
        table.add_row(source.name, source.description, source.licence, source.url)
    Console().print(table)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="lcf",
        description="Tools around lcframework's runs and data.",
        epilog="Training: python -m lcframework.train --help; "
        "evaluation: python -m lcframework.evaluate --help",
    )
    parser.add_argument("--version", action="version", version=f"lcframework {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    report = commands.add_parser(
        "report", help="compare finished runs: a table, a picture, report.csv"
    )
    report.add_argument(
        "runs", nargs="+", help="run directories, or folders that hold some (a sweep)"
    )
    report.add_argument(
        "--to", help="folder for report.csv and report.png (default: the first folder given)"
    )
    report.set_defaults(work=_report)

    data = commands.add_parser(
        "data", help="download the declared data sets, set aside a test set"
    ).add_subparsers(metavar="action", required=True)
    listing = data.add_parser("list", help="what can be downloaded")
    listing.set_defaults(work=_data_list)
    get = data.add_parser("get", help="download, resume, verify")
    get.add_argument("name", help="a name from `lcf data list`")
    get.add_argument("--to", default="data", help="target folder (default: data)")
    get.set_defaults(work=_data_get)
    split_long.register(data)

    export.add_export(commands)
    for module in (
        import_lcplm,
        score_variants,
        embed,
        contacts,
        circuits,
        models,
        context,
        doctor,
        tune,
        completion,
    ):
        module.register(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `lcf`; exits with 2 and one paragraph for an error the user can mend."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        parsed.work(parsed)
    except LCFrameworkError as error:
        sys.stderr.write(f"\nError: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
