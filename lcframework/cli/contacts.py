"""`lcf contacts`: residue contacts of a protein from a language model's Jacobian."""

import argparse
from pathlib import Path
from typing import Any

from lcframework.cli.score_variants import add_model_options


def register(commands: Any) -> None:
    """Add the subcommand to `lcf`'s parser; imports nothing heavy."""
    parser = commands.add_parser(
        "contacts",
        help="contact map of a protein from a model's categorical Jacobian",
        description="Write the scores of all residue pairs as .npz and a picture as .png; with a "
        "structure also precision at L, L/2 and L/5 as .csv.",
    )
    parser.add_argument("fasta", help="FASTA file with one protein")
    add_model_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        help="name of the files without suffix; must be new (default: the FASTA file's name)",
    )
    parser.add_argument(
        "--structure",
        help="PDB or mmCIF file of the protein, or a file of TAPE's contact task that has it",
    )
    parser.add_argument("--chain", help="of the structure; default: the one that fits")
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    from lcframework.run.contacts import HowToPredict, contacts

    how = HowToPredict(
        None if arguments.structure is None else Path(arguments.structure),
        arguments.chain,
        arguments.max_tokens,
        arguments.device,
        arguments.precision,
    )
    fasta = Path(arguments.fasta)
    output = arguments.output or f"{fasta.name.partition('.')[0]}_contacts"
    contacts(fasta, arguments.model, Path(output), how)
