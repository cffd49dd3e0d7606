"""Random tokens, the same for every question: what a choice must beat. The control of, for example,
H2O, section 5 (Zhang et al., NeurIPS 2023, https://arxiv.org/abs/2306.14048), which evicts so."""

import torch
from torch import Tensor

from lcframework.models.squeezed.methods.selector import Selector, best


class RandomTokens(Selector):
    """Drawn without replacement, per layer and key-value head."""

    def prepare(self) -> None:
        """Draw; the same seed, layer and length give the same tokens on every device."""
        H, N = self.text.fixed.keys.shape[:2]
        generator = torch.Generator().manual_seed(self.options.seed * 100_003 + self.text.number)
        draws = torch.rand(H, N, generator=generator, dtype=torch.float64)
        self.draws = draws.to(self.text.fixed.keys.device)

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """Always the same tokens."""
        return best(self.draws, self.count)[None, :, None].expand(len(query), -1, -1, -1)
