"""The entry of the bidirectional selective scan: checks, backend choice, skip, gate and sum of
directions.

Legend: T tokens of the pack, S segments, E channels, N states; the leading axis of size 2 is the
    direction, 0 forward in time, 1 backward.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lcframework.ops.bidirectional_scan.checks import check_borders, check_finite
from lcframework.ops.bidirectional_scan.chunked import scan_chunked
from lcframework.ops.bidirectional_scan.mamba_ssm import scan_mamba_ssm
from lcframework.ops.bidirectional_scan.numba import scan_numba
from lcframework.ops.bidirectional_scan.reference import scan_reference
from lcframework.ops.bidirectional_scan.triton import scan_triton, serves
from lcframework.ops.cpu.compile import usable

BACKENDS = ("auto", "triton", "numba", "mamba_ssm", "chunked", "reference")
FUSED: dict[str, Callable] = {"numba": scan_numba, "mamba_ssm": scan_mamba_ssm}
"""Backends that take every argument of `bidirectional_scan` up to the final states."""
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def bidirectional_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    cu_seqlens: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    max_len: int | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan every segment of a pack in both directions, add the directions, gate.

    Per direction h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t and y_t = C_t . h_t + D x_t, from each
    segment's start (direction 1: from its end); the result is (y_0 + y_1) * silu(z). Source: Gu &
    Dao 2023, equations 2 and 3; LC-PLM, arXiv 2411.08909, section 3, in the one-projection form.
    The recurrence runs in float32, in float64 for float64 inputs.

    Args:
        x: (2, T, E) inputs of the two directions, in the pack's order of time.
        dt: (2, T, E) step sizes, before `dt_bias` and softplus.
        A: (2, E, N) decay rates, negative.
        B: (2, T, N) input maps.
        C: (2, T, N) output maps.
        D: (2, E) skip weights.
        z: (T, E) gate.
        dt_bias: (2, E) added to `dt`.
        dt_softplus: apply softplus to the step.
        cu_seqlens: (S+1,) int32, from 0 to T, strictly increasing; None for one segment.
        initial_states: (2, S, E, N) states before each segment's first step in each direction.
        return_final_states: also return the states after each segment's last step in each
            direction.
        max_len: no segment is longer than this; where it is known, launches that only long segments
            need are spared. A value too small slows the scan down, no more.
        backend: "auto" (Triton on a GPU, Numba on the CPU, else chunked), "triton", "numba",
            "mamba_ssm", "chunked" or "reference".

    Returns:
        y (T, E) in the dtype of `x`; with `return_final_states` also (2, S, E, N) in the dtype of
        the recurrence.

    Raises:
        ValueError: shapes, borders or a backend that do not fit.
        TypeError: an unsupported dtype.
    """
    cu_seqlens = _check(x, dt, A, B, C, D, z, dt_bias, cu_seqlens, initial_states)
    backend = choose_backend(backend, x)
    if backend in FUSED:
        out, finals = FUSED[backend](
            x, dt, A, B, C, D, z, dt_bias, dt_softplus, cu_seqlens, initial_states,
            return_final_states,
        )  # fmt: skip
        return _returned(out, finals, x)
    if backend == "triton":
        out, finals = scan_triton(
            x, dt, A, B, C, D, z, dt_bias, dt_softplus, cu_seqlens,
            initial_states, return_final_states, max_len,
        )  # fmt: skip
    else:
        inputs = _widened(x, dt, A, B, C, dt_bias, dt_softplus, cu_seqlens, initial_states)
        if backend == "reference":
            y, finals = scan_reference(*inputs)
        else:
            y, finals = scan_chunked(*inputs, return_final_states)
        if D is not None:
            y = y + D.to(y.dtype)[:, None] * inputs[0]
        out = y[0] + y[1]
        if z is not None:
            out = out * F.silu(z.to(out.dtype))
    return _returned(out, finals if return_final_states else None, x)


def _returned(out: Tensor, finals: Tensor | None, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """What `bidirectional_scan` returns."""
    out = out.to(x.dtype)
    return out if finals is None else (out, finals)


def choose_backend(backend: str, x: Tensor) -> str:
    """The backend that "auto" means for `x`: "triton" on a CUDA device and "numba" on the CPU,
    where they can run, else "chunked".

    Raises:
        ValueError: an unknown name.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")
    if backend != "auto":
        return backend
    if serves(x):
        return "triton"
    return "numba" if usable(x.device) else "chunked"


def _widened(x, dt, A, B, C, dt_bias, dt_softplus, cu_seqlens, initial_states):
    """Arguments of a PyTorch backend in the dtype of the recurrence, the step activated."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    step = dt.to(wide)
    if dt_bias is not None:
        step = step + dt_bias.to(wide)[:, None]
    if dt_softplus:
        step = F.softplus(step)
    start = None if initial_states is None else initial_states.to(wide)
    return x.to(wide), step, A.to(wide), B.to(wide), C.to(wide), cu_seqlens, start


def _check(x, dt, A, B, C, D, z, dt_bias, cu_seqlens, initial_states) -> Tensor:
    """Refuse what does not fit; returns the segment borders."""
    if x.ndim != 3 or x.shape[0] != 2 or x.shape[1] < 1:
        raise ValueError(f"x must be (2, T, E) with T >= 1, got {tuple(x.shape)}")
    if A.ndim != 3:
        raise ValueError(f"A must be (2, E, N), got {tuple(A.shape)}")
    T, E, N = x.shape[1], x.shape[2], A.shape[2]
    if cu_seqlens is None:
        cu_seqlens = torch.tensor([0, T], dtype=torch.int32, device=x.device)
    elif cu_seqlens.ndim != 1 or cu_seqlens.numel() < 2 or cu_seqlens.is_floating_point():
        raise ValueError(f"cu_seqlens must be a vector of at least two integers, got {cu_seqlens}")
    S = cu_seqlens.numel() - 1
    expected = {
        "dt": (dt, (2, T, E)),
        "A": (A, (2, E, N)),
        "B": (B, (2, T, N)),
        "C": (C, (2, T, N)),
        "D": (D, (2, E)),
        "z": (z, (T, E)),
        "dt_bias": (dt_bias, (2, E)),
        "initial_states": (initial_states, (2, S, E, N)),
    }
    for name, (value, shape) in expected.items():
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    for name, value in {"x": x, **{name: value for name, (value, _) in expected.items()}}.items():
        if value is not None and value.dtype not in DTYPES:
            raise TypeError(
                f"{name} must be a float tensor of 16, 32 or 64 bits, got {value.dtype}"
            )
        if value is not None and value.device != x.device:
            raise ValueError(f"{name} is on {value.device}, x on {x.device}")
    check_borders(cu_seqlens, T)
    check_finite(x=x, **{name: value for name, (value, _) in expected.items()})
    return cu_seqlens
