"""Everything is read: the model as it is, through the same cache and masks as the methods beside
it. Against the dense answer it shows what the order of the keys alone changes in the numbers."""

import torch
from torch import Tensor

from lcframework.models.squeezed.methods.selector import Selector


class Dense(Selector):
    """Reads every token; the share does not matter."""

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """All."""
        H = self.text.fixed.keys.shape[0]
        return torch.ones(len(query), H, 1, self.available, dtype=torch.bool, device=query.device)
