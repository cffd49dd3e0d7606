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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.work_items import (
    WorkItems,
    item_count,
    lengths_for,
    work_items,
)

SPAN = 256
"""Steps after which the backward pass starts its running sums anew."""
WIDE, NARROW = 64, 32
"""Channels of one program, which is one warp; the backward kernels take the wide one."""
BUSY = 2
"""Programs per multiprocessor quarter from which on the wide tile is taken: fewer do not hide their
latencies."""
BY_FMA = 0
"""States whose exponentials the wide forward kernels make by multiply-adds instead of the
special-function unit. None: on an H200 the unit does not bind yet, and two were slower."""
FORWARD_AHEAD, BACKWARD_AHEAD = 4, 2
"""Steps whose inputs are fetched ahead; the second divides SPAN."""
FORWARD_REGISTERS, REPLAY_REGISTERS, ADJOINT_REGISTERS = 168, 168, 232
"""Registers per thread: as many as leave twelve, twelve and eight warps on a multiprocessor."""
MOST_STATES = 32
GATE_ROWS, GATE_CHANNELS = 4, 256
LOG2_E, LN_2 = 1.4426950408889634, 0.6931471805599453


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


@functools.cache
def quarters(device: torch.device) -> int:
    """Multiprocessor quarters of a GPU, each of which issues for one warp at a time; a nominal
    number elsewhere."""
    if device.type != "cuda":
        return 16
    return 4 * torch.cuda.get_device_properties(device).multi_processor_count


@dataclass(frozen=True)
class Call:
    """What all launches of one call share.

    Attributes:
        T, E, N, NP: sizes.
        items: the work items.
        x, dt: (2, T, E).
        maps: (2, T, 2 NP) float32, B and C side by side.
        rate: (2, NP, E) float32, A transposed.
        skip, bias: (2, E) float32; the bias times log2(e).
        softplus: whether the step is activated.
        fast: whether PTX instructions can be used.
    """

    T: int
    E: int
    N: int
    NP: int
    items: WorkItems
    x: Tensor
    dt: Tensor
    maps: Tensor
    rate: Tensor
    skip: Tensor
    bias: Tensor
    softplus: bool
    fast: bool

    @classmethod
    def of(cls, x, dt, A, B, C, D, bias, cu_seqlens, longest, softplus) -> "Call":
        """Bring the arguments of `scan_triton` into the kernels' layout."""
        states = A.shape[2]
        padded = padded_states(states)
        maps = torch.cat([_padded(B, 2, padded), _padded(C, 2, padded)], 2)
        zeros = A.new_zeros(A.shape[:2], dtype=torch.float32)
        return cls(
            x.shape[1],
            x.shape[2],
            states,
            padded,
            work_items(cu_seqlens, x.shape[1], longest, x.shape[2], quarters(x.device), SPAN),
            x,
            dt,
            maps,
            _padded(A.transpose(1, 2), 1, padded).contiguous(),
            zeros if D is None else D.float().contiguous(),
            zeros if bias is None else (bias.float() * LOG2_E).contiguous(),
            softplus,
            x.is_cuda,
        )

    def grid(self, tile: int, directions: int = 2, rows: int | None = None) -> tuple[int, int, int]:
        """Channel tiles x work items x directions."""
        return -(-self.E // tile), self.items.count if rows is None else rows, directions

    def tile(self, directions: int) -> int:
        """Channels of a program when `directions` grid rows share the work."""
        programs = self.items.count * -(-self.E // WIDE) * directions
        return WIDE if programs >= BUSY * quarters(self.x.device) else NARROW

    def states(self, count: int) -> Tensor:
        """Room for `count` states per direction: (2, count, NP, E) float32."""
        return self.x.new_empty(2, count, self.NP, self.E, dtype=torch.float32)

    def vectors(self, count: int) -> Tensor:
        """Room for `count` vectors over channels per direction: (2, count, E) float32."""
        return self.x.new_empty(2, count, self.E, dtype=torch.float32)

    def forward_walk(self, tile: int) -> dict:
        """Keyword arguments of the forward kernels that walk."""
        # Without softplus a step may be negative, a decay above 1.
        by_fma = BY_FMA if tile == WIDE and self.softplus and self.fast else 0
        return {"BE": tile, "POLY": by_fma, **self._walk(FORWARD_AHEAD, FORWARD_REGISTERS)}

    def backward_walk(self, registers: int) -> dict:
        """Keyword arguments of the two walks of the backward pass."""
        return {"BE": WIDE, "SPAN": SPAN, "POLY": 0, **self._walk(BACKWARD_AHEAD, registers)}

    def _walk(self, ahead: int, registers: int) -> dict:
        common = {"SOFTPLUS": self.softplus, "N": self.NP, "AHEAD": ahead, "FAST": self.fast}
        return {**common, "num_warps": 1, **({"maxnreg": registers} if self.fast else {})}


def padded_states(states: int) -> int:
    """States that the kernels compute with: a power of two, at least the four of one wide load."""
    return max(4, 1 << (states - 1).bit_length())


def _padded(value: Tensor, axis: int, size: int) -> Tensor:
    """Float32 with zeros behind the states, up to `size` along `axis` of three."""
    missing = size - value.shape[axis]
    pad = (0, missing) if axis == 2 else (0, 0, 0, missing)
    return torch.nn.functional.pad(value.float(), pad) if missing else value.float()


def rows_of(states_2SEN: Tensor, call: Call) -> Tensor:
    """(2, S, E, N) -> (2, S, NP, E)."""
    missing = call.NP - call.N
    return torch.nn.functional.pad(states_2SEN.float(), (0, missing)).transpose(2, 3).contiguous()


def _columns(states: Tensor, call: Call) -> Tensor:
    """(2, S, NP, E) -> (2, S, E, N)."""
    return states[:, :, : call.N].transpose(2, 3)


def run_forward(call: Call, z, initial, keep: bool, want_finals: bool):
    """(out, sum of directions or None, entering states or None, final states or None)."""
    kernels = _kernels("triton_forward")

    items, dummy = call.items, call.rate
    start = None if initial is None else rows_of(initial, call)
    entering = None
    if items.split or start is not None:
        own, total = call.states(items.count), call.vectors(items.count)
        if items.split:
            tile = call.tile(2)
            _kernels("triton_borders").contribution_kernel[call.grid(tile)](
                call.x, call.dt, call.bias, call.rate, call.maps, own, total, items.bounds,
                items.links,
                items.order, call.T, call.E, items.count, **call.forward_walk(tile),
            )  # fmt: skip
        entering = _cross_borders(call, own, total, start, backward=False)
    out = torch.empty_like(call.x[0])
    y = torch.empty_like(out) if keep and z is not None else out
    last = call.states(items.count) if want_finals else dummy
    tile = call.tile(1)
    kernels.scan_kernel[call.grid(tile, 1)](
        call.x, call.dt, call.bias, call.rate, call.maps, call.skip, out if z is None else z, y,
        out,
        dummy if entering is None else entering, last, items.bounds, items.order, call.T, call.E,
        out.stride(0) if z is None else z.stride(0), items.count,
        ENTER=entering is not None, LAST=want_finals, GATE=z is not None, KEEP=keep or z is None,
        **call.forward_walk(tile),
    )  # fmt: skip
    finals = None
    if want_finals:
        ends = torch.stack([last[0, items.first[1:] - 1], last[1, items.first[:-1]]])
        finals = _columns(ends, call)
    return out, y, entering, finals


def entering_shape(
    size: tuple[int, int],
    longest: int,
    states: int,
    segments: int,
    has_initial: bool,
    device: torch.device,
) -> tuple[int, ...]:
    """Shape of the entering states that `run_forward` returns for `size` (T, E), (0,) where it
    returns none."""
    tokens, channels = (int(one) for one in size)
    whole, piece = lengths_for(tokens, channels, quarters(device))
    if longest <= whole and not has_initial:
        return (0,)
    return (
        2,
        item_count(tokens, longest, int(segments), whole, piece),
        padded_states(states),
        channels,
    )


def _cross_borders(call: Call, own, total, start, backward: bool) -> Tensor:
    """What enters each item (2, I, NP, E); see `border_kernel`."""
    entering = call.states(call.items.count)
    segments = call.items.first.numel() - 1
    _kernels("triton_borders").border_kernel[call.grid(NARROW, 2, segments)](
        own, total, call.rate, call.rate if start is None else start, entering, call.items.first,
        call.items.count, segments, call.E,
        START=start is not None, BACKWARD=backward, N=call.NP, BE=NARROW, FAST=call.fast,
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
        tile = call.tile(2)
        _kernels("triton_borders").adjoint_contribution_kernel[call.grid(tile)](
            call.dt, call.bias, call.rate, call.maps, dy, own, total, items.bounds, items.links,
            items.order,
            call.T, call.E, items.count, **call.forward_walk(tile),
        )  # fmt: skip
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

    items, grid, tiles = call.items, call.grid(WIDE), -(-call.E // WIDE)
    leaving = _leaving(call, dy, end)
    q = call.x.new_empty(2, call.T, call.E, dtype=torch.float32)
    dC, dB = (q.new_empty(tiles, 2, call.T, call.NP) for _ in range(2))
    span_state, span_step = call.states(items.n_spans), call.vectors(items.n_spans)
    d_rate = call.states(items.count)
    kernels.replay_kernel[grid](
        call.x, call.dt, call.bias, call.rate, call.maps, dy, q, dC, span_state, span_step, d_rate,
        call.rate if entering is None else entering, items.bounds, items.spans, items.order,
        call.T, call.E, items.count, items.n_spans,
        ENTER=entering is not None, **call.backward_walk(REPLAY_REGISTERS),
    )  # fmt: skip
    dx, ddt = torch.empty_like(call.x), torch.empty_like(call.dt)
    d_bias, d_skip = call.vectors(items.count), call.vectors(items.count)
    arriving = call.states(items.count) if want_initial else d_rate
    kernels.adjoint_kernel[grid](
        call.x, call.dt, call.bias, call.rate, call.maps, call.skip, dy, q, span_state, span_step,
        call.rate if leaving is None else leaving, dx, ddt, dB, d_rate, d_bias, d_skip, arriving,
        items.bounds, items.spans, items.order, call.T, call.E, items.count, items.n_spans,
        LEAVE=leaving is not None, ARRIVE=want_initial, **call.backward_walk(ADJOINT_REGISTERS),
    )  # fmt: skip
    dA = d_rate.sum(1)[:, : call.N].transpose(1, 2) * LN_2
    d_initial = None
    if want_initial:
        first, final = items.first[:-1], items.first[1:] - 1
        d_initial = _columns(torch.stack([arriving[0, first], arriving[1, final]]), call)
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
