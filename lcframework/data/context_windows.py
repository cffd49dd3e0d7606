"""Windows of several sizes around the same residues of a masked protein.

The whole protein is masked first and the windows are cut from it, so every window shows the same
masks and the same visible residues; only how far it reaches differs. A window gets `<cls>` and
`<eos>` at its ends, as a training crop does.

Shape letters: T tokens of the pack, W tokens of a window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lcframework.data.alphabet import CLS_ID, EOS_ID, SPECIALS_PER_PROTEIN
from lcframework.data.batch import IGNORE_LABEL, PackedProteins
from lcframework.data.counter_random import Stream, draw, stream_key


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        row: the caller's number of the protein.
        context: index of the window's size.
        tokens: (W,) int64, `<cls> residues <eos>`, masked.
        labels: (W,) int64, the true id at the target's scored residues, -100 elsewhere.
    """

    row: int
    context: int
    tokens: Tensor
    labels: Tensor


def target_starts(length: int, sequence_id: int, span: int, count: int, seed: int = 0) -> list[int]:
    """First residues of the stretches whose residues are compared.

    The protein is cut into equal parts, one stretch at a random place in each, so that they cover
    the whole protein and never overlap. They depend on the protein and the seed alone.

    Args:
        length: residues of the protein, at least `span`.
        sequence_id: its index in the store.
        span: residues of a stretch.
        count: stretches wanted; fewer where they would overlap.
        seed: seed of the places.

    Returns:
        Ascending starts, at least one.

    Raises:
        ValueError: the protein is shorter than a stretch.
    """
    if not 1 <= span <= length or count < 1:
        raise ValueError(f"no {count} stretches of {span} residues in a protein of {length}")
    parts = min(count, length // span)
    key = stream_key(seed, 0, Stream.CONTEXT_TARGET)
    own = draw(key, np.array([sequence_id]))
    bits = draw(np.repeat(own, parts), np.arange(parts))
    borders = [part * length // parts for part in range(parts + 1)]
    return [
        low + int(bits[part] % np.uint64(high - low - span + 1))
        for part, (low, high) in enumerate(zip(borders, borders[1:], strict=False))
    ]


def window_start(length: int, target: int, span: int, width: int) -> int:
    """First residue of the window around a stretch, centred as far as the protein's ends allow.

    Windows of one stretch are nested: a wider one holds every narrower one.

    Args:
        length: residues of the protein, at least `width`.
        target: first residue of the stretch.
        span: its residues, at most `width`.
        width: residues of the window.
    """
    return min(max(target + span // 2 - width // 2, 0), length - width)


def cut_windows(
    batch: PackedProteins,
    protein: int,
    row: int,
    contexts: Sequence[int],
    span: int,
    count: int,
    seed: int = 0,
) -> tuple[Tensor, list[Window]]:
    """The targets of one protein of a pack, and windows of every context it exceeds.

    Args:
        batch: the masked pack.
        protein: which protein of it; longer than the shortest context.
        row: number that the windows carry.
        contexts: window sizes in tokens, `<cls>` and `<eos>` included, each at least `span` + 2.
        span: residues of a target stretch.
        count: stretches per protein.
        seed: seed of their places.

    Returns:
        (T,) bool, true at the scored residues of the targets, and the windows; a stretch without a
        scored residue has none.
    """
    first, end = (int(x) for x in batch.cu_seqlens[protein : protein + 2])
    length = end - first - SPECIALS_PER_PROTEIN
    scored_T = torch.zeros(batch.num_tokens, dtype=torch.bool, device=batch.tokens.device)
    windows: list[Window] = []
    for start in target_starts(length, int(batch.sequence_ids[protein]), span, count, seed):
        here = slice(first + 1 + start, first + 1 + start + span)
        scored_T[here] = batch.labels[here] != IGNORE_LABEL
        if not bool(scored_T[here].any()):
            continue
        for index, context in enumerate(contexts):
            width = context - SPECIALS_PER_PROTEIN
            if length <= width:
                continue
            low = window_start(length, start, span, width)
            inside = slice(first + 1 + low, first + 1 + low + width)
            labels = torch.full((context,), IGNORE_LABEL, device=batch.labels.device)
            offset = 1 + start - low
            labels[offset : offset + span] = batch.labels[here]
            ends = batch.tokens.new_tensor([CLS_ID, EOS_ID])
            tokens = torch.cat([ends[:1], batch.tokens[inside], ends[1:]])
            windows.append(Window(row, index, tokens, labels))
    return scored_T, windows


def pack_windows(windows: Sequence[Window]) -> PackedProteins:
    """Windows behind one another as a pack; `sequence_ids` numbers them from 0.

    Args:
        windows: at least one.
    """
    device = windows[0].tokens.device
    sizes = [len(window.tokens) for window in windows]
    borders = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return PackedProteins(
        tokens=torch.cat([window.tokens for window in windows]),
        labels=torch.cat([window.labels for window in windows]),
        cu_seqlens=torch.from_numpy(borders).to(device),
        max_len=max(sizes),
        sequence_ids=torch.arange(len(windows), device=device),
    )
