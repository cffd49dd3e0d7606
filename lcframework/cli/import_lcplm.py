"""`lcf import-lcplm`: the published LC-PLM checkpoint as a Hugging Face folder."""

import argparse
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    """Add `lcf import-lcplm` to the subcommands."""
    parser = commands.add_parser(
        "import-lcplm", help="turn the published LC-PLM checkpoint into a Hugging Face folder"
    )
    parser.add_argument(
        "checkpoint", help="folder with config.json and weights, or one .safetensors or .bin file"
    )
    parser.add_argument("--to", required=True, help="folder to write; must not exist or be empty")
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from lcframework.models.lcplm.published_files import read_published
    from lcframework.run.export import refuse_occupied, write_folder
    from lcframework.run.model_card import import_card

    source, target = Path(arguments.checkpoint), Path(arguments.to).expanduser().absolute()
    refuse_occupied(target)  # before gigabytes are read
    network = read_published(source)
    write_folder(network, target, import_card(network, source.name))
    Console().print(f"Written: {target}, {network.num_parameters():,} parameters")
