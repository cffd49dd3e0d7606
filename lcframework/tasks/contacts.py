"""The categorical Jacobian of a masked language model, in packs.

Nothing is masked: each residue in turn becomes each of the 20 amino acids, and the logits of all
residues are read (Zhang et al. 2024). That is 20 L copies of a protein of L residues, so the work
grows with L^2 and the Jacobian, 1,600 L^2 bytes, too: 100 MB at 250 residues, 1.6 GB at 1,000.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from lcframework.data.alphabet import STANDARD_IDS
from lcframework.data.packing import packs_in_order
from lcframework.errors import DataError
from lcframework.scoring.jacobian import contact_scores
from lcframework.tasks.variant_effects.inference import Inference, evaluation_mode
from lcframework.tasks.variant_effects.masked_copies import token_row

LETTERS = len(STANDARD_IDS)


def categorical_jacobian(inference: Inference, sequence: str) -> NDArray[np.float32]:
    """Change of every logit by every substitution.

    Args:
        inference: the network and how to run it; a copy of the protein longer than its `max_tokens`
            is a pack of its own.
        sequence: L residues.

    Returns:
        (L, 20, L, 20) float32, amino acids in the order of the alphabet: [i, a, j, b] is the logit
        of b at residue j when residue i is a, minus the logit in the sequence as given.

    Raises:
        DataError: there is no memory for it.
    """
    row = torch.from_numpy(token_row(sequence))
    length = len(sequence)
    try:
        found = np.empty((length * LETTERS, length, LETTERS), dtype=np.float32)
    except MemoryError as error:
        gigabytes = 4 * (length * LETTERS) ** 2 / 1e9
        raise DataError(
            f"A categorical Jacobian of {length:,} residues needs {gigabytes:,.1f} GB of memory, "
            "which is not there. Give a domain of the protein instead of the whole."
        ) from error
    _, borders = packs_in_order(np.full(len(found), len(row)), inference.max_tokens)
    with evaluation_mode(inference.network):
        given = _logits(inference, row[None])
        for first, last in pairwise(borders.tolist()):
            copies = row.repeat(last - first, 1)
            copy = torch.arange(first, last)
            copies[copy - first, copy // LETTERS + 1] = copy % LETTERS + int(STANDARD_IDS[0])
            found[first:last] = _logits(inference, copies) - given
    return found.reshape(length, LETTERS, length, LETTERS)


def _logits(inference: Inference, copies: torch.Tensor) -> NDArray[np.float32]:
    """(S, L, 20) logits of the residues of S copies (S, L + 2)."""
    count, tokens = copies.shape
    device = inference.device
    borders = torch.arange(0, count * tokens + 1, tokens, dtype=torch.int32, device=device)
    inside = torch.arange(count * tokens, device=device).reshape(count, tokens)[:, 1:-1]
    with torch.no_grad(), inference.precision():
        logits = inference.network(
            copies.reshape(-1).to(device), borders, tokens, at=inside.reshape(-1)
        )
    first = int(STANDARD_IDS[0])
    kept = logits[:, first : first + LETTERS].float()
    return kept.reshape(count, tokens - 2, LETTERS).cpu().numpy()


def predicted_contacts(inference: Inference, sequence: str) -> NDArray[np.float64]:
    """(L, L) contact scores of a protein: Jacobian, centred, symmetrised, norms, average product
    correction.

    Raises:
        DataError: there is no memory for it.
    """
    return contact_scores(categorical_jacobian(inference, sequence))
