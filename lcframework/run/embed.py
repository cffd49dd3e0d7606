"""`lcf embed`: the hidden states of every protein of a FASTA file, of any length, in packs."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcframework.data.fasta import read_fasta
from lcframework.data.fasta_files import expand_inputs
from lcframework.errors import ConfigError, DataError
from lcframework.files import replace_file
from lcframework.models.hidden_states import RESIDUAL, resolve_layer
from lcframework.run.embed_files import Embedded, check_suffix, write_embeddings
from lcframework.run.variant_scores import inference_for, refuse_existing
from lcframework.tasks.embeddings import embeddings_of
from lcframework.tasks.variant_effects.inference import MAX_TOKENS

log = logging.getLogger(__name__)
PER = ("protein", "residue")


@dataclass(frozen=True)
class HowToEmbed:
    """The options of the command.

    Attributes:
        per: "protein" (mean over its residues) or "residue".
        layer: 0 is the embedding, -1 the last layer.
        convention: "residual" as ESM-2, or "mixer" as the published LC-PLM code.
        max_tokens: of a pack.
        device: "auto", "cpu" or "cuda".
        precision: "32" or "bf16".
    """

    per: str = PER[0]
    layer: int = -1
    convention: str = RESIDUAL
    max_tokens: int = MAX_TOKENS
    device: str = "auto"
    precision: str = "32"


def read_proteins(path: Path) -> tuple[list[str], list[NDArray[np.uint8]]]:
    """Identifiers and token ids of all proteins of a FASTA file.

    Raises:
        DataError: the file is missing or bad, or an identifier is repeated.
    """
    names: list[str] = []
    tokens: list[NDArray[np.uint8]] = []
    for block in read_fasta(expand_inputs(path)):
        tokens += np.split(block.tokens, np.cumsum(block.lengths)[:-1])
        names += [block.name(record) for record in range(len(block.lengths))]
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise DataError(f"{path}: two proteins are called {twice}. Rename or remove one.")
    return names, tokens


def embed(fasta: Path, model: str, output: Path, how: HowToEmbed) -> Path:
    """Embed the proteins of a FASTA file.

    Args:
        fasta: plain or compressed.
        model: run directory, *.ckpt file or Hugging Face folder.
        output: file to write; must not exist. `.npz` holds `ids` (S,), `lengths` (S,) in residues,
            `embeddings` (S, d) or (sum of lengths, d) float32 in the order of the file, and
            `about`, what they are. `.parquet` has one row per protein (`id`, `length`,
            `embedding`) or residue (`id`, `position` from 1, `residue`, `embedding`); what they
            are stands in the schema's metadata.
        how: the options.

    Raises:
        LCFrameworkError: a bad file, model or setting; nothing is written then.
    """
    check_suffix(output)
    if how.per not in PER:
        raise ConfigError(f"--per {how.per}: choose one of {', '.join(PER)}.")
    refuse_existing(output)
    names, proteins = read_proteins(fasta)
    inference = inference_for(model, how.max_tokens, how.device, how.precision)
    layer = resolve_layer(inference.network, how.layer)
    about = {"layer": str(layer), "convention": how.convention, "per": how.per, "model": model}
    started = time.perf_counter()

    def write(temporary: Path) -> None:
        per_residue = how.per == PER[1]
        parts = embeddings_of(inference, proteins, layer, how.convention, per_residue)
        write_embeddings(temporary, Embedded(names, proteins, per_residue, about, parts))
        refuse_existing(output)

    replace_file(output, write)
    seconds = time.perf_counter() - started
    residues = sum(len(one) for one in proteins)
    log.info(
        "%s: %s proteins, %s residues in %.1f s on %s; layer %d, convention %s, per %s.",
        *(output, f"{len(names):,}", f"{residues:,}", seconds, inference.device),
        *(layer, how.convention, how.per),
    )
    return output
