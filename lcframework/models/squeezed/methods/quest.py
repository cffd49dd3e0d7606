"""Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference (Tang et al., ICML 2024),
https://arxiv.org/abs/2406.10774

The context in its own order is cut into pages. Each page keeps the elementwise minimum and maximum
of its keys; sum over d of max(q_d min_d, q_d max_d) bounds every product of the query with a key of
the page (section 3.3, algorithm 1). The pages of the largest bounds are read.

As here: one set of pages per key-value head (the original has no grouped queries), from the softmax
over the pages' bounds, averaged over the query heads and, while a question is read, over its tokens
(the original reads prompts densely); with one query and one head the order is Quest's. No layers
are left dense. The bounds are two vectors per page beside its keys and values: `overhead` 1 / page.
"""

import torch
from torch import Tensor

from lcframework.models.squeezed.methods.selector import Selector, best
from lcframework.ops.squeezed_attention.selection import shared_logits


class Quest(Selector):
    """Pages of the largest upper bound."""

    def prepare(self) -> None:
        """Each page's bounds; the last page may be short."""
        keys, page = self.text.fixed.keys, self.options.page
        H, N, D = keys.shape
        self.pages = -(-N // page)
        short = self.pages * page - N
        filled = torch.cat([keys, keys[:, -1:].expand(-1, short, -1)], 1) if short else keys
        paged = filled.view(H, self.pages, page, D)
        self.low, self.high = paged.amin(2), paged.amax(2)
        # Two vectors per page where each of its tokens has a key and a value.
        self.overhead = self.pages / max(1, N)

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """The pages that fit the budget."""
        B, Hq, Q, D = query.shape
        H, N = self.text.fixed.keys.shape[:2]
        rows = query.reshape(B, H, Hq // H * Q, D)
        bound = shared_logits(rows.clamp(min=0), self.high)
        bound = bound + shared_logits(rows.clamp(max=0), self.low)
        score = (bound * self.text.scale).view(B, H, Hq // H, Q, -1).softmax(-1).mean(2)
        if not each:
            real = valid[:, None, :, None].to(score.dtype)
            score = (score * real).sum(2, keepdim=True) / real.sum(2, keepdim=True).clamp(min=1)
        count = min(self.pages, round(self.count / self.options.page))
        keep = best(score, count)
        return keep.repeat_interleave(self.options.page, -1)[..., :N]
