"""The selective scan in PyTorch: chunks of both directions advance together, states are kept at
chunk borders only.

Three passes: each chunk's own contribution to its last state; a short scan over chunk borders; a
replay that writes the outputs. The backward pass recomputes a chunk's states from its border, so
memory stays a small multiple of the input. All exponentials are of non-positive numbers (decays),
nothing is divided by a decay, and a reset is a decay of exactly zero, so neither long sequences nor
extreme steps overflow.

Legend: T tokens, S segments, E channels (innermost), N states, K steps per chunk, c chunks, W = 2 c
    lanes, G lanes of
one group (a group's buffers fit the cache).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.layout import Layout

GROUP_ELEMENTS = 1 << 17
RESET = 3.0e38
"""Stands for an infinite step: times any decay rate below -1e-30 it underflows exp to exactly 0,
without inf * 0."""


@dataclass(frozen=True)
class Group:
    """Some lanes of one direction with everything a step needs, shaped to broadcast over (G, N,
    E)."""

    lanes: slice
    A: Tensor  # (1, N, E)
    decay_step: Tensor  # (K, G, 1, E), RESET at segment starts
    u: Tensor  # (K, G, 1, E) = dt x
    B: Tensor  # (K, G, N, 1)


def _groups(layout: Layout, decay_step: Tensor, A_2NE: Tensor, u: Tensor, B: Tensor) -> list[Group]:
    per_lane = A_2NE.shape[1] * A_2NE.shape[2]
    size = max(1, GROUP_ELEMENTS // per_lane)
    found = []
    for direction in (0, 1):
        for first in range(direction * layout.chunks, (direction + 1) * layout.chunks, size):
            lanes = slice(first, min(first + size, (direction + 1) * layout.chunks))
            found.append(
                Group(
                    lanes,
                    A_2NE[direction, None],
                    decay_step[:, lanes, None],
                    u[:, lanes, None],
                    B[:, lanes, :, None],
                )
            )
    return found


def _resets(layout: Layout, dt: Tensor) -> Tensor:
    """Steps with RESET at segment starts: (K, W, E)."""
    decay_step = dt.clone()
    decay_step[layout.starts.step, layout.starts.lane] = RESET
    return decay_step


def _inject(
    h: Tensor, event: tuple[Tensor, Tensor], dt_k: Tensor, A: Tensor, initial: Tensor
) -> None:
    """Add the decayed initial states of the segments that start at this step to `h` (G, N, E)."""
    lane, segment = event
    h[lane] += torch.exp(dt_k[lane, None] * A) * initial[segment]


def _advance_chunks(
    layout: Layout, groups: list[Group], dt: Tensor, shape: torch.Size, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Each chunk from a zero state: (its last state, the decay of what enters it), both (W, N,
    E)."""
    last, through = dt.new_zeros(shape), dt.new_empty(shape)
    for group in groups:
        h = last[group.lanes]
        a = torch.empty_like(h)
        events = (
            layout.starts.in_lanes(group.lanes.start, group.lanes.stop)
            if initial is not None
            else {}
        )
        for k in range(layout.steps):
            torch.mul(group.decay_step[k], group.A, out=a).exp_()
            h.mul_(a).addcmul_(group.B[k], group.u[k])
            if k in events and initial is not None:
                _inject(h, events[k], dt[k, group.lanes], group.A[0], initial)
        total = group.decay_step.sum(0).clamp_(max=RESET)
        torch.mul(total, group.A, out=through[group.lanes]).exp_()
    return last, through


def _borders(last: Tensor, through: Tensor, chunks: int, backward: bool = False) -> Tensor:
    """State that enters each chunk, from the chunks' own contributions: (W, N, E)."""
    last, through = last.view(2, chunks, *last.shape[1:]), through.view(2, chunks, *last.shape[1:])
    entering = torch.zeros_like(last)
    order = range(chunks - 1, 0, -1) if backward else range(chunks - 1)
    for chunk in order:
        following = chunk - 1 if backward else chunk + 1
        torch.addcmul(
            last[:, chunk], through[:, chunk], entering[:, chunk], out=entering[:, following]
        )
    return entering.view(-1, *last.shape[2:])


def _replay(
    layout: Layout,
    groups: list[Group],
    dt: Tensor,
    C: Tensor,
    entering: Tensor,
    initial: Tensor | None,
    finals: Tensor | None,
) -> Tensor:
    """Outputs (K, W, E) with the true entering states; fills `finals` (2 S, N, E) if given."""
    y = dt.new_empty(dt.shape)
    for group in groups:
        first, stop = group.lanes.start, group.lanes.stop
        h = entering[group.lanes].clone()
        a = torch.empty_like(h)
        starts = layout.starts.in_lanes(first, stop) if initial is not None else {}
        ends = layout.ends.in_lanes(first, stop) if finals is not None else {}
        C_g, y_g = C[:, group.lanes, None], y[:, group.lanes, None]
        for k in range(layout.steps):
            torch.mul(group.decay_step[k], group.A, out=a).exp_()
            h.mul_(a).addcmul_(group.B[k], group.u[k])
            if k in starts and initial is not None:
                _inject(h, starts[k], dt[k, group.lanes], group.A[0], initial)
            torch.bmm(C_g[k], h, out=y_g[k])
            if k in ends and finals is not None:
                lane, segment = ends[k]
                finals[segment] = h[lane]
    return y


class _Scan(torch.autograd.Function):
    """y (2, T, E) and final states (2 S, N, E) from x, dt (2, T, E), A (2, N, E), B, C (2, T,
    N)."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, initial, cu_seqlens, want_finals):
        layout = Layout.of(cu_seqlens, x.shape[1])
        dt_c, B_c, C_c = layout.cut(dt), layout.cut(B), layout.cut(C)
        u = layout.cut(x) * dt_c
        groups = _groups(layout, _resets(layout, dt_c), A, u, B_c)
        shape = torch.Size((2 * layout.chunks, A.shape[1], A.shape[2]))
        last, through = _advance_chunks(layout, groups, dt_c, shape, initial)
        entering = _borders(last, through, layout.chunks)
        segments = 2 * (cu_seqlens.numel() - 1)
        finals = x.new_zeros(segments, A.shape[1], A.shape[2]) if want_finals else None
        y = layout.join(_replay(layout, groups, dt_c, C_c, entering, initial, finals))
        ctx.layout = layout
        ctx.save_for_backward(x, dt, A, B, C, initial, entering)
        return y, finals

    @staticmethod
    def backward(ctx, grad_y, grad_finals):  # type: ignore[override]
        x, dt, A, B, C, initial, entering = ctx.saved_tensors
        layout = ctx.layout
        x_c, dt_c, B_c, C_c = (layout.cut(one) for one in (x, dt, B, C))
        work = _Backward(
            layout, x_c, dt_c, A, B_c, C_c, layout.cut(grad_y), initial, entering, grad_finals
        )
        work.run()
        joined = [layout.join(one) for one in (work.dx, work.ddt, work.dB, work.dC)]
        return joined[0], joined[1], work.dA, joined[2], joined[3], work.d_initial, None, None


class _Backward:
    """The adjoint recurrence g_k = C_k dy_k + a_{k+1} g_{k+1}, chunk by chunk from the last step to
    the first."""

    def __init__(self, layout, x, dt, A, B, C, dy, initial, entering, grad_finals) -> None:
        self.layout, self.x, self.dt, self.A, self.C, self.dy = layout, x, dt, A, C, dy
        self.initial, self.entering, self.grad_finals = initial, entering, grad_finals
        self.groups = _groups(layout, _resets(layout, dt), A, x * dt, B)
        self.dx, self.ddt = torch.empty_like(x), torch.empty_like(dt)
        self.dB, self.dC = torch.empty_like(B), torch.empty_like(C)
        self.dA = torch.zeros_like(A)
        self.d_initial = None if initial is None else torch.zeros_like(initial)

    def run(self) -> None:
        leaving = self._leaving_adjoints()
        for group in self.groups:
            self._group(group, leaving[group.lanes])

    def _add_output(
        self, g: Tensor, group: Group, k: int, ends: dict[int, tuple[Tensor, Tensor]]
    ) -> None:
        """Add what the output and, at segment ends, the final state say about the state after step
        k."""
        g.addcmul_(self.C[k, group.lanes, :, None], self.dy[k, group.lanes, None])
        if k in ends:
            lane, segment = ends[k]
            g[lane] += self.grad_finals[segment]

    def _ends(self, group: Group) -> dict[int, tuple[Tensor, Tensor]]:
        if self.grad_finals is None:
            return {}
        return self.layout.ends.in_lanes(group.lanes.start, group.lanes.stop)

    def _leaving_adjoints(self) -> Tensor:
        """Adjoint of the state that leaves each chunk: (W, N, E)."""
        first = torch.zeros_like(self.entering)
        through = torch.empty_like(first)
        for group in self.groups:
            g, ends = first[group.lanes], self._ends(group)
            a = torch.empty_like(g)
            for k in reversed(range(self.layout.steps)):
                self._add_output(g, group, k, ends)
                g.mul_(torch.mul(group.decay_step[k], group.A, out=a).exp_())
            total = group.decay_step.sum(0).clamp_(max=RESET)
            torch.mul(total, group.A, out=through[group.lanes]).exp_()
        return _borders(first, through, self.layout.chunks, backward=True)

    def _states(self, group: Group) -> tuple[Tensor, Tensor]:
        """Recompute decays and states of every step of a group: (K, G, N, E) and (K + 1, G, N,
        E)."""
        first, stop = group.lanes.start, group.lanes.stop
        a = group.decay_step * group.A
        a.exp_()
        h = a.new_empty(self.layout.steps + 1, *a.shape[1:])
        h[0] = self.entering[group.lanes]
        starts = self.layout.starts.in_lanes(first, stop) if self.initial is not None else {}
        for k in range(self.layout.steps):
            torch.mul(group.B[k], group.u[k], out=h[k + 1]).addcmul_(a[k], h[k])
            if k in starts and self.initial is not None:
                _inject(h[k + 1], starts[k], self.dt[k, group.lanes], group.A[0], self.initial)
        return a, h

    def _group(self, group: Group, g: Tensor) -> None:
        """All gradients of one group; `g` enters as the adjoint of the leaving state."""
        lanes, steps = group.lanes, self.layout.steps
        a, h = self._states(group)
        dt = self.dt[:, lanes, None]
        adjoints = torch.empty_like(a)
        dA = torch.zeros_like(g)
        through_decay = torch.empty_like(g)
        ends = self._ends(group)
        starts = (
            self.layout.starts.in_lanes(lanes.start, lanes.stop) if self.initial is not None else {}
        )
        ddt = self.ddt[:, lanes]
        for k in reversed(range(steps)):
            self._add_output(g, group, k, ends)
            adjoints[k] = g
            g = torch.mul(g, a[k], out=a[k])  # the decays are not needed again: reuse their memory
            torch.mul(g, h[k], out=through_decay)
            dA.addcmul_(through_decay, dt[k])
            torch.sum(through_decay.mul_(group.A), dim=1, out=ddt[k])
            if k in starts:
                self._start_gradients(group, k, starts[k], adjoints[k], dA, ddt[k])
        self.dA[0 if lanes.start < self.layout.chunks else 1] += dA.sum(0)
        flat = (-1, *g.shape[1:])
        self.dC[:, lanes] = torch.bmm(
            h[1:].reshape(flat), self.dy[:, lanes].reshape(-1, g.shape[2], 1)
        ).view(steps, -1, g.shape[1])
        flat_adjoints = adjoints.view(flat)
        u = group.u.reshape(-1, g.shape[2], 1)
        self.dB[:, lanes] = torch.bmm(flat_adjoints, u).view(steps, -1, g.shape[1])
        B = group.B.reshape(-1, 1, g.shape[1])
        du = torch.bmm(B, flat_adjoints).view(steps, -1, g.shape[2])
        torch.mul(du, self.dt[:, lanes], out=self.dx[:, lanes])
        ddt.addcmul_(du, self.x[:, lanes])

    def _start_gradients(
        self, group: Group, k: int, event, adjoint: Tensor, dA: Tensor, ddt_k: Tensor
    ) -> None:
        """Gradients through the initial states of the segments that start at step k."""
        lane, segment = event
        assert self.initial is not None and self.d_initial is not None
        dt = self.dt[k, group.lanes][lane, None]
        carried = torch.exp(dt * group.A[0]) * adjoint[lane]
        self.d_initial[segment] = carried
        weighted = carried * self.initial[segment]
        dA[lane] += weighted * dt
        ddt_k[lane] += (weighted * group.A[0]).sum(1)


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
    y, finals = _Scan.apply(x, dt, A_2NE, B, C, initial, cu_seqlens, want_finals)  # type: ignore[misc]
    if finals is not None:
        finals = finals.view(2, -1, *finals.shape[1:]).transpose(2, 3)
    return y, finals
