"""LC-PLM: embedding, BiMamba-S blocks, final norm, language-model head (arXiv 2411.08909, section
3; released model).

What is unusual: no MLP and no position encoding; the vocabulary is padded from 33 to 128 rows;
embedding and head are not tied; the residual stream stays in fp32 under autocast; the native input
is a pack, in which every protein gets the logits it would get alone. (The published code ignores
the attention mask, so padding changes its results.)

Legend: T tokens of the pack, S proteins, B batch rows, L row length, d model width, V padded
    vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lcframework.models.lcplm.block import BiMambaS, Block

PARTS = ("all", "blocks", "embeddings")


class LCPLM(nn.Module):
    """The protein language model.

    Args:
        d_model: width d.
        n_layers: number of blocks.
        d_state: states per channel.
        d_conv: taps of the short convolutions.
        expand: inner width over d.
        dt_rank: rank of the step projection; "auto" is ceil(d / 16).
        vocab_size: real tokens.
        pad_vocab_to: rows of embedding and head.
        norm_eps: epsilon of the RMS norms.
        scan_backend: see `lcframework.ops.bidirectional_scan`.
        gradient_checkpointing: recompute each block in the backward pass to save memory.

    Attributes:
        architecture: "lcplm".
        hparams: the arguments above; `LCPLM(**model.hparams)` builds the same network anew.

    Raises:
        ValueError: sizes that make no model.
    """

    architecture = "lcplm"

    def __init__(
        self,
        d_model: int,
        n_layers: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        vocab_size: int = 33,
        pad_vocab_to: int = 128,
        norm_eps: float = 1e-5,
        scan_backend: str = "auto",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.hparams: dict[str, Any] = {
            key: value for key, value in locals().items() if key not in ("self", "__class__")
        }
        if (
            min(d_model, n_layers, d_state, d_conv, expand, vocab_size) < 1
            or pad_vocab_to < vocab_size
        ):
            raise ValueError(
                f"all sizes must be positive and pad_vocab_to >= vocab_size, got {self.hparams}"
            )
        rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.d_model, self.vocab_size, self.rank = d_model, vocab_size, rank
        self.gradient_checkpointing = gradient_checkpointing
        self.embedding = nn.Embedding(pad_vocab_to, d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(
                d_model,
                norm_eps,
                BiMambaS(d_model, d_state, d_conv, expand, rank, n_layers, scan_backend),
            )
            for _ in range(n_layers)
        )
        self.norm = nn.RMSNorm(d_model, eps=norm_eps)
        self.lm_head = nn.Linear(d_model, pad_vocab_to, bias=False)

    def encode(self, tokens: Tensor, cu_seqlens: Tensor, max_len: int | None = None) -> Tensor:
        """Final normalised representation of every token.

        Args:
            tokens: (T,) int64.
            cu_seqlens: (S+1,) int32 segment borders.
            max_len: no protein is longer; spares some work on a GPU.

        Returns:
            (T, d).

        Raises:
            ValueError: input that is not packed.
        """
        if tokens.ndim != 1:
            raise ValueError(
                f"LCPLM takes packed tokens (T,), got {tuple(tokens.shape)}; see forward_padded."
            )
        residual = self.embedding(tokens)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                residual = checkpoint(block, residual, cu_seqlens, max_len, use_reentrant=False)
            else:
                residual = block(residual, cu_seqlens, max_len)
        return self.norm(residual)

    def forward(
        self,
        tokens: Tensor,
        cu_seqlens: Tensor,
        max_len: int | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Logits (T, V), or (M, V) at the positions `at` (M,); arguments as `encode`."""
        hidden = self.encode(tokens, cu_seqlens, max_len)
        return self.lm_head(hidden if at is None else hidden[at])

    def forward_padded(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of a padded batch, computed as a pack, so that padding has no influence.

        Args:
            tokens: (B, L) int64.
            attention_mask: (B, L), true on real tokens; every row holds at least one.

        Returns:
            (B, L, V), zero at the padding.
        """
        mask = attention_mask.bool()
        lengths = mask.sum(1)
        if tokens.shape != mask.shape or bool((lengths == 0).any()):
            raise ValueError(
                "tokens and attention_mask must be (B, L) and every row must hold a token."
            )
        cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
        logits = self(tokens[mask], cu_seqlens, int(lengths.max()))
        out = logits.new_zeros(*tokens.shape, logits.shape[-1])
        out[mask] = logits
        return out

    def num_parameters(self, part: str = "all") -> int:
        """Count the scalars of "all", of "blocks" (the repeated layers), or of "embeddings" (input
        and head)."""
        if part not in PARTS:
            raise ValueError(f"part must be one of {PARTS}, got {part!r}")
        chosen = {
            "all": self,
            "blocks": self.blocks,
            "embeddings": nn.ModuleList([self.embedding, self.lm_head]),
        }[part]
        return sum(parameter.numel() for parameter in chosen.parameters())

    def forward_flops(self, lengths: Sequence[int]) -> int:
        """Floating-point operations of one forward with logits everywhere, two per multiply-add.

        Per block and token: 2 d 2E + 2 E d for the projections; per direction 2 E (R + 2N) + 2 R E
        for the step and the maps, 2 E K for the convolution and 9 E N for the scan (decay product
        and exponential, input product, state update, output sum). Per token 2 d V for the head.

        Args:
            lengths: tokens of each protein, specials included; only their sum matters.
        """
        h = self.hparams
        d, inner, n, rank = h["d_model"], h["expand"] * h["d_model"], h["d_state"], self.rank
        direction = (
            2 * inner * (rank + 2 * n) + 2 * rank * inner + 2 * inner * h["d_conv"] + 9 * inner * n
        )
        per_token = h["n_layers"] * (6 * d * inner + 2 * direction) + 2 * d * h["pad_vocab_to"]
        return sum(lengths) * per_token
