"""The RMS norm that begins a branch of a residual stream, and the stream itself, as one operation.

In a pre-norm block the stream's gradient is the sum of the branch's and its own: an operation that
returns both outputs adds them in the pass it makes anyway, and writes the norm in the precision
that the branch computes in."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lcframework.ops.bidirectional_scan.triton import serves
from lcframework.ops.rms_norm.triton import TritonBranchNorm

WIDEST = 16384
"""Columns up to which a row fits one program's registers."""


def branch_norm(residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(residual / rms(residual) * weight, residual): what the branch reads and what it is added to.

    Args:
        residual: (T, D).
        weight: (D,).
        eps: added to the mean square.

    Returns:
        Two tensors (T, D). On a GPU in float32 under autocast the norm comes in autocast's dtype.
        Elsewhere, and under torch.compile, which makes kernels of its own, it is torch's rms_norm.
    """
    if not _fused(residual, weight):
        return F.rms_norm(residual, weight.shape, weight, eps), residual
    autocast = torch.is_autocast_enabled("cuda")
    dtype = torch.get_autocast_dtype("cuda") if autocast else residual.dtype
    return TritonBranchNorm.apply(residual.contiguous(), weight, eps, dtype)  # type: ignore[return-value]


def _fused(residual: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and residual.ndim == 2
        and residual.dtype == weight.dtype == torch.float32
        and residual.shape[0] > 0
        and residual.shape[1] <= WIDEST
        and serves(residual)
    )
