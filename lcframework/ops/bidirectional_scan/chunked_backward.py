"""Gradients of the chunked scan: the adjoint recurrence g_k = C_k dy_k + a_{k+1} g_{k+1}, group by
group from the last step to the first. Legend as in `chunked`."""

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.chunked import (
    Group,
    Inputs,
    LaneEvents,
    cross_borders,
    groups,
    in_both_directions,
    new_buffer,
)


class Gradients:
    """All gradients of one call, in the cut layout.

    Args:
        inputs: the cut of the call.
        dy: (K, W, E).
        entering: (W, N, E) states that enter each chunk, from the forward pass.
        grad_finals: (2 S, N, E) or None.

    Attributes:
        dx, ddt: (K, W, E).
        dB, dC: (K, W, N).
        dA: (2, N, E).
        d_initial: (2 S, N, E) or None.
    """

    def __init__(
        self, inputs: Inputs, dy: Tensor, entering: Tensor, grad_finals: Tensor | None
    ) -> None:
        self.inputs, self.dy, self.entering, self.grad_finals = inputs, dy, entering, grad_finals
        self.dx, self.ddt = torch.empty_like(inputs.x), torch.empty_like(inputs.dt)
        self.dB, self.dC = torch.empty_like(inputs.B), torch.empty_like(inputs.C)
        self.dA = torch.zeros_like(inputs.A)
        self.d_initial = None if inputs.initial is None else torch.zeros_like(inputs.initial)

    def run(self) -> None:
        """Fill every gradient."""
        in_both_directions(self._walk)

    def _walk(self, direction: int) -> None:
        """One direction of `run`."""
        decays = new_buffer(self.inputs)
        adjoints = torch.empty_like(decays)
        states = decays.new_empty(decays.shape[0] + 1, *decays.shape[1:])
        carry = torch.zeros_like(self.dA[0])
        for group in groups(self.inputs, decays, direction, backward=True):
            lanes = group.a.shape[1]
            ends = {} if self.grad_finals is None else group.events(self.inputs.layout.ends)
            leaving = torch.empty_like(group.through)
            own = self._own_adjoint(group, ends)
            order = group.lane_order[::-1]
            carry = cross_borders(own, group.through, carry, leaving, order)
            before, after = self._replay_states(group, states[:, :lanes])
            g = adjoints[:, :lanes]
            self.dA[direction] += self._recurrence(group, leaving, before, g, ends)
            self._products(group, after, g)

    def _outputs(self, group: Group) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """K views of C (G, N, 1) and of dy (G, 1, E)."""
        C = self.inputs.C[:, group.lanes, :, None].unbind(0)
        return C, self.dy[:, group.lanes, None].unbind(0)

    def _add_final(self, g: Tensor, k: int, ends: LaneEvents) -> None:
        """Add what the final states of the segments that end at step k say about their states."""
        if k in ends:
            assert self.grad_finals is not None
            lane, segment = ends[k]
            g[lane] += self.grad_finals[segment]

    def _own_adjoint(self, group: Group, ends: LaneEvents) -> Tensor:
        """Adjoint of the state that enters each chunk when nothing is known of later ones."""
        g = torch.zeros_like(group.through)
        C, dy = self._outputs(group)
        for k in reversed(group.order):
            g.addcmul_(C[k], dy[k])
            self._add_final(g, k, ends)
            g.mul_(group.a_at[k])
        return g

    def _replay_states(self, group: Group, h: Tensor) -> tuple[Tensor, Tensor]:
        """Recompute the states into `h` (K + 1, G, N, E): views of those before and after each
        step."""
        first, before, after = 0, h[:-1], h[1:]
        if group.order[0] > 0:
            first, before, after = -1, after, before
        h[first] = self.entering[group.lanes]
        before_at, after_at = before.unbind(0), after.unbind(0)
        for k in group.order:
            torch.mul(group.a_at[k], before_at[k], out=after_at[k])
            after_at[k].addcmul_(group.B[k], group.u[k])
            group.inject(after_at[k], k)
        return before, after

    def _recurrence(
        self, group: Group, leaving: Tensor, h: Tensor, adjoints: Tensor, ends: LaneEvents
    ) -> Tensor:
        """Run the adjoint recurrence into `adjoints` (K, G, N, E); the part of ddt that goes
        through the decays is written to `ddt`; returns dA (N, E) of this group. Destroys the
        decays."""
        dA, through_decay = torch.zeros_like(leaving), torch.empty_like(leaving)
        dt, ddt = group.dt[:, :, None].unbind(0), self.ddt[:, group.lanes].unbind(0)
        C, dy = self._outputs(group)
        g_at, h_at = adjoints.unbind(0), h.unbind(0)
        arriving = leaving
        for k in reversed(group.order):
            torch.addcmul(arriving, C[k], dy[k], out=g_at[k])
            self._add_final(g_at[k], k, ends)
            arriving = torch.mul(g_at[k], group.a_at[k], out=group.a_at[k])
            torch.mul(arriving, h_at[k], out=through_decay)
            dA.addcmul_(through_decay, dt[k])
            torch.sum(through_decay.mul_(group.A), dim=1, out=ddt[k])
            if k in group.starts:
                self._start_gradients(group, k, g_at[k], dA, ddt[k])
        return dA.sum(0)

    def _start_gradients(
        self, group: Group, k: int, adjoint: Tensor, dA: Tensor, ddt_k: Tensor
    ) -> None:
        """Gradients through the initial states of the segments that start at step k."""
        assert self.inputs.initial is not None and self.d_initial is not None
        lane, segment = group.starts[k]
        dt = group.dt[k, lane, None]
        carried = torch.exp(dt * group.A) * adjoint[lane]
        self.d_initial[segment] = carried
        weighted = carried * self.inputs.initial[segment]
        dA[lane] += weighted * dt
        ddt_k[lane] += (weighted * group.A).sum(1)

    def _products(self, group: Group, h: Tensor, adjoints: Tensor) -> None:
        """Gradients that are products with states or adjoints, (K, G, N, E) each."""
        lanes = group.lanes
        weighted = torch.empty_like(h[0])  # multiply and sum: a bmm of this shape is 5x slower
        _, dy = self._outputs(group)
        dB, dC = self.dB[:, lanes].unbind(0), self.dC[:, lanes].unbind(0)
        du = group.dt.new_empty(h.shape[0], h.shape[1], 1, h.shape[3])
        for k, (h_k, g_k, du_k) in enumerate(
            zip(h.unbind(0), adjoints.unbind(0), du.unbind(0), strict=True)
        ):
            torch.sum(torch.mul(h_k, dy[k], out=weighted), dim=2, out=dC[k])
            torch.sum(torch.mul(g_k, group.u[k], out=weighted), dim=2, out=dB[k])
            torch.bmm(group.B[k].transpose(1, 2), g_k, out=du_k)
        du = du[:, :, 0]
        torch.mul(du, group.dt, out=self.dx[:, lanes])
        self.ddt[:, lanes].addcmul_(du, self.inputs.x[:, lanes])
