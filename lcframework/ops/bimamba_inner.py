"""What lies between the projections of a BiMamba-S block, as one operator on the GPU: convolutions,
maps, step, scan, gate.

Between forward and backward it keeps only its input, the maps and the sum of the directions;
convolutions and steps, twice the input's size each, are computed again. Legend: T tokens, E
channels, N states, R rank of the step, K taps."""

from typing import Any

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.checks import check_borders, check_finite
from lcframework.ops.bidirectional_scan.kernel_call import Call
from lcframework.ops.bidirectional_scan.torch_ops import or_none
from lcframework.ops.bidirectional_scan.triton import (
    check_runnable,
    entering_shape,
    gate_gradients,
    run_backward,
    run_forward,
)
from lcframework.ops.short_conv.triton import conv_backward, conv_forward, room_in_segment


def _scan_call(
    xz, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D, cu_seqlens, longest, projected, keep
):
    """(the scan's call, its inputs x (2, T, E), the maps (2, T, R + 2 N)); `projected` may be
    known."""
    T, E = xz.shape[0], xz.shape[1] // 2
    R, N = dt_proj.shape[2], A.shape[2]
    x = conv_forward(xz[:, :E], conv_weight, conv_bias, room_in_segment(cu_seqlens, T), True)
    if projected is None:
        projected = torch.bmm(x, x_proj.to(x.dtype).transpose(1, 2))
    dt = torch.bmm(projected[..., :R], dt_proj.to(x.dtype).transpose(1, 2))
    B, C = projected[..., R : R + N], projected[..., R + N :]
    return Call.of(x, dt, A, B, C, D, dt_bias, cu_seqlens, longest, True, keep), x, projected


@torch.library.custom_op("lcframework::bimamba_inner", mutates_args=())
def _inner(
    xz: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(out (T, E), maps, sum of directions, entering states); the last three empty without
    `keep`."""
    check_runnable(xz, A.shape[2])
    check_borders(cu_seqlens, xz.shape[0])
    check_finite(xz=xz, conv_weight=conv_weight, x_proj=x_proj, dt_proj=dt_proj, A=A, D=D)
    call, _, projected = _scan_call(
        xz, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D, cu_seqlens, longest, None, keep
    )
    out, y, entering, _ = run_forward(call, xz[:, call.E :], None, keep, False)
    if not keep:
        return out, xz.new_empty(0), xz.new_empty(0), xz.new_empty(0)
    return out, projected, y, xz.new_empty(0) if entering is None else entering


@_inner.register_fake
def _(xz, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D, cu_seqlens, longest, keep):
    T, E = xz.shape[0], xz.shape[1] // 2
    out = xz.new_empty(T, E)
    if not keep:
        return out, *(xz.new_empty(0) for _ in range(3))
    shape = entering_shape(out, longest, A.shape[2], cu_seqlens.numel() - 1, False)
    entering = xz.new_empty(0) if shape == (0,) else xz.new_empty(shape, dtype=torch.float32)
    return out, xz.new_empty(2, T, x_proj.shape[1]), torch.empty_like(out), entering


@torch.library.custom_op("lcframework::bimamba_inner_backward", mutates_args=())
def _inner_backward(
    grad: Tensor,
    xz: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    projected: Tensor,
    y: Tensor,
    entering: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first eight arguments of `_inner`, each in its argument's dtype."""
    parameters = (conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D)
    call, x, _ = _scan_call(xz, *parameters, cu_seqlens, longest, projected, True)
    E, R = call.E, dt_proj.shape[2]
    d_xz = torch.empty_like(xz)
    dy = gate_gradients(call, grad.contiguous(), xz[:, E:], y, d_xz[:, E:])
    dx, ddt, dA, dB, dC, dD, d_bias, _ = run_backward(call, dy, or_none(entering), None, False)
    del call
    d_dt_proj = torch.bmm(ddt.transpose(1, 2), projected[..., :R])
    d_low = torch.bmm(ddt, dt_proj.to(x.dtype))
    d_projected = torch.cat([d_low, dB.to(x.dtype), dC.to(x.dtype)], 2)
    d_x_proj = torch.bmm(d_projected.transpose(1, 2), x)
    dx.baddbmm_(d_projected, x_proj.to(x.dtype))
    room = room_in_segment(cu_seqlens, xz.shape[0])
    d_conv = conv_backward(xz[:, :E], conv_weight, conv_bias, room, True, dx, d_xz[:, :E])
    grads = (*d_conv, d_x_proj, d_dt_proj, d_bias, dA, dD)
    found: Any = (g.to(p.dtype).contiguous() for g, p in zip(grads, parameters, strict=True))
    return d_xz, *found


@_inner_backward.register_fake
def _(
    grad,
    xz,
    conv_weight,
    conv_bias,
    x_proj,
    dt_proj,
    dt_bias,
    A,
    D,
    cu_seqlens,
    longest,
    projected,
    y,
    entering,
):
    first_eight = (xz, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D)
    return tuple(one.new_empty(one.shape) for one in first_eight)


def _keep(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.longest, _ = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, *_: Any) -> tuple:
    if grad is None:
        return (None,) * 11
    *inputs, projected, y, entering = ctx.saved_tensors
    return *_inner_backward(grad, *inputs, ctx.longest, projected, y, entering), None, None, None


_inner.register_autograd(_gradients, setup_context=_keep)


def bimamba_inner(
    xz: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    cu_seqlens: Tensor,
    max_len: int | None = None,
) -> Tensor:
    """(y_fwd + y_rev) * silu(z) of a packed BiMamba-S block by the Triton kernels.

    Args:
        xz: (T, 2 E), the input projection: x and z side by side; float16, bfloat16 or float32.
        conv_weight: (2, E, K).
        conv_bias: (2, E).
        x_proj: (2, R + 2 N, E), to the step's low rank, B and C.
        dt_proj: (2, E, R).
        dt_bias: (2, E).
        A: (2, E, N), negative.
        D: (2, E).
        cu_seqlens: (S+1,) segment borders on the same device.
        max_len: no segment is longer; None where that is not known.

    Returns:
        (T, E) in the dtype of `xz`. Source: LC-PLM, arXiv 2411.08909, section 3, in the
        one-projection form.

    Raises:
        RuntimeError, TypeError, ValueError: as `scan_triton`; borders that do not fit.
    """
    arguments = (xz.contiguous(), conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D)
    keep = torch.is_grad_enabled() and any(one.requires_grad for one in arguments)
    longest = xz.shape[0] if max_len is None else max_len
    return _inner(*arguments, cu_seqlens.to(xz.device), longest, keep)[0]
