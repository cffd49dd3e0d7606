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
            heads of each); (0, 0) where no layer is squeezed.
        kept_decode: (L, H) the same, mean over the decoding steps (with beam search over the beams
            too); NaN if the answer came from the prefill alone.
        centroid_share: half the number of centroids per clustered token (they have keys only), or 0
            if nothing was looked up.
    """

    question: str
    text: str
    tokens: tuple[int, ...]
    kept_prefill: Tensor
    kept_decode: Tensor
    centroid_share: float

    @property
    def kept(self) -> Tensor:
        """(L, H) share read while answering: of the decoding, or of the prefill where the answer
        came from it alone."""
        return self.kept_prefill if self.kept_decode.isnan().any() else self.kept_decode

    @property
    def budget(self) -> float:
        """Share of the clustered keys and values read at a step, centroids included: mean of `kept`
        plus `centroid_share` (paper, section 6.1); 1 where every layer has a sliding window and is
        dense."""
        if not self.kept.numel():
            return 1.0
        return float(self.kept.mean()) + self.centroid_share


def kept_per_row(
    cache: SqueezedCache, steps: Sequence[int], questions: int
) -> list[tuple[Tensor, Tensor]]:
    """Shares read for each returned row, of the prefill and of the decoding steps.

    Args:
        cache: after generation.
        steps: decoding steps of each returned row, the prefill not counted; a row that ended early
            keeps computing in its batch, but what it reads then is no part of its answer.
        questions: asked; `len(steps)` is a multiple of it. Where more rows were decoded than are
            returned, as in a beam search, every row of a question gets the mean over its beams.

    Returns:
        Per returned row (prefill (L, H), decode (L, H)), float32 on the host.
    """
    returned = len(steps) // questions
    per_layer = []
    for layer in cache.squeezed.values():
        H = layer.fixed.keys.shape[0]
        kept_tBH = torch.stack([one.float().view(len(one), H, -1).mean(-1) for one in layer.kept])
        kept = kept_tBH.view(len(kept_tBH), questions, -1, H)
        if kept.shape[2] != returned:
            kept = kept.mean(2, keepdim=True).expand(-1, -1, returned, -1)
        per_layer.append(kept.flatten(1, 2))
    if not per_layer:
        return [(torch.empty(0, 0), torch.empty(0, 0)) for _ in steps]
    kept_LtBH = torch.stack(per_layer).cpu()
    return [
        (kept_LtBH[:, 0, row], kept_LtBH[:, 1 : 1 + count, row].mean(1))
        for row, count in enumerate(steps)
    ]
