"""ESM-2 (Lin et al. 2023), built by transformers from a configuration and run on packed proteins.

Legend: T tokens of the pack, S proteins, M scored positions, V vocabulary, d model width, f
feed-forward width.

The network is transformers' `EsmForMaskedLM`, with ESM-2's switches: rotary positions, no
dropout, no layer norm on the embeddings, input and output embedding tied. Two things are left out
because the masked LM objective never uses them: the pooler and the contact head. `token_dropout` is
off by default, so that the number of masked residues of one protein does not rescale its embeddings
and LC-PLM sees the same inputs; published ESM-2 weights need it (see `huggingface`). Training runs
transformers' own layers; without gradients `lean_layer` computes the same in fewer steps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EsmConfig, EsmForMaskedLM

from lcframework.models.esm2.attention import ATTENTION_NAME, BACKENDS, Packing
from lcframework.models.esm2.lean_layer import LeanEsmLayer

CLS_ID, PAD_ID, EOS_ID, MASK_ID = 0, 1, 2, 32
MAX_POSITIONS = 65_536
"""Size of a buffer that rotary positions never read; no protein is refused for its length."""
TRAINED_MASK_SHARE = 0.15 * 0.8
"""Share of mask tokens in ESM-2's training, which `token_dropout` rescales to."""
PARTS = ("all", "blocks", "embeddings")


class ESM2(nn.Module):
    """The transformer baseline, with the same calling convention as LC-PLM.

    Initialised as transformers does it: weights N(0, 0.02), biases 0, layer norms 1.

    Args:
        d_model: width, a multiple of `n_heads`.
        n_layers: transformer blocks.
        n_heads: attention heads; the head size must be even for the rotary positions.
        ffn_ratio: feed-forward width over `d_model`; 4 in every ESM-2.
        vocab_size: number of tokens; at least 33, ESM-2's alphabet with `<mask>` as id 32.
        attention_backend: "auto", "varlen" or "sdpa", see `lcframework.models.esm2.attention`.
        token_dropout: zero the embeddings of masked tokens and rescale the others of the protein,
            as the published ESM-2 checkpoints expect.

    Attributes:
        architecture: "esm2".
        hparams: the keyword arguments above; `ESM2(**model.hparams)` builds the same network anew.
        network: the transformers model.

    Raises:
        ValueError: a size or a backend that makes no model.
    """

    architecture = "esm2"

    def __init__(
        self,
        d_model: int,
        n_layers: int,
        n_heads: int,
        ffn_ratio: int = 4,
        vocab_size: int = 33,
        attention_backend: str = "auto",
        token_dropout: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(d_model, n_layers, n_heads, ffn_ratio, vocab_size)
        if attention_backend not in BACKENDS:
            raise ValueError(
                f"attention_backend must be one of {BACKENDS}, got {attention_backend!r}"
            )
        self.vocab_size = vocab_size
        self.attention_backend = attention_backend
        self.hparams: dict[str, Any] = {
            "d_model": d_model,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "ffn_ratio": ffn_ratio,
            "vocab_size": vocab_size,
            "attention_backend": attention_backend,
        }
        self.token_dropout = token_dropout
        if token_dropout:  # absent where off, as in the checkpoints written before there was one
            self.hparams["token_dropout"] = True
        self.network = EsmForMaskedLM(
            EsmConfig(
                vocab_size=vocab_size,
                mask_token_id=MASK_ID,
                pad_token_id=PAD_ID,
                bos_token_id=CLS_ID,
                eos_token_id=EOS_ID,
                hidden_size=d_model,
                num_hidden_layers=n_layers,
                num_attention_heads=n_heads,
                intermediate_size=ffn_ratio * d_model,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                max_position_embeddings=MAX_POSITIONS,
                initializer_range=0.02,
                layer_norm_eps=1e-5,
                position_embedding_type="rotary",
                emb_layer_norm_before=False,
                token_dropout=False,
                tie_word_embeddings=True,
                use_cache=False,
            )
        )
        self.network.set_attn_implementation(ATTENTION_NAME)
        layers: Any = self.network.esm.encoder.layer
        for layer in layers:
            layer.__class__ = LeanEsmLayer
        layers[-1].is_last = True
        # Parameters without a gradient would make distributed training refuse the model.
        self.network.esm.contact_head = None  # pyright: ignore[reportAttributeAccessIssue]

    def forward(
        self, tokens: Tensor, cu_seqlens: Tensor, max_len: int, at: Tensor | None = None
    ) -> Tensor:
        """Logits of packed proteins; each protein gets what it would get alone.

        Args:
            tokens: (T,) int64, masked input, without padding.
            cu_seqlens: (S+1,) int32 on the device of `tokens`, 0 to T.
            max_len: tokens of the longest protein.
            at: (M,) int64 positions whose logits are wanted; None for all T.

        Returns:
            (M, V) or (T, V) logits.

        Raises:
            ValueError: padded or otherwise not packed input. What needs the values of `tokens` and
                `cu_seqlens` is checked on the CPU only, because on a GPU it would make the host
                wait for the device.
        """
        _check_packed(tokens, cu_seqlens, max_len)
        order = None
        if at is not None and at.numel() and not torch.is_grad_enabled():
            at, order = at.sort()
        hidden_1Td = self.network.esm(
            **self.inputs_of(tokens, cu_seqlens),
            position_ids=positions_in_protein(cu_seqlens, tokens.shape[0]).unsqueeze(0),
            packing=Packing(
                cu_seqlens, max_len, self.attention_backend, at if order is not None else None
            ),
        ).last_hidden_state
        if order is not None:  # the last layer was computed there only
            logits = self.network.lm_head(hidden_1Td[0])
            return torch.empty_like(logits).index_copy_(0, order, logits)
        hidden = hidden_1Td[0] if at is None else hidden_1Td[0, at]
        return self.network.lm_head(hidden)

    def inputs_of(self, tokens: Tensor, cu_seqlens: Tensor) -> dict[str, Tensor]:
        """What the encoder is given: ids or, with `token_dropout`, embeddings (1, T, d)."""
        if self.token_dropout:
            return {"inputs_embeds": self._dropped_embeddings(tokens, cu_seqlens).unsqueeze(0)}
        return {"input_ids": tokens.unsqueeze(0)}

    def _dropped_embeddings(self, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        """(T, d) embeddings with masks as zeros, scaled by each protein's own share of masks."""
        lengths_S = cu_seqlens.long().diff()
        owner_T = torch.repeat_interleave(lengths_S, output_size=tokens.shape[0])
        masked_T = tokens == MASK_ID
        masks_S = lengths_S.new_zeros(lengths_S.shape).index_add_(0, owner_T, masked_T.long())
        scale_S = (1.0 - TRAINED_MASK_SHARE) / (1.0 - masks_S.float() / lengths_S)
        embedded = self.network.esm.embeddings.word_embeddings(tokens)
        scaled = embedded.masked_fill(masked_T[:, None], 0.0) * scale_S[owner_T][:, None]
        return scaled.to(embedded.dtype)

    def num_parameters(self, part: str = "all") -> int:
        """Count the parameters of one part of the network.

        Args:
            part: "all"; "blocks", the repeated layers, 12 d^2 + 13 d each at `ffn_ratio` 4; or
                "embeddings", the input embedding (tied to the output, counted once) and the head's
                dense layer, norm and bias. The final layer norm, 2 d, is in "all" alone.

        Returns:
            The number of scalars.

        Raises:
            ValueError: another part.
        """
        if part not in PARTS:
            raise ValueError(f"part must be one of {PARTS}, got {part!r}")
        if part == "blocks":
            return _count(self.network.esm.encoder.layer)
        if part == "embeddings":
            return _count(nn.ModuleList([self.network.esm.embeddings, self.network.lm_head]))
        return _count(self)

    def forward_flops(self, lengths: Sequence[int]) -> int:
        """Floating-point operations of one forward with logits at every position, two per
        multiply-add.

        Per layer and token 8 d^2 for query, key, value and output projections and 4 d f for the
        feed-forward; per layer and protein of L tokens 4 d L^2 for scores and weighted values; per
        token 2 d^2 + 2 d V for the head. Norms, GELU, softmax, rotations and biases are left out.

        Args:
            lengths: tokens of each protein, specials included.
        """
        d, f = self.hparams["d_model"], self.hparams["ffn_ratio"] * self.hparams["d_model"]
        tokens, squares = sum(lengths), sum(length * length for length in lengths)
        layer = tokens * (8 * d * d + 4 * d * f) + 4 * d * squares
        return self.hparams["n_layers"] * layer + tokens * (2 * d * d + 2 * d * self.vocab_size)


def positions_in_protein(cu_seqlens: Tensor, num_tokens: int) -> Tensor:
    """Position of each token inside its protein, counted from 0, without waiting for the device.

    Args:
        cu_seqlens: (S+1,) int32.
        num_tokens: T.

    Returns:
        (T,) int64.
    """
    cu = cu_seqlens.long()
    starts_T = torch.repeat_interleave(cu[:-1], cu.diff(), output_size=num_tokens)
    return torch.arange(num_tokens, device=cu.device) - starts_T


def _check_sizes(d_model: int, n_layers: int, n_heads: int, ffn_ratio: int, vocab: int) -> None:
    if (
        min(d_model, n_layers, n_heads, ffn_ratio) < 1
        or d_model % n_heads
        or d_model // n_heads % 2
    ):
        raise ValueError(
            "d_model must split into n_heads heads of an even size and all sizes must be positive, "
            f"got d_model={d_model}, n_layers={n_layers}, n_heads={n_heads}, ffn_ratio={ffn_ratio}"
        )
    if vocab <= MASK_ID:
        raise ValueError(f"vocab_size must be above the id of <mask>, {MASK_ID}, got {vocab}")


def _check_packed(tokens: Tensor, cu_seqlens: Tensor, max_len: int) -> None:
    if tokens.ndim != 1 or cu_seqlens.ndim != 1 or cu_seqlens.dtype != torch.int32:
        raise ValueError(
            "ESM2 takes packed proteins: tokens (T,) and cu_seqlens (S+1,) int32; got tokens "
            f"{tuple(tokens.shape)} and cu_seqlens {tuple(cu_seqlens.shape)} {cu_seqlens.dtype}. "
            "A padded batch (rows, columns) is packed by dropping its padding and concatenating "
            "the rows"
        )
    if tokens.device.type != "cpu" or cu_seqlens.device.type != "cpu":
        return
    lengths = cu_seqlens.diff()
    ends = (int(cu_seqlens[0]), int(cu_seqlens[-1])) if lengths.numel() else (-1, -1)
    if ends != (0, tokens.shape[0]) or int(lengths.min()) < 1 or int(lengths.max()) > max_len:
        raise ValueError(
            f"cu_seqlens must rise strictly from 0 to T={tokens.shape[0]} in steps of at most "
            f"max_len={max_len}, got {cu_seqlens[:8].tolist()} ending at {ends[1]}"
        )
    padding = (tokens == PAD_ID).nonzero()
    if padding.numel():
        raise ValueError(
            f"tokens hold <pad> (id {PAD_ID}), first at position {int(padding[0, 0])}; a pack has "
            "no padding: drop it and shorten cu_seqlens"
        )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
