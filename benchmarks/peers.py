"""The networks that LC-PLM's training is compared with: the published form of BiMamba-S and a lean
transformer.

The published form needs mamba-ssm and causal-conv1d with their CUDA extensions.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PublishedBiMamba(nn.Module):
    """mamba-ssm's fast path twice per layer, once on the flipped sequence, projections tied, fused
    add and norm.

    Takes padded batches (B, L) only, like the published code.
    """

    def __init__(self, d_model: int, n_layers: int, vocabulary: int) -> None:
        super().__init__()
        from mamba_ssm.modules.mamba_simple import Mamba  # type: ignore[import-not-found]
        from mamba_ssm.ops.triton.layer_norm import RMSNorm, layer_norm_fn  # type: ignore[import-not-found]

        self.norm_function = layer_norm_fn
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.norms = nn.ModuleList(RMSNorm(d_model) for _ in range(n_layers + 1))
        self.forward_mixers = nn.ModuleList(Mamba(d_model) for _ in range(n_layers))
        self.reverse_mixers = nn.ModuleList(Mamba(d_model) for _ in range(n_layers))
        pairs: Any = zip(self.forward_mixers, self.reverse_mixers, strict=True)
        for one, other in pairs:
            other.in_proj.weight = one.in_proj.weight
            other.out_proj.weight = one.out_proj.weight
        self.head = nn.Linear(d_model, vocabulary, bias=False)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Logits (B, L, V)."""
        hidden, residual = self.embedding(tokens_BL), None
        for norm, ahead, back in zip(
            self.norms, self.forward_mixers, self.reverse_mixers, strict=False
        ):
            hidden, residual = self._norm(norm, hidden, residual)
            hidden = ahead(hidden) + back(hidden.flip(1)).flip(1)
        return self.head(self._norm(self.norms[-1], hidden, residual)[0])

    def _norm(self, norm, hidden: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.norm_function(
            hidden, norm.weight, norm.bias, eps=norm.eps, residual=residual, prenorm=True,
            residual_in_fp32=True, is_rms_norm=True,
        )  # fmt: skip


class TransformerBlock(nn.Module):
    """Pre-norm block of ESM-2's kind: rotary attention over heads of 64, GELU MLP of four times the
    width."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.heads = d_model // 64
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.up, self.down = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, L, d) to the same."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, 64)).permute(2, 0, 3, 1, 4)
        q, k = (one * cos + _rotate(one) * sin for one in (q, k))
        attended = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def _rotate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


class Transformer(nn.Module):
    """ESM-2-like encoder on padded batches (B, L)."""

    def __init__(self, d_model: int, n_layers: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.blocks = nn.ModuleList(TransformerBlock(d_model) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocabulary, bias=False)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Logits (B, L, V)."""
        rates = 10_000 ** (-torch.arange(0, 1, 1 / 32, device=tokens_BL.device))
        angles = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)[:, None] * rates
        cos, sin = (one.repeat(1, 2) for one in (angles.cos(), angles.sin()))
        x = self.embedding(tokens_BL)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x))
