"""Cross-entropy of an output head without the logits of all positions at once.

Shape letters: T positions, D width, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def chunked_cross_entropy(
    hidden_TD: Tensor, labels_T: Tensor, head: Callable[[Tensor], Tensor],
    softcap: float | None = None, chunk: int = 256, reduction: str = "sum",
) -> Tensor:  # fmt: skip
    """The cross-entropies in nats, or their sum.

    A chunk's logits live only while it is computed; the backward pass computes them again. Memory
    is `chunk` x V instead of T x V.

    Args:
        hidden_TD: hidden states that predict the labels.
        labels_T: int64 token ids.
        head: hidden states to logits.
        softcap: logits become softcap tanh(logits / softcap) (Gemma).
        chunk: positions at a time.
        reduction: "sum" or "none".

    Returns:
        () or (T,) float32, or float64 for float64 logits.
    """

    def part(hidden: Tensor, labels: Tensor) -> Tensor:
        logits = head(hidden)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        return F.cross_entropy(logits, labels, reduction="none")

    found = [hidden_TD.new_zeros(0, dtype=torch.promote_types(hidden_TD.dtype, torch.float32))]
    for start in range(0, len(labels_T), chunk):
        place = slice(start, start + chunk)
        found.append(checkpoint(part, hidden_TD[place], labels_T[place], use_reentrant=False))
    losses_T = torch.cat(found)
    return losses_T if reduction == "none" else losses_T.sum()
