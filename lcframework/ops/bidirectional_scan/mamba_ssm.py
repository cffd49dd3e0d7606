"""The scan by mamba-ssm's CUDA kernel, for comparison: the published form of the computation.

The kernel knows neither packs nor the reverse direction: segments are padded to the longest one,
and direction 1 is given reversed. Needs the extra `[mamba]`. Legend: S segments, L length of the
longest one, E channels, N states."""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def selective_scan(device: torch.device) -> Callable[..., Tensor]:
    """mamba-ssm's `selective_scan_fn`.

    Raises:
        RuntimeError: it cannot run here; the message says why.
    """
    try:
        module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except ImportError as error:
        raise RuntimeError(
            f"backend='mamba_ssm' cannot run here: {error}. Install the extra with "
            "pip install 'lcframework[mamba]', which compiles CUDA code, or use backend='auto'."
        ) from error
    if device.type != "cuda":
        raise RuntimeError(
            f"backend='mamba_ssm' cannot run here: the tensors are on {device}, its kernels are "
            "for CUDA GPUs. Use backend='auto'."
        )
    return module.selective_scan_fn


def scan_mamba_ssm(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    cu_seqlens: Tensor,
    initial_states: Tensor | None,
    want_finals: bool,
) -> tuple[Tensor, None]:
    """Arguments as `bidirectional_scan`; returns (gated sum of the directions (T, E), None).

    Raises:
        RuntimeError: mamba-ssm cannot run here.
        ValueError: initial or final states, which the kernel has not.
    """
    if initial_states is not None or want_finals:
        raise ValueError(
            "backend='mamba_ssm' has neither initial nor final states; use backend='auto'."
        )
    scan = selective_scan(x.device)
    total = 0.0
    for direction in (0, 1):
        index, real = padded_index(cu_seqlens, reverse=direction == 1)
        # What is padded lies behind the real tokens in time: it changes none of them.
        u, step, maps_B, maps_C = (
            one[direction][index].transpose(1, 2).contiguous() for one in (x, dt, B, C)
        )
        skip = None if D is None else D[direction].float()
        bias = None if dt_bias is None else dt_bias[direction].float()
        y = scan(
            u, step, A[direction].float(), maps_B, maps_C, skip, None, bias, dt_softplus
        ).transpose(1, 2)
        total = total + torch.empty_like(x[0]).index_copy(0, index[real], y[real].to(x.dtype))
    assert isinstance(total, Tensor)
    return total if z is None else total * F.silu(z), None


def padded_index(cu_seqlens: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """(S, L) token of each step of each segment in the direction's time, and which of them are
    real; the others name the segment's last step again."""
    cu = cu_seqlens.long()
    lengths = cu.diff()
    step = torch.arange(int(lengths.max()), device=cu.device)
    at = torch.minimum(step, lengths[:, None] - 1)
    index = cu[1:, None] - 1 - at if reverse else cu[:-1, None] + at
    return index, step < lengths[:, None]
