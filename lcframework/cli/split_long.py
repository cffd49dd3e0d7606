"""`lcf data split-long`: long proteins set aside as a test set."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lcframework.errors import ConfigError

MIN_LENGTH, SEED, IDENTITY, COVERAGE = 2048, 1, 0.5, 0.8


def register(actions: Any) -> None:
    """Add `split-long` to the actions of `lcf data`."""
    parser = actions.add_parser(
        "split-long",
        help="set long proteins aside as a test set",
        description="Write split.txt (the accessions: commit it), train.fasta.gz and "
        "test.fasta.gz. Homologues of test proteins are removed from training if mmseqs (MMseqs2) "
        "is installed.",
    )
    parser.add_argument("inputs", nargs="+", help="FASTA files or quoted patterns (.gz .xz .zst)")
    parser.add_argument("--to", required=True, help="new folder for the three files")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--n", type=int, help="how many test proteins")
    amount.add_argument("--fraction", type=float, help="which share of the long proteins")
    amount.add_argument("--from-list", metavar="FILE", help="repeat the split of this split.txt")
    # Without defaults, so that a setting beside --from-list is seen and refused.
    parser.add_argument(
        "--min-length", type=int, help=f"residues of a long protein (default: {MIN_LENGTH})"
    )
    parser.add_argument("--seed", type=int, help=f"which proteins (default: {SEED})")
    parser.add_argument(
        "--identity", type=float, help=f"of a homologue's alignment (default: {IDENTITY})"
    )
    parser.add_argument(
        "--coverage", type=float, help=f"of the shorter of the two (default: {COVERAGE})"
    )
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    from lcframework.data.homologues import HomologueRule
    from lcframework.data.split_long import LongChoice, split_from_list, split_long

    folder = Path(arguments.to)
    settings = ("min_length", "seed", "identity", "coverage")
    given = [name for name in settings if getattr(arguments, name) is not None]
    if arguments.from_list is not None:
        if given:
            flags = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ConfigError(f"{flags} has no effect with --from-list, which repeats a split.")
        counts = split_from_list(arguments.inputs, folder, Path(arguments.from_list))
    else:
        defaults = dict(zip(settings, (MIN_LENGTH, SEED, IDENTITY, COVERAGE), strict=True))
        value = {**defaults, **{name: getattr(arguments, name) for name in given}}
        choice = LongChoice(
            arguments.n, arguments.fraction, int(value["min_length"]), int(value["seed"])
        )
        rule = HomologueRule(value["identity"], value["coverage"])
        counts = split_long(arguments.inputs, folder, choice, rule)
    sys.stdout.write(
        f"{folder}: {counts.test:,} test proteins, {counts.train:,} for training, "
        f"{counts.removed:,} homologues in neither ({counts.homologues})\n"
    )
