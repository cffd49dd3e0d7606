"""Launches of the RMS norm's Triton kernels, and their autograd function."""

import importlib
from typing import Any

import torch

PROGRAMS = 1056
"""Programs of the backward kernel, some for each multiprocessor: their shares of the weight's
gradient are added afterwards."""


def _launch(columns: int) -> dict:
    width = max(32, 1 << (columns - 1).bit_length())
    return {"BD": width, "num_warps": min(16, max(1, width // 256))}


class TritonBranchNorm(torch.autograd.Function):
    """See `branch_norm`."""

    @staticmethod
    def forward(ctx, x, weight, eps, dtype):
        """(norm of x, x)."""
        kernels: Any = importlib.import_module("lcframework.ops.rms_norm.triton_kernels")

        T, D = x.shape
        out = torch.empty(x.shape, dtype=dtype, device=x.device)
        scale = x.new_empty(T)
        kernels.norm_kernel[(T,)](x, weight, out, scale, D, eps, **_launch(D))
        ctx.save_for_backward(x, weight, scale)
        ctx.set_materialize_grads(False)
        return out, x.view_as(x)

    @staticmethod
    def backward(ctx, d_out, d_through):  # type: ignore[override]
        """Gradients of x and weight: the branch's and the residual stream's in one pass."""
        kernels: Any = importlib.import_module("lcframework.ops.rms_norm.triton_kernels")

        x, weight, scale = ctx.saved_tensors
        if d_out is None:
            return d_through, None, None, None
        T, D = x.shape
        programs = min(PROGRAMS, T)
        dx, share = torch.empty_like(x), x.new_empty(programs, D)
        through = d_out if d_through is None else d_through.contiguous()
        kernels.norm_backward_kernel[(programs,)](
            x, weight, scale, d_out.contiguous(), through, dx, share, T, D,
            THROUGH=d_through is not None, **_launch(D),
        )  # fmt: skip
        return dx, share.sum(0), None, None
