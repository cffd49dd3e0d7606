"""`lcf score-variants`: what a masked protein language model says of a protein's variants."""

import argparse
from pathlib import Path
from typing import Any

STRATEGIES = ("masked-marginals", "wt-marginals", "pseudo-log-likelihood")


def register(commands: Any) -> None:
    """Add the subcommand to `lcf`'s parser; imports nothing heavy."""
    parser = commands.add_parser(
        "score-variants",
        help="score the variants of a protein, of any length",
        description="Write the table of variants with a column of scores: higher is fitter, 0 is "
        "the wild type.",
    )
    parser.add_argument("wild_type", help="FASTA file with the one wild-type protein")
    parser.add_argument(
        "variants",
        help="CSV with a column `mutant` (A24C or A24C:D30N, counted from 1), or "
        "`mutated_sequence` for insertions and deletions",
    )
    add_model_options(parser)
    parser.add_argument("-o", "--output", required=True, help="CSV file to write; must be new")
    parser.add_argument("--strategy", choices=STRATEGIES, default=STRATEGIES[0])
    parser.add_argument(
        "--window",
        type=int,
        help="cut longer proteins to ProteinGym's window of so many tokens (1024 there) around "
        "each position, for comparison; default: the whole protein",
    )
    parser.add_argument(
        "--official-off-by-one",
        action="store_true",
        help="repeat the index error of ProteinGym's pseudo-perplexity, for comparison",
    )
    parser.add_argument(
        "--drop-bad",
        action="store_true",
        help="leave out variants that do not fit the protein (default: stop)",
    )
    parser.set_defaults(work=_work)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that runs a model."""
    parser.add_argument(
        "--model",
        required=True,
        help="run directory, *.ckpt file, or folder of `lcf export` or of ESM-2 (transformers)",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=16_384, help="tokens of a pack (default: 16384)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32")


def _work(arguments: argparse.Namespace) -> None:
    from lcframework.run.variant_scores import HowToScore, score_variants

    how = HowToScore(
        arguments.strategy,
        arguments.window,
        arguments.official_off_by_one,
        arguments.max_tokens,
        arguments.device,
        arguments.precision,
        arguments.drop_bad,
    )
    score_variants(
        Path(arguments.wild_type),
        Path(arguments.variants),
        arguments.model,
        Path(arguments.output),
        how,
    )
