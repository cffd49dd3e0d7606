"""Hidden states of proteins of any length, in packs: per residue, or their mean per protein."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcframework.data.alphabet import CLS_ID, EOS_ID, SPECIALS_PER_PROTEIN
from lcframework.data.packing import packs_in_order
from lcframework.models.hidden_states import RESIDUAL, hidden_states
from lcframework.tasks.variant_effects.inference import Inference


def embeddings_of(
    inference: Inference,
    proteins: Sequence[NDArray[np.uint8]],
    layer: int = -1,
    convention: str = RESIDUAL,
    per_residue: bool = False,
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Rows of embeddings, pack by pack in the order of the proteins.

    Args:
        inference: the network and how to run it.
        proteins: token ids of each protein's residues, at least one each.
        layer: 0 is the embedding, -1 the last layer.
        convention: see `lcframework.models.hidden_states`.
        per_residue: rows of residues instead of their mean per protein.

    Yields:
        First protein of the pack, one behind its last, and (residues of the pack, d), or (proteins
        of the pack, d) means over residues; `<cls>` and `<eos>` are left out.
    """
    lengths = np.array([len(one) + SPECIALS_PER_PROTEIN for one in proteins], dtype=np.int64)
    _, borders = packs_in_order(lengths, inference.max_tokens)
    for first, last in pairwise(borders.tolist()):
        states = _residue_states(inference, proteins[first:last], layer, convention)
        if not per_residue:
            counts = torch.from_numpy(lengths[first:last] - SPECIALS_PER_PROTEIN)
            states = torch.segment_reduce(states, "mean", lengths=counts.to(states.device))
        yield first, last, states.cpu().numpy()


def _residue_states(
    inference: Inference, proteins: Sequence[NDArray[np.uint8]], layer: int, convention: str
) -> Tensor:
    """(R, d) float32 states of a pack's residues, on the network's device."""
    lengths = np.array([len(one) + SPECIALS_PER_PROTEIN for one in proteins], dtype=np.int64)
    ends = np.cumsum(lengths)
    ids = np.empty(ends[-1], dtype=np.int64)
    residue = np.ones(ends[-1], dtype=bool)
    residue[ends - 1] = residue[ends - lengths] = False
    ids[residue] = np.concatenate(proteins)
    ids[ends - lengths], ids[ends - 1] = CLS_ID, EOS_ID
    cu = torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32))
    device = inference.device
    with torch.no_grad(), inference.precision():
        states = hidden_states(
            inference.network,
            torch.from_numpy(ids).to(device),
            cu.to(device),
            int(lengths.max()),
            layer,
            convention,
        )
    return states[torch.from_numpy(np.flatnonzero(residue)).to(device)].float()
