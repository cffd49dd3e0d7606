"""`lcf embed`: hidden states of proteins, per protein or per residue."""

import argparse
from pathlib import Path
from typing import Any

from lcframework.cli.score_variants import add_model_options


def register(commands: Any) -> None:
    """Add the subcommand to `lcf`'s parser; imports nothing heavy."""
    parser = commands.add_parser(
        "embed",
        help="hidden states of proteins of any length, per protein or per residue",
        description="Write ids, lengths and embeddings (float32, in file order) as .npz, or one "
        "row per protein or residue as .parquet.",
    )
    parser.add_argument("fasta", help="FASTA file, plain or compressed")
    add_model_options(parser)
    parser.add_argument(
        "-o", "--output", required=True, help=".npz or .parquet file to write; must be new"
    )
    parser.add_argument(
        "--per",
        choices=("protein", "residue"),
        default="protein",
        help="mean over a protein's residues (default), or every residue",
    )
    parser.add_argument(
        "--layer", type=int, default=-1, help="0 is the embedding, -1 the last layer (default)"
    )
    parser.add_argument(
        "--convention",
        choices=("residual", "mixer"),
        default="residual",
        help="residual stream, as ESM-2 (default), or mixer output, as the published LC-PLM code",
    )
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    from lcframework.run.embed import HowToEmbed, embed

    how = HowToEmbed(
        arguments.per,
        arguments.layer,
        arguments.convention,
        arguments.max_tokens,
        arguments.device,
        arguments.precision,
    )
    embed(Path(arguments.fasta), arguments.model, Path(arguments.output), how)
