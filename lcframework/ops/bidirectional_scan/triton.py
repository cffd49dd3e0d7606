"""The bidirectional selective scan on the GPU: launches of the Triton kernels (`torch_ops` makes an
operator of them).

Nothing of the states is kept for the backward pass, which recomputes them; see `triton_backward`
for how it needs a state and an adjoint of the same time only where a segment is cut. Where a
segment has several work items (`work_items`), a first launch finds what each contributes to its
last state and a second one walks over the items' borders; the main launch then starts every item
from its true state.

Legend: T tokens, S segments, E channels, N states (padded to NP), I work items, K spans.
"""

import functools
import importlib
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.kernel_call import (
    TILE,
    Call,
    columns_of,
    padded_states,
    quarters,
    rows_of,
)
from lcframework.ops.bidirectional_scan.tiles import current_tiles
from lcframework.ops.bidirectional_scan.work_items import item_count, lengths_for

MOST_STATES = 32
GATE_ROWS, GATE_CHANNELS = 4, 256
LN_2 = 0.6931471805599453


def _kernels(name: str) -> Any:
    """A module in Triton's own language, which is imported only where Triton is."""
    return importlib.import_module(f"lcframework.ops.bidirectional_scan.{name}")


@functools.cache
def why_unavailable() -> str | None:
    """None where the kernels can run, else the reason in one sentence."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (pip install triton)"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA GPU (on a CPU the kernels run only with TRITON_INTERPRET=1)"
    if torch.cuda.get_device_capability() < (8, 0):
        return f"the GPU {torch.cuda.get_device_name()} is older than compute capability 8.0"
    return None


def serves(x: Tensor) -> bool:
    """Whether "auto" takes the Triton kernels for `x`: on a GPU, in every precision but float64."""
    if not x.is_cuda or x.dtype == torch.float64:
        return False
    # Tracing would stumble over the search for a package; who compiles for a GPU has Triton.
    return torch.compiler.is_compiling() or why_unavailable() is None


def run_forward(call: Call, z, initial, keep: bool, want_finals: bool):
    """(out, sum of directions or None, entering states or None, final states or None)."""
    kernels = _kernels("triton_forward")

    items, dummy = call.items, call.rate
    start = None if initial is None else rows_of(initial, call)
    entering = None
    if items.split or start is not None:
        own, total = call.states(items.count), call.vectors(items.count)
        if items.split:
            _contributions(call, call.x, own, total, forward=True)
        entering = _cross_borders(call, own, total, start, backward=False)
    out = torch.empty_like(call.x[0])
    y = torch.empty_like(out) if keep and z is not None else out
    last = call.states(items.count) if want_finals else dummy
    gate = out if z is None else z
    kernels.scan_kernel[call.grid(1)](
        call.x, call.dt, call.bias, call.rate, call.maps, call.skip, gate, y, out,
        dummy if entering is None else entering, last, items.bounds, items.order, call.T, call.E,
        gate.stride(0), items.count, ENTER=entering is not None, LAST=want_finals,
        GATE=z is not None, KEEP=keep or z is None, **call.scan_walk(y, gate),
    )  # fmt: skip
    finals = None
    if want_finals:
        ends = torch.stack([last[0, items.first[1:] - 1], last[1, items.first[:-1]]])
        finals = columns_of(ends, call)
    return out, y, entering, finals


def entering_shape(
    x: Tensor, longest: int, states: int, segments: int, has_initial: bool
) -> tuple[int, ...]:
    """Shape of the entering states that `run_forward` returns in training for `x` (..., T, E), (0,)
    where it returns none."""
    # Under torch.compile sizes are symbols; the rule below is no arithmetic of symbols: each size
    # of a pack compiles a graph of its own.
    tokens, channels, states, segments = (int(one) for one in (*x.shape[-2:], states, segments))
    costs = current_tiles(x.device, x.dtype, padded_states(states)).training_costs
    whole, piece = lengths_for(tokens, longest, segments, channels, quarters(x.device), costs)
    if longest <= whole and not has_initial:
        return (0,)
    return (
        2,
        item_count(tokens, longest, segments, whole, piece),
        padded_states(states),
        channels,
    )


def _contributions(call: Call, values: Tensor, own: Tensor, total: Tensor, forward: bool) -> None:
    """Fill own and total; see `contribution_kernel`."""
    items = call.items
    _kernels("triton_borders").contribution_kernel[call.grid()](
        values, call.dt, call.bias, call.rate, call.maps, own, total, items.bounds, items.links,
        items.order, call.T, call.E, items.count,
        FORWARD=forward, **call.border_walk(values),
    )  # fmt: skip


def _cross_borders(call: Call, own, total, start, backward: bool) -> Tensor:
    """What enters each item (2, I, NP, E); see `border_kernel`."""
    entering = call.states(call.items.count)
    segments = call.items.first.numel() - 1
    _kernels("triton_borders").border_kernel[call.grid(2, segments)](
        own, total, call.rate, call.rate if start is None else start, entering, call.items.first,
        call.items.count, segments, call.E,
        START=start is not None, BACKWARD=backward, N=call.NP, BE=TILE, FAST=call.fast,
        num_warps=1,
    )  # fmt: skip
    return entering


def _leaving(call: Call, dy: Tensor, end: Tensor | None) -> Tensor | None:
    """Adjoint of the state that leaves each item (2, I, NP, E); None where it is zero."""
    items = call.items
    if not items.split and end is None:
        return None
    own, total = call.states(items.count), call.vectors(items.count)
    if items.split:
        _contributions(call, dy, own, total, forward=False)
    return _cross_borders(call, own, total, end, backward=True)


def gate_gradients(call: Call, dout: Tensor, z: Tensor, y: Tensor, dz: Tensor) -> Tensor:
    """dy of out = y silu(z); fills dz. The rows of z and dz (T, E) may lie apart."""
    dy = torch.empty_like(y)
    _kernels("triton_forward").gate_kernel[(-(-call.E // GATE_CHANNELS), -(-call.T // GATE_ROWS))](
        dout, z, y, dy, dz, call.T, call.E, z.stride(0), dz.stride(0),
        ROWS=GATE_ROWS, BE=GATE_CHANNELS, FAST=call.fast, num_warps=4,
    )  # fmt: skip
    return dy


def run_backward(call: Call, dy, entering, end, want_initial: bool) -> tuple:
    """(dx, ddt, dA, dB, dC, dD, d_bias, d_initial or None), float32 where a sum over tokens was
    taken."""
    kernels = _kernels("triton_backward")

    items, grid, tiles = call.items, call.grid(), -(-call.E // TILE)
    leaving = _leaving(call, dy, end)
    q = call.x.new_empty(2, call.T, call.E, dtype=torch.float32)
    dC, dB = (q.new_empty(tiles, 2, call.T, call.NP) for _ in range(2))
    span_state, span_step = call.states(items.n_spans), call.vectors(items.n_spans)
    d_rate = call.states(items.count)
    kernels.replay_kernel[grid](
        call.x, call.dt, call.bias, call.rate, call.maps, dy, q, dC, span_state, span_step, d_rate,
        call.rate if entering is None else entering, items.bounds, items.spans, items.order,
        call.T, call.E, items.count, items.n_spans,
        ENTER=entering is not None, **call.backward_walk(dy, 0),
    )  # fmt: skip
    dx, ddt = torch.empty_like(call.x), torch.empty_like(call.dt)
    d_bias, d_skip = call.vectors(items.count), call.vectors(items.count)
    arriving = call.states(items.count) if want_initial else d_rate
    kernels.adjoint_kernel[grid](
        call.x, call.dt, call.bias, call.rate, call.maps, call.skip, dy, q, span_state, span_step,
        call.rate if leaving is None else leaving, dx, ddt, dB, d_rate, d_bias, d_skip, arriving,
        items.bounds, items.spans, items.order, call.T, call.E, items.count, items.n_spans,
        LEAVE=leaving is not None, ARRIVE=want_initial,
        **call.backward_walk(dy, 4 * TILE),
    )  # fmt: skip
    dA = d_rate.sum(1)[:, : call.N].transpose(1, 2) * LN_2
    d_initial = None
    if want_initial:
        first, final = items.first[:-1], items.first[1:] - 1
        d_initial = columns_of(torch.stack([arriving[0, first], arriving[1, final]]), call)
    dB, dC = (shares.sum(0)[..., : call.N] for shares in (dB, dC))
    return dx, ddt, dA, dB, dC, d_skip.sum(1), d_bias.sum(1), d_initial


def check_runnable(x: Tensor, states: int = 1) -> None:
    """Refuse what the kernels cannot take, or a place where they cannot run; the errors of
    `scan_triton`."""
    reason = why_unavailable()
    if reason is not None:
        raise RuntimeError(f"backend='triton' cannot run here: {reason}.")
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError(
            "backend='triton' cannot run here: the tensors are on the CPU. Move them to the GPU, "
            "or use backend='auto', which takes the CPU kernels there."
        )
    if x.dtype == torch.float64:
        raise TypeError("backend='triton' has no float64; use backend='chunked'.")
    if states > MOST_STATES:
        raise ValueError(
            f"backend='triton' takes at most {MOST_STATES} states per channel, got {states}; use "
            "backend='chunked'."
        )


def scan_triton(
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
    max_len: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Both directions over packed segments; skips, step activation, gate and sum of directions
    fused.

    Args:
        x, dt: (2, T, E) float16, bfloat16 or float32.
        A: (2, E, N); B, C: (2, T, N); D, dt_bias: (2, E) or None.
        z: (T, E) or None.
        dt_softplus: apply softplus to dt + dt_bias.
        cu_seqlens: (S+1,) on the device of `x`.
        initial_states: (2, S, E, N) or None.
        want_finals: whether to return the final states.
        max_len: no segment is longer; None where that is not known.

    Returns:
        (gated sum of the directions (T, E) in the dtype of x, final states (2, S, E, N) float32 or
        None).

    Raises:
        RuntimeError: the kernels cannot run here; the message says why.
        TypeError: float64 inputs.
        ValueError: more states than the kernels take.
    """
    from lcframework.ops.bidirectional_scan import torch_ops

    x, dt, cu_seqlens = x.contiguous(), dt.contiguous(), cu_seqlens.to(x.device)
    z = z if z is None or z.stride(1) == 1 else z.contiguous()
    tensors = (x, dt, A, B, C, D, dt_bias, z, initial_states)
    keep = torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)
    longest = x.shape[1] if max_len is None else max_len
    out, finals = torch_ops.scan(*tensors, cu_seqlens, longest, dt_softplus, keep, want_finals)[:2]
    return out, finals if want_finals else None
