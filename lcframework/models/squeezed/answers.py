"""What asking a context gives back: the text, and how much of the document was read for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcframework.models.squeezed.cache import SqueezedCache


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        question: as asked.
        text: the answer, special tokens left out.
        tokens: its token ids, up to and without the end token.
        kept_prefill: (L, H) share of the clustered tokens read while the question was read, L the
            squeezed layers, H their key-value heads (with `group="none"` the mean over the query
            heads of each).
        kept_decode: (L, H) the same, mean over the generated tokens; NaN if only one was generated.
        budget: mean share over layers, heads and steps plus half the share of centroids (they have
            keys only): what was read of the context's memory (paper, section 6.1).
    """

    question: str
    text: str
    tokens: tuple[int, ...]
    kept_prefill: Tensor
    kept_decode: Tensor
    budget: float

    @property
    def kept(self) -> Tensor:
        """(L, H) share read while answering: of the decoding, or of the prefill where the answer
        came from it alone."""
        return self.kept_prefill if self.kept_decode.isnan().any() else self.kept_decode


def kept_fractions(
    cache: SqueezedCache, steps: Sequence[int], rows_per_question: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """Shares read for each question, of the prefill and of the decoding steps.

    Args:
        cache: after generation.
        steps: decoding steps of each question, the prefill not counted; a row that ended early
            keeps computing in its batch, but what it reads then is no part of its answer.
        rows_per_question: beams or samples per question.

    Returns:
        Per question (prefill (L, H), decode (L, H)), float32 on the host.
    """
    per_layer = []
    for layer in cache.squeezed.values():
        H = layer.fixed.keys.shape[0]
        steps_tBS = torch.stack(list(layer.kept)).float()
        t, B, S = steps_tBS.shape
        per_layer.append(steps_tBS.view(t, B, H, S // H).mean(-1))
    kept_LtBH = torch.stack(per_layer).cpu()
    L, t, _, H = kept_LtBH.shape
    kept = kept_LtBH.view(L, t, len(steps), rows_per_question, H).mean(3)
    return [
        (kept[:, 0, row], kept[:, 1 : 1 + count, row].mean(1)) for row, count in enumerate(steps)
    ]
