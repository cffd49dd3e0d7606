"""The Triton scan as an operator of torch.library, with shapes for tracing and gradients:
torch.compile, DDP and FSDP take it as they take torch's own.

An operator returns tensors only: an empty one stands for nothing.
"""

from typing import Any

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.kernel_call import Call, rows_of
from lcframework.ops.bidirectional_scan.triton import (
    check_runnable,
    entering_shape,
    gate_gradients,
    run_backward,
    run_forward,
)


def or_none(value: Tensor) -> Tensor | None:
    """None for the empty tensor."""
    return value if value.numel() else None


@torch.library.custom_op("lcframework::bidirectional_scan", mutates_args=())
def scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    z: Tensor | None,
    initial: Tensor | None,
    cu_seqlens: Tensor,
    longest: int,
    softplus: bool,
    keep: bool,
    want_finals: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(out, final states, sum of directions before the gate, entering states); arguments as
    `scan_triton`, `keep` what the backward pass needs."""
    check_runnable(x, A.shape[2])
    call = Call.of(x, dt, A, B, C, D, bias, cu_seqlens, longest, softplus, keep)
    out, y, entering, finals = run_forward(call, z, initial, keep, want_finals)
    kept_y = y if keep and z is not None else None
    kept_entering = entering if keep else None
    found: Any = (x.new_empty(0) if one is None else one for one in (finals, kept_y, kept_entering))
    return out, *found


@scan.register_fake
def _(x, dt, A, B, C, D, bias, z, initial, cu_seqlens, longest, softplus, keep, want_finals):
    out = x.new_empty(x.shape[1:])
    segments = cu_seqlens.numel() - 1
    finals = x.new_empty((2, segments, *A.shape[1:]) if want_finals else 0, dtype=torch.float32)
    y = torch.empty_like(out) if keep and z is not None else x.new_empty(0)
    shape = entering_shape(x, longest, A.shape[2], segments, initial is not None) if keep else (0,)
    return out, finals, y, x.new_empty(shape, dtype=torch.float32 if shape != (0,) else x.dtype)


@torch.library.custom_op("lcframework::bidirectional_scan_backward", mutates_args=())
def scan_backward(
    grad_out: Tensor,
    grad_finals: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    z: Tensor | None,
    initial: Tensor | None,
    cu_seqlens: Tensor,
    longest: int,
    y: Tensor,
    entering: Tensor,
    softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, dt, A, B, C, D, bias, z and initial, each in its argument's dtype."""
    call = Call.of(x, dt, A, B, C, D, bias, cu_seqlens, longest, softplus, True)
    dy, dz = grad_out.contiguous(), None
    if z is not None:
        dz = torch.empty(z.shape, dtype=z.dtype, device=z.device)
        dy = gate_gradients(call, dy, z, y, dz)
    end = None if grad_finals is None else rows_of(grad_finals, call)
    found = run_backward(call, dy, or_none(entering), end, initial is not None)
    arguments = (x, dt, A, B, C, D, bias, z, initial)
    grads = (*found[:7], dz, found[7])
    return tuple(  # type: ignore[return-value]
        x.new_empty(0) if one is None or grad is None else grad.to(one.dtype).contiguous()
        for one, grad in zip(arguments, grads, strict=True)
    )


@scan_backward.register_fake
def _(
    grad_out,
    grad_finals,
    x,
    dt,
    A,
    B,
    C,
    D,
    bias,
    z,
    initial,
    cu_seqlens,
    longest,
    y,
    entering,
    softplus,
):
    arguments = (x, dt, A, B, C, D, bias, z, initial)
    return tuple(x.new_empty(0) if one is None else one.new_empty(one.shape) for one in arguments)


def _keep(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, cu_seqlens, longest, softplus, _, _ = inputs
    _, _, y, entering = output
    ctx.save_for_backward(*tensors, cu_seqlens, y, entering)
    ctx.longest, ctx.softplus = longest, softplus
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_out: Tensor | None, grad_finals: Tensor | None, *_: Any) -> tuple:
    *tensors, cu_seqlens, y, entering = ctx.saved_tensors
    if grad_out is None:
        grad_out = torch.zeros_like(tensors[0][0])
    grads = scan_backward(
        grad_out, grad_finals, *tensors, cu_seqlens, ctx.longest, y, entering, ctx.softplus
    )
    found = (None if one is None else grad for one, grad in zip(tensors, grads, strict=True))
    return *found, None, None, None, None, None


scan.register_autograd(_gradients, setup_context=_keep)
