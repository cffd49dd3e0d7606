"""Efficient Streaming Language Models with Attention Sinks (Xiao et al., ICLR 2024),
https://arxiv.org/abs/2309.17453

The first tokens and the last ones are read, whatever is asked. As here: the sinks are the context's
exact tokens; keys keep the positions that they have in the text (the original counts positions
within the cache, so that it can go beyond the model's).
"""

import torch
from torch import Tensor

from lcframework.models.squeezed.methods.selector import Selector


class Recent(Selector):
    """The context's last tokens."""

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """Always the same tokens."""
        H, N = self.text.fixed.keys.shape[:2]
        keep = torch.arange(N, device=query.device) >= N - self.count
        return keep.expand(len(query), H, 1, -1)
