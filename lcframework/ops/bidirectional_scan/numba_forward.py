"""The forward scan on the CPU: one channel tile of one piece of the pack, both directions.

Channels are innermost, so that a loop over a tile is a handful of vector instructions; the states
of the tile (16 KB at most for 64 states) stay in the first-level cache while time runs.

Legend: T tokens, S segments, E channels, N states, P pieces; the leading axis of size 2 is the
    direction.
"""

from typing import Any, NamedTuple

import numpy as np

from lcframework.ops.cpu.compile import inlined, kernel
from lcframework.ops.cpu.math import exp2, sigmoid, softplus
from lcframework.ops.cpu.panels import block_span, copy_rows, load_flat, load_panel, store_panel
from lcframework.ops.cpu.plan import TILE

BLOCK = 16
"""Steps between two states that are kept for the backward pass."""


class Given(NamedTuple):
    """Arrays of one call; those of 16 bits hold bfloat16, the others the recurrence's dtype.

    Attributes:
        x, dt: (2, T, E), dt before bias and softplus.
        B, C: (2, T, N).
        rate: (2, N, E) A log2(e).
        bias, skip: (2, E).
        z: the gate's storage from its first element on.
        z_stride: elements from one of its tokens to the next; -1 without a gate.
        initial: (2, S, N, E), or empty.
        softplus: whether to activate dt.
    """

    x: Any
    dt: Any
    B: Any
    C: Any
    rate: Any
    bias: Any
    skip: Any
    z: Any
    z_stride: int
    initial: Any
    softplus: bool


@inlined
def load_parameters(RATE, BIAS, SKIP, d, low, high, rate, bias, skip):
    """One direction's parameters of the tile."""
    copy_rows(RATE[d, :, low:high], rate)
    for e in range(high - low):
        bias[e], skip[e] = BIAS[d, low + e], SKIP[d, low + e]


@inlined
def load_inputs(x, dt, bias, activate, span, value, step, slope):
    """Panels of x (T, E), of the activated dt (T, E) and, where there is room, of the step's
    derivative. `bias` (TILE,) is added to dt."""
    load_panel(x, span, value)
    load_panel(dt, span, step)
    size = span[2]
    for k in range(size):
        for e in range(TILE):
            step[k, e] += bias[e]
    if activate and slope.size > 0:
        for k in range(size):
            for e in range(TILE):
                step[k, e], slope[k, e] = softplus(step[k, e])
    elif activate:
        for k in range(size):
            for e in range(TILE):
                step[k, e] = softplus(step[k, e])[0]


@inlined
def multiply(size, left, right, product):
    """product = left * right, panels."""
    for k in range(size):
        for e in range(TILE):
            product[k, e] = left[k, e] * right[k, e]


@inlined
def advance(B, C, span, rate, skip, value, step, entering, h, total):
    """A block's steps of the states h (N, TILE); outputs and skips into the panel `total`."""
    first, sense, size, _, _ = span
    multiply(size, step, value, entering)
    for k in range(size):
        t = first + sense * k
        for e in range(TILE):
            total[k, e] = skip[e] * value[k, e]
        for n in range(h.shape[0]):
            b, c = B[t, n], C[t, n]
            for e in range(TILE):
                state = exp2(step[k, e] * rate[n, e]) * h[n, e] + entering[k, e] * b
                h[n, e] = state
                total[k, e] += c * state


@inlined
def add_panel(d, span, total, summed):
    """Add one direction's outputs to `summed` (T, E), and what is there to `total`."""
    first, sense, size, low, high = span
    for k in range(size):
        row = summed[first + sense * k, low:high]
        if d == 1:
            for e in range(row.size):
                total[k, e] += row[e]
        for e in range(row.size):
            row[e] = total[k, e]


@inlined
def apply_gate(size, gate, total):
    """total *= silu(gate), panels."""
    for k in range(size):
        for e in range(TILE):
            total[k, e] *= gate[k, e] * sigmoid(gate[k, e])


@kernel
def scan(cut, first, last, given, summed, out, kept, finals):
    """Tasks `first` to `last`: task i is piece i % P of channel tile i // P.

    Args:
        cut: see `lcframework.ops.cpu.plan.Cut`.
        first: first task.
        last: the one after the last.
        given: see `Given`.
        summed: (T, E) filled with the sum of both directions and their skips.
        out: (T, E) filled with `summed` gated, in the dtype of x; it may be `summed`; or empty.
        kept: (2, blocks, tiles, N, TILE) filled with the state before each block; or empty.
        finals: (2, S, N, E) filled with the states after each last step; or empty.
    """
    X, DT, B, C, RATE, BIAS, SKIP, z, z_stride, initial, activate = given
    borders, piece_starts, blocks = cut
    N, real, P = RATE.shape[1], RATE.dtype, piece_starts.size - 1
    h, rate = np.empty((N, TILE), real), np.empty((N, TILE), real)
    value, step = np.empty((BLOCK, TILE), real), np.empty((BLOCK, TILE), real)
    entering, no_slope = np.empty((BLOCK, TILE), real), np.empty((0, TILE), real)
    total, gate = np.empty((BLOCK, TILE), real), np.zeros((BLOCK, TILE), real)
    bias, skip = np.zeros(TILE, real), np.zeros(TILE, real)
    for task in range(first, last):
        tile, piece = task // P, task % P
        low = tile * TILE
        high = min(low + TILE, X.shape[2])
        rate[:], value[:], step[:] = 0, 0, 0  # beyond the last channel too
        for d in range(2):
            load_parameters(RATE, BIAS, SKIP, d, low, high, rate, bias, skip)
            for s in range(piece_starts[piece], piece_starts[piece + 1]):
                h[:] = 0
                if initial.size > 0:
                    copy_rows(initial[d, s, :, low:high], h)
                for block in range(blocks[s + 1] - blocks[s]):
                    at, size = block_span(borders[s], borders[s + 1], d, block, BLOCK)
                    span = at, 1 - 2 * d, size, low, high
                    load_inputs(X[d], DT[d], bias, activate, span, value, step, no_slope)
                    if kept.size > 0:
                        copy_rows(h, kept[d, blocks[s] + block, tile])
                    advance(B[d], C[d], span, rate, skip, value, step, entering, h, total)
                    add_panel(d, span, total, summed)
                    if d == 1 and out.size > 0:
                        if z_stride >= 0:
                            load_flat(z, z_stride, span, gate)
                            apply_gate(size, gate, total)
                        store_panel(total, span, out)
                if finals.size > 0:
                    copy_rows(h, finals[d, s, :, low:high])
