"""Copies of proteins with one residue masked each, packed under a token budget.

Legend: R proteins, M copies, T tokens of a pack, S copies in a pack.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from lcframework.data.alphabet import CLS_ID, EOS_ID, MASK_ID, encode
from lcframework.data.batch import IGNORE_LABEL, PackedProteins
from lcframework.data.packing import packs_in_order

Rows = Sequence[NDArray[np.int64]]


def token_row(sequence: str) -> NDArray[np.int64]:
    """`<cls> residues <eos>` as token ids.

    Raises:
        ValueError: a character is no amino-acid code.
    """
    row = np.empty(len(sequence) + 2, dtype=np.int64)
    row[0], row[-1] = CLS_ID, EOS_ID
    row[1:-1] = encode(sequence)
    return row


def window_starts(at: NDArray[np.int64], tokens: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """First tokens of ProteinGym's "optimal" windows of `size` tokens around the places `at`.

    Args:
        at: (M,) masked places, `<cls>` being 0.
        tokens: (M,) tokens of each whole protein.
        size: of the windows, even.

    Returns:
        (M,); 0 where the protein is no longer than the window.
    """
    return np.clip(at - size // 2, 0, np.maximum(tokens - size, 0))


def masked_packs(
    rows: Rows,
    owner: NDArray[np.int64],
    at: NDArray[np.int64],
    max_tokens: int,
    window: int | None = None,
) -> Iterator[tuple[slice, PackedProteins]]:
    """Packs of masked copies, in order.

    Args:
        rows: R token rows with `<cls>` and `<eos>`.
        owner: (M,) protein of each copy.
        at: (M,) place masked in it, `<cls>` being 0.
        max_tokens: budget of a pack; a longer copy is a pack of its own, whole.
        window: cut each copy to ProteinGym's window of so many tokens; None: whole proteins.

    Yields:
        Which of the M copies the pack holds, and the pack: its labels are the masked tokens,
        `sequence_ids` the copies.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)[owner]
    starts = np.zeros(len(owner), dtype=np.int64)
    if window is not None:
        starts, lengths = window_starts(at, lengths, window), np.minimum(lengths, window)
    _, borders = packs_in_order(lengths, max_tokens)
    for first, last in pairwise(borders.tolist()):
        cu = np.concatenate([[0], np.cumsum(lengths[first:last])])
        tokens = np.concatenate(
            [
                rows[owner[copy]][starts[copy] : starts[copy] + lengths[copy]]
                for copy in range(first, last)
            ]
        )
        masked = cu[:-1] + at[first:last] - starts[first:last]
        labels = np.full(len(tokens), IGNORE_LABEL, dtype=np.int64)
        labels[masked] = tokens[masked]
        tokens[masked] = MASK_ID
        yield (
            slice(first, last),
            PackedProteins(
                tokens=torch.from_numpy(tokens),
                labels=torch.from_numpy(labels),
                cu_seqlens=torch.from_numpy(cu.astype(np.int32)),
                max_len=int(lengths[first:last].max()),
                sequence_ids=torch.arange(first, last),
            ),
        )
