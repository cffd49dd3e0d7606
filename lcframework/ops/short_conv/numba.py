"""The short convolutions on the CPU: the autograd function around the Numba kernels.

Legend: T tokens, E channels, K taps.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lcframework.ops.cpu.compile import refuse_unless_usable
from lcframework.ops.cpu.plan import Plan, applied, flat, sum_in_order, view


class _NumbaConv(torch.autograd.Function):
    """(2, T, E) from x (T, E), weight (2, K, E), bias (2, E)."""

    @staticmethod
    def forward(ctx, x, weight, bias, cu_seqlens, silu):
        from lcframework.ops.short_conv.numba_kernels import BLOCK, conv

        T, E = x.shape
        plan = Plan.of(cu_seqlens, T, E, BLOCK, 2 * weight.shape[1])
        out = x.new_empty(2, T, E)
        plan.run(conv, *flat(x), view(weight), view(bias), silu, view(out))
        ctx.save_for_backward(x, weight, bias)
        ctx.settings = (plan, silu)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):  # type: ignore[override]
        from lcframework.ops.short_conv.numba_kernels import conv_gradients

        x, weight, bias = ctx.saved_tensors
        plan, silu = ctx.settings
        dx = x.new_empty(x.shape)
        d_weight = weight.new_empty(plan.pieces, *weight.shape)
        d_bias = bias.new_empty(plan.pieces, *bias.shape)
        arrays = (weight, bias, grad_out.contiguous(), dx, d_weight, d_bias)
        weight_, bias_, dy, *filled = (view(one) for one in arrays)
        plan.run(conv_gradients, *flat(x), weight_, bias_, silu, dy, *filled)
        return dx, sum_in_order(d_weight), sum_in_order(d_bias), None, None


def conv_numba(x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, silu: bool) -> Tensor:
    """Arguments and result as `bidirectional_short_conv`; sums of bfloat16 and float16 inputs are
    computed in float32.

    Raises:
        RuntimeError: the kernels cannot run here; the message says why.
        ValueError: borders that do not fit.
    """
    refuse_unless_usable(x.device)
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    narrow = x if x.dtype in (torch.bfloat16, real) else x.to(real)
    taps = weight.to(real).transpose(1, 2).contiguous()
    out = applied(_NumbaConv, narrow, taps, bias.to(real).contiguous(), cu_seqlens, silu)
    return out.to(x.dtype)
