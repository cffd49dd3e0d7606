"""`lcf export`: a trained run as a folder for Hugging Face transformers."""

import argparse
from pathlib import Path
from typing import Any


def _export(arguments: argparse.Namespace) -> None:
    from lcframework.run.export import export

    export(arguments.run, Path(arguments.to))


def add_export(commands: Any) -> None:
    """Add the subcommand to `lcf`'s parser; imports nothing heavy.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    parser = commands.add_parser(
        "export", help="write an LC-PLM run as a folder for Hugging Face transformers"
    )
    parser.add_argument("run", help="run directory (its newest checkpoint) or a *.ckpt file")
    parser.add_argument("--to", required=True, help="folder to write; must be new or empty")
    parser.set_defaults(work=_export)
