"""The selective scan in PyTorch: the chunks of a group advance together, states are kept at chunk
borders only.

A group is a run of consecutive chunks of one direction whose decays and states fit the cache. Per
group: the decays, computed once; each chunk's own contribution to its last state; a short scan over
the chunk borders; a replay that writes the outputs. The backward pass recomputes a group's states
from its borders (`chunked_backward`), so memory stays a small multiple of the input. All
exponentials are of non-positive numbers (decays), nothing is divided by a decay, and a reset is a
decay of exactly zero, so neither long sequences nor extreme steps overflow.

Legend: T tokens, S segments, E channels (innermost), N states, K steps per chunk, c chunks, W = 2 c
lanes (direction-major), G lanes of one group.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.layout import Events, Layout
from lcframework.ops.cpu.plan import applied

GROUP_ELEMENTS = 1 << 17
"""States (G N E) that advance together: enough work for an operation, few enough for a cache."""

LOG2_E = math.log2(math.e)
"""exp(v) = exp2(v log2 e): on a CPU torch's exp2 takes a third of the time of its exp."""

LaneEvents = dict[int, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Inputs:
    """The cut of one call, in pack order.

    Attributes:
        layout: the cut.
        x, dt: (K, W, E).
        B, C: (K, W, N).
        A: (2, N, E).
        initial: (2 S, N, E) or None.
    """

    layout: Layout
    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    initial: Tensor | None

    @classmethod
    def cut(cls, layout, x, dt, A, B, C, initial) -> "Inputs":
        """Cut tensors in pack order (2, T, ...)."""
        return cls(layout, layout.cut(x), layout.cut(dt), A, layout.cut(B), layout.cut(C), initial)


class Group:
    """Some lanes of one direction with everything a step needs, shaped to broadcast over
    (G, N, E).

    Attributes:
        lanes: which of the W lanes.
        order: the K steps in the direction's own time.
        lane_order: the G lanes in the direction's own time.
        a: (K, G, N, E) decays, in a buffer that the next group overwrites.
        through: (G, N, E) decay of what enters a chunk until it leaves it.
        a_at: K views (G, N, E) of it.
        u: K views (G, 1, E) of dt x.
        B: K views (G, N, 1).
        starts: step -> (lane of the group, segment) of first tokens; empty without initial states.
    """

    def __init__(self, inputs: Inputs, lanes: slice, buffer: Tensor) -> None:
        layout, size = inputs.layout, lanes.stop - lanes.start
        direction = 0 if lanes.start < layout.chunks else 1
        sense = 1 if direction == 0 else -1
        self.lanes = lanes
        self.order = range(layout.steps)[::sense]
        self.lane_order = range(size)[::sense]
        self.A, self.a, self.dt = inputs.A[direction], buffer[:, :size], inputs.dt[:, lanes]
        rate, step = self.A * LOG2_E, self.dt[:, :, None]
        for step_k, a_k in zip(step.unbind(0), self.a.unbind(0), strict=True):
            torch.mul(step_k, rate, out=a_k).exp2_()
        self.through = step.sum(0).mul(rate).exp2_()
        resets = layout.starts.positions(lanes.start, lanes.stop)
        self.a[resets] = 0.0
        self.through[resets[1]] = 0.0
        # Tuples of K views, made once: indexing a tensor costs as much as a small operation.
        self.a_at = self.a.unbind(0)
        self.u = (inputs.x[:, lanes] * self.dt)[:, :, None].unbind(0)
        self.B = inputs.B[:, lanes, :, None].unbind(0)
        self.initial = inputs.initial
        self.starts = {} if self.initial is None else self.events(layout.starts)

    def events(self, of: Events) -> LaneEvents:
        """The events that fall into this group."""
        return of.in_lanes(self.lanes.start, self.lanes.stop)

    def inject(self, h: Tensor, k: int) -> None:
        """Add the decayed initial states of the segments that start at step k to `h` (G, N, E)."""
        if k in self.starts:
            assert self.initial is not None
            lane, segment = self.starts[k]
            h[lane] += torch.exp(self.dt[k, lane, None] * self.A) * self.initial[segment]

    def own_contribution(self) -> Tensor:
        """Last state of each chunk when nothing enters it: (G, N, E)."""
        h = torch.zeros_like(self.through)
        for k in self.order:
            h.mul_(self.a_at[k]).addcmul_(self.B[k], self.u[k])
            self.inject(h, k)
        return h


def groups(inputs: Inputs, buffer: Tensor, direction: int, backward: bool) -> Iterator[Group]:
    """The groups of one direction, first to last in its own time, or with `backward` last to
    first."""
    layout, size = inputs.layout, buffer.shape[1]
    low, high = direction * layout.chunks, (direction + 1) * layout.chunks
    firsts = range(low, high, size)
    for first in firsts[::-1] if backward != (direction == 1) else firsts:
        yield Group(inputs, slice(first, min(first + size, high)), buffer)


def new_buffer(inputs: Inputs) -> Tensor:
    """Room for one value per step and state of a group: (K, G, N, E)."""
    layout, (_, states, channels) = inputs.layout, inputs.A.shape
    size = min(layout.chunks, max(1, GROUP_ELEMENTS // (states * channels)))
    return inputs.dt.new_empty(layout.steps, size, states, channels)


def cross_borders(own: Tensor, through: Tensor, carry: Tensor, out: Tensor, order: range) -> Tensor:
    """What enters each lane, visited in `order`: written to `out` (G, N, E); returns what leaves
    the last one, from each lane's own contribution and what passes through it."""
    for lane in order:
        out[lane] = carry
        carry = torch.addcmul(own[lane], through[lane], carry)
    return carry


def in_both_directions(work: Callable[[int], None]) -> None:
    """Call `work(0)` and `work(1)`, which touch nothing in common, side by side.

    The operations of one direction are small: two threads that each run one direction with half of
    the intra-op threads finish sooner than one thread that splits every operation.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        work(0)
        work(1)
        return

    inference = torch.is_inference_mode_enabled()  # threads do not inherit it

    def alone(direction: int) -> None:
        torch.set_num_threads(max(1, threads // 2))  # of this thread
        # In this order: leaving inference mode turns gradients on.
        with torch.inference_mode(inference), torch.no_grad():
            work(direction)

    with ThreadPoolExecutor(2, "scan-direction") as pool:
        for done in [pool.submit(alone, direction) for direction in (0, 1)]:
            done.result()
    torch.set_num_threads(threads)  # what threads made later start with


def _forward(inputs: Inputs, finals: Tensor | None) -> tuple[Tensor, Tensor]:
    """Outputs (K, W, E) and the states that enter each chunk (W, N, E); fills `finals` (2 S, N, E)
    if given."""
    y = torch.empty_like(inputs.dt)
    entering = y.new_empty(y.shape[1], *inputs.A.shape[1:])
    in_both_directions(lambda direction: _walk(inputs, direction, y, entering, finals))
    return y, entering


def _walk(
    inputs: Inputs, direction: int, y: Tensor, entering: Tensor, finals: Tensor | None
) -> None:
    """One direction of `_forward`."""
    buffer = new_buffer(inputs)
    carry = torch.zeros_like(inputs.A[0])
    for group in groups(inputs, buffer, direction, backward=False):
        here = entering[group.lanes]
        own = group.own_contribution()
        carry = cross_borders(own, group.through, carry, here, group.lane_order)
        ends = {} if finals is None else group.events(inputs.layout.ends)
        h = own.copy_(here)
        C = inputs.C[:, group.lanes, None].unbind(0)
        y_group = y[:, group.lanes, None].unbind(0)
        for k in group.order:
            h.mul_(group.a_at[k]).addcmul_(group.B[k], group.u[k])
            group.inject(h, k)
            torch.bmm(C[k], h, out=y_group[k])
            if k in ends and finals is not None:
                lane, segment = ends[k]
                finals[segment] = h[lane]


class _Scan(torch.autograd.Function):
    """y (2, T, E) and final states (2 S, N, E) from x, dt (2, T, E), A (2, N, E), B, C (2, T,
    N)."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, initial, cu_seqlens, want_finals):
        layout = Layout.of(cu_seqlens, x.shape[1])
        segments = 2 * (cu_seqlens.numel() - 1)
        finals = x.new_zeros(segments, A.shape[1], A.shape[2]) if want_finals else None
        y, entering = _forward(Inputs.cut(layout, x, dt, A, B, C, initial), finals)
        ctx.layout = layout
        ctx.save_for_backward(x, dt, A, B, C, initial, entering)
        return layout.join(y), finals

    @staticmethod
    def backward(ctx, grad_y, grad_finals):  # type: ignore[override]
        from lcframework.ops.bidirectional_scan.chunked_backward import Gradients

        x, dt, A, B, C, initial, entering = ctx.saved_tensors
        layout = ctx.layout
        inputs = Inputs.cut(layout, x, dt, A, B, C, initial)
        work = Gradients(inputs, layout.cut(grad_y), entering, grad_finals)
        work.run()
        dx, ddt, dB, dC = (layout.join(one) for one in (work.dx, work.ddt, work.dB, work.dC))
        return dx, ddt, work.dA, dB, dC, work.d_initial, None, None


def scan_chunked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    initial_states: Tensor | None,
    want_finals: bool,
) -> tuple[Tensor, Tensor | None]:
    """Both directions over packed segments.

    Args:
        x: (2, T, E) inputs, float32 or float64; direction 1 runs backward in time.
        dt: (2, T, E) step sizes, non-negative.
        A: (2, E, N) negative decay rates.
        B: (2, T, N) input maps.
        C: (2, T, N) output maps.
        cu_seqlens: (S+1,) segment borders.
        initial_states: (2, S, E, N) or None for zeros.
        want_finals: whether to return the final states.

    Returns:
        (y (2, T, E), final states (2, S, E, N) or None).
    """
    A_2NE = A.transpose(1, 2).contiguous()
    initial = None
    if initial_states is not None:
        initial = initial_states.transpose(2, 3).flatten(0, 1).contiguous()
    y, finals = applied(_Scan, x, dt, A_2NE, B, C, initial, cu_seqlens, want_finals)
    if finals is not None:
        finals = finals.view(2, -1, *finals.shape[1:]).transpose(2, 3)
    return y, finals
