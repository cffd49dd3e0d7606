"""Launches of the short convolutions' Triton kernels, and their autograd function."""

import importlib
from typing import Any

import torch
from torch import Tensor

from lcframework.ops.pack_cache import kept_with
from lcframework.ops.short_conv.taps import distance_to_border

ROWS, CHANNELS = 16, 128
"""Tile of the forward kernel, four warps."""
CHUNK, LANES = 128, 64
"""Tokens that a backward program walks over, and its channels, one warp."""


def room_in_segment(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """(2, T) int32: tokens of the same segment before and after each token; kept with
    `cu_seqlens`."""
    return kept_with(
        cu_seqlens, ("room", tokens), lambda: distance_to_border(cu_seqlens, tokens).int()
    )


def conv_forward(x: Tensor, weight: Tensor, bias: Tensor, room: Tensor, silu: bool) -> Tensor:
    """(2, T, E) from x (T, E), whose rows may lie apart; weight (2, E, K), bias (2, E)."""
    kernels: Any = importlib.import_module("lcframework.ops.short_conv.triton_kernels")

    T, E = x.shape
    out = x.new_empty(2, T, E)
    grid = (-(-E // CHANNELS), -(-T // ROWS))
    kernels.conv_kernel[grid](
        x, _taps_first(weight), bias.float().contiguous(), room, out, T, E, x.stride(0),
        TAPS=weight.shape[2], SILU=silu, ROWS=ROWS, BE=CHANNELS, FAST=x.is_cuda, num_warps=4,
    )  # fmt: skip
    return out


def conv_backward(
    x: Tensor, weight: Tensor, bias: Tensor, room: Tensor, silu: bool, dout: Tensor, dx: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill dx (T, E), whose rows may lie apart; returns float32 d_weight (2, E, K) and d_bias (2,
    E)."""
    kernels: Any = importlib.import_module("lcframework.ops.short_conv.triton_kernels")

    T, E, K = *x.shape, weight.shape[2]
    shares = -(-T // CHUNK)
    d_weight = x.new_empty(shares, 2, K, E, dtype=torch.float32)
    d_bias = x.new_empty(shares, 2, E, dtype=torch.float32)
    kernels.conv_backward_kernel[(-(-E // LANES), shares)](
        x, _taps_first(weight), bias.float().contiguous(), room, dout, dx, d_weight, d_bias,
        T, E, x.stride(0), dx.stride(0),
        TAPS=K, SILU=silu, CHUNK=CHUNK, BE=LANES, FAST=x.is_cuda, num_warps=1,
    )  # fmt: skip
    return d_weight.sum(0).transpose(1, 2), d_bias.sum(0)


def _taps_first(weight: Tensor) -> Tensor:
    """(2, E, K) -> (2, K, E) float32."""
    return weight.float().transpose(1, 2).contiguous()


class TritonShortConv(torch.autograd.Function):
    """See `bidirectional_short_conv`."""

    @staticmethod
    def forward(ctx, x, weight, bias, cu_seqlens, silu):
        """(2, T, E)."""
        x = x if x.stride(1) == 1 else x.contiguous()
        room = room_in_segment(cu_seqlens, x.shape[0])
        ctx.save_for_backward(x, weight, bias, room)
        ctx.silu = silu
        return conv_forward(x, weight, bias, room, silu)

    @staticmethod
    def backward(ctx, dout):  # type: ignore[override]
        """Gradients of x, weight and bias."""
        x, weight, bias, room = ctx.saved_tensors
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        d_weight, d_bias = conv_backward(x, weight, bias, room, ctx.silu, dout.contiguous(), dx)
        return dx, d_weight.to(weight.dtype), d_bias.to(bias.dtype), None, None
