"""`lcf embed`: the hidden states of every protein of a FASTA file, of any length, in packs."""

import logging
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lcframework.data.alphabet import CLS_ID, EOS_ID, SPECIALS_PER_PROTEIN
from lcframework.data.fasta import read_fasta
from lcframework.data.fasta_files import expand_inputs
from lcframework.data.packing import packs_in_order
from lcframework.errors import ConfigError, DataError
from lcframework.files import replace_file
from lcframework.models.hidden_states import RESIDUAL, hidden_states, resolve_layer
from lcframework.run.variant_scores import inference_for, refuse_existing
from lcframework.tasks.variant_effects.inference import MAX_TOKENS, Inference

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


def embeddings_of(
    inference: Inference, proteins: list[NDArray[np.uint8]], how: HowToEmbed
) -> Iterator[NDArray[np.float32]]:
    """Rows of embeddings, pack by pack in the order of the proteins.

    Yields:
        (residues of the pack, d), or (proteins of the pack, d) means over residues; `<cls>` and
        `<eos>` are left out.
    """
    lengths = np.array([len(one) + SPECIALS_PER_PROTEIN for one in proteins], dtype=np.int64)
    _, borders = packs_in_order(lengths, inference.max_tokens)
    for first, last in pairwise(borders.tolist()):
        some = proteins[first:last]
        ids = np.concatenate([part for one in some for part in ([CLS_ID], one, [EOS_ID])])
        cu = np.concatenate([[0], np.cumsum(lengths[first:last])]).astype(np.int32)
        tokens = torch.from_numpy(ids.astype(np.int64)).to(inference.device)
        with torch.no_grad(), inference.precision():
            states = hidden_states(
                inference.network,
                tokens,
                torch.from_numpy(cu).to(inference.device),
                int(lengths[first:last].max()),
                how.layer,
                how.convention,
            )
        found = states.float().cpu().numpy()
        residues = [found[start + 1 : stop - 1] for start, stop in pairwise(cu.tolist())]
        if how.per == PER[0]:
            yield np.stack([one.mean(axis=0, dtype=np.float64) for one in residues]).astype("f4")
        else:
            yield np.concatenate(residues)


def embed(fasta: Path, model: str, output: Path, how: HowToEmbed) -> Path:
    """Embed the proteins of a FASTA file.

    Args:
        fasta: plain or compressed.
        model: run directory, *.ckpt file or Hugging Face folder.
        output: `.npz` file to write; must not exist. It holds `ids` (S,), `lengths` (S,) in
            residues, `embeddings` (S, d) or (sum of lengths, d) float32 in the order of the file,
            and `about`, what they are.
        how: the options.

    Raises:
        LCFrameworkError: a bad file, model or setting; nothing is written then.
    """
    if output.suffix != ".npz":
        raise ConfigError(f"-o {output}: embeddings are written as .npz; give a name that ends so.")
    if how.per not in PER:
        raise ConfigError(f"--per {how.per}: choose one of {', '.join(PER)}.")
    refuse_existing(output)
    names, proteins = read_proteins(fasta)
    inference = inference_for(model, how.max_tokens, how.device, how.precision)
    layer = resolve_layer(inference.network, how.layer)
    lengths = np.array([len(one) for one in proteins], dtype=np.int64)
    rows = len(names) if how.per == PER[0] else int(lengths.sum())
    started = time.perf_counter()
    small = {
        "ids": np.array(names),
        "lengths": lengths,
        "about": np.array(
            [f"layer {layer}", f"convention {how.convention}", f"per {how.per}", str(model)]
        ),
    }

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, values in small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
            with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                _stream(member, embeddings_of(inference, proteins, how), rows)
        refuse_existing(output)

    replace_file(output, write)
    seconds = time.perf_counter() - started
    log.info(
        "%s: %s proteins, %s residues in %.1f s on %s; layer %d, convention %s, per %s.",
        *(output, f"{len(names):,}", f"{int(lengths.sum()):,}", seconds, inference.device),
        *(layer, how.convention, how.per),
    )
    return output


def _stream(member: Any, parts: Iterator[NDArray[np.float32]], rows: int) -> None:
    """Write an array part by part, so that memory holds one pack's rows."""
    header_written = False
    for part in parts:
        if not header_written:
            shape = (rows, part.shape[1])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(member, header)
            header_written = True
        member.write(np.ascontiguousarray(part, dtype="<f4").tobytes())
