"""`lcf score-variants`: a protein and its variants in, the same table with scores out."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lcframework.data.alphabet import decode
from lcframework.data.fasta import read_fasta
from lcframework.data.proteingym.csv_table import CsvTable, read_csv_table
from lcframework.data.proteingym.mutants import (
    Mutants,
    Problem,
    check_sequences,
    parse_mutants,
    problems_in_words,
    refuse_problems,
)
from lcframework.errors import ConfigError, DataError
from lcframework.files import write_csv
from lcframework.run.networks import find_checkpoint, load_network
from lcframework.tasks.variant_effects.inference import MAX_TOKENS, Inference
from lcframework.tasks.variant_effects.strategies import (
    MASKED,
    PLL,
    check_strategy,
    score_mutants,
    score_sequences,
)

log = logging.getLogger(__name__)
CURE = (
    "Check that the two files belong together and that positions count from 1 on the FASTA "
    "sequence, or leave these rows out with --drop-bad."
)


@dataclass(frozen=True)
class HowToScore:
    """The options of the command.

    Attributes:
        strategy: see `tasks.variant_effects.strategies`.
        window: tokens of ProteinGym's window; None: the whole protein.
        official_off_by_one: see `pseudo_log_likelihoods`.
        max_tokens: of a pack.
        device: "auto", "cpu" or "cuda".
        precision: "32" or "bf16".
        drop_bad: leave out variants that do not fit the protein instead of stopping.
    """

    strategy: str = MASKED
    window: int | None = None
    official_off_by_one: bool = False
    max_tokens: int = MAX_TOKENS
    device: str = "auto"
    precision: str = "32"
    drop_bad: bool = False


def refuse_existing(path: Path) -> None:
    """Stop before an output file is overwritten.

    Raises:
        ConfigError: something is there, or its folder is missing.
    """
    if path.exists():
        raise ConfigError(f"-o {path} exists already. Nothing was written; name a new file.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"-o {path}: the folder {path.parent} does not exist. Make it first.")


def inference_for(model: str, max_tokens: int, device: str, precision: str) -> Inference:
    """Load a model for inference.

    Args:
        model: run directory, *.ckpt file or Hugging Face folder.
        max_tokens: of a pack.
        device: "auto" takes a GPU where there is one.
        precision: "32", or "bf16" for autocast.

    Raises:
        CheckpointError: no usable model.
        ConfigError: a device that is not there, or a budget below 1.
    """
    if max_tokens < 1:
        raise ConfigError(f"--max-tokens {max_tokens}: it must be at least 1.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: PyTorch finds no GPU here. `lcf doctor` says what it has."
        )
    network = load_network(find_checkpoint(model)).eval().to(device)

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device, torch.bfloat16)

    contexts: dict[str, Callable[[], AbstractContextManager]] = {"32": nullcontext}
    return Inference(network, max_tokens, contexts.get(precision, autocast))


def one_protein(path: Path) -> tuple[str, str]:
    """Name and sequence of a FASTA file's only record.

    Raises:
        DataError: the file is no protein FASTA, or holds several records.
    """
    found: list[tuple[str, str]] = []
    for block in read_fasta([path]):
        ends = np.cumsum(block.lengths)
        for record, end in enumerate(ends.tolist()):
            start = end - int(block.lengths[record])
            found.append((block.name(record), decode(block.tokens[start:end])))
    if len(found) != 1:
        raise DataError(
            f"{path} holds {len(found)} proteins; the wild type must be one. Give a file with that "
            "record alone."
        )
    return found[0]


def score_variants(
    wild_type: Path, variants: Path, model: str, output: Path, how: HowToScore
) -> Path:
    """Score the variants of a protein.

    Args:
        wild_type: FASTA file with one record.
        variants: CSV with a column `mutant` (`A24C:D30N`), or `mutated_sequence` for insertions and
            deletions; other columns are kept.
        model: run directory, *.ckpt file or Hugging Face folder.
        output: CSV file to write; must not exist.
        how: the options.

    Returns:
        `output`.

    Raises:
        LCFrameworkError: a bad file, model or setting; nothing is written then.
    """
    check_strategy(how.strategy, how.window, how.official_off_by_one)
    refuse_existing(output)
    name, target = one_protein(wild_type)
    table = read_csv_table(variants)
    column = how.strategy.replace("-", "_")
    if column in table.header:
        raise DataError(
            f"{variants}, line 1: there is a column {column!r} already, and the scores would get "
            "that name. Rename it."
        )
    mutants, sequences, kept = _variants_of(table, target, how)
    inference = inference_for(model, how.max_tokens, how.device, how.precision)
    started = time.perf_counter()
    if mutants is None:
        scores = score_sequences(inference, target, sequences, how.official_off_by_one)
    else:
        scores = score_mutants(
            inference, target, mutants, how.strategy, how.window, how.official_off_by_one
        )
    seconds = time.perf_counter() - started
    refuse_existing(output)
    rows = [
        {**dict(zip(table.header, table.rows[index], strict=True)), column: score}
        for index, score in zip(kept.tolist(), scores.tolist(), strict=True)
    ]
    write_csv(output, rows)
    log.info(
        "%s: %s variants of %s (%s residues) scored in %.1f s on %s; column %s, higher is fitter, "
        "0 is the wild type.",
        *(output, f"{len(scores):,}", name, f"{len(target):,}", seconds, inference.device, column),
    )
    return output


def _variants_of(
    table: CsvTable, target: str, how: HowToScore
) -> tuple[Mutants | None, list[str], NDArray[np.int64]]:
    """(parsed substitutions or None, full sequences where None, indices of the rows kept)."""
    has_sequence = "mutated_sequence" in table.header
    if "mutant" not in table.header:
        if not has_sequence:
            raise DataError(
                f"{table.path}, line 1: neither `mutant` nor `mutated_sequence` is a column; the "
                f"header is {','.join(table.header)[:99]!r}. Name the column of A24C:D30N `mutant` "
                "and separate columns by commas."
            )
        if how.strategy != PLL:
            raise ConfigError(
                f"{table.path} has no column `mutant`, only full sequences, which may hold "
                f"insertions and deletions: {how.strategy} cannot score them. Use --strategy {PLL}."
            )
        sequences = [text.upper() for text in table.column("mutated_sequence")]
        problems = check_sequences(sequences)
        kept = np.setdiff1d(np.arange(len(sequences)), [problem.index for problem in problems])
        _refuse_or_drop(table, problems, len(kept), how.drop_bad)
        return None, [sequences[index] for index in kept.tolist()], kept
    given = table.column("mutated_sequence") if has_sequence else None
    mutants, kept, problems = parse_mutants(table.column("mutant"), target, given)
    _refuse_or_drop(table, problems, len(kept), how.drop_bad)
    return mutants, [], kept


def _refuse_or_drop(table: CsvTable, problems: list[Problem], kept: int, drop: bool) -> None:
    if not drop or not kept:
        refuse_problems(problems, str(table.path), table.lines, len(table.rows), CURE)
    elif problems:
        words = problems_in_words(problems, table.lines, len(table.rows))
        log.warning("%s: %s. Left out.", table.path, words)
