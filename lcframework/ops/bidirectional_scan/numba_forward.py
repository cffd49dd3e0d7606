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
from lcframework.ops.cpu.panels import block_span, load_flat, load_panel, store_panel
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
def load_inputs(x, dt, bias, activate, first, sense, size, low, high, value, step, slope):
    """Panels of x, of the activated step and, where there is room, of the step's derivative.

    Args:
        x, dt: (T, E).
        bias: (TILE,) added to dt.
        activate: whether dt passes softplus.
        first: first token in the direction's time.
        sense: 1 or -1, from one token to the next.
        size: number of tokens.
        low, high: channels.
        value, step: (BLOCK, TILE), filled.
        slope: (BLOCK, TILE), filled where dt is activated; or empty.
    """
    load_panel(x, first, sense, size, low, high, value)
    load_panel(dt, first, sense, size, low, high, step)
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
def advance(B, C, d, first, sense, size, rate, skip, value, step, h, total):
    """`size` steps of the tile's states h; fills `total` (BLOCK, TILE) with outputs and skips."""
    entering = value[0].copy()
    for k in range(size):
        t = first + sense * k
        for e in range(TILE):
            entering[e] = step[k, e] * value[k, e]
            total[k, e] = skip[e] * value[k, e]
        for n in range(h.shape[0]):
            b, c = B[d, t, n], C[d, t, n]
            for e in range(TILE):
                state = exp2(step[k, e] * rate[n, e]) * h[n, e] + entering[e] * b
                h[n, e] = state
                total[k, e] += c * state


@inlined
def add_panel(d, first, sense, size, low, high, total, summed):
    """Add one direction's outputs to `summed`, and what is there to `total`."""
    for k in range(size):
        row = summed[first + sense * k, low:high]
        if d == 1:
            for e in range(row.size):
                total[k, e] += row[e]
        for e in range(row.size):
            row[e] = total[k, e]


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
    total, gate = np.empty((BLOCK, TILE), real), np.zeros((BLOCK, TILE), real)
    no_slope = np.empty((0, TILE), real)
    bias, skip = np.zeros(TILE, real), np.zeros(TILE, real)
    for task in range(first, last):
        tile, piece = task // P, task % P
        low = tile * TILE
        high = min(low + TILE, X.shape[2])
        rate[:], value[:], step[:] = 0, 0, 0  # beyond the last channel they stay so
        for d in range(2):
            sense = 1 - 2 * d
            rate[:, : high - low] = RATE[d, :, low:high]
            bias[: high - low], skip[: high - low] = BIAS[d, low:high], SKIP[d, low:high]
            for s in range(piece_starts[piece], piece_starts[piece + 1]):
                h[:] = 0
                if initial.size > 0:
                    h[:, : high - low] = initial[d, s, :, low:high]
                for block in range(blocks[s + 1] - blocks[s]):
                    at, size = block_span(borders[s], borders[s + 1], d, block, BLOCK)
                    load_inputs(
                        X[d], DT[d], bias, activate, at, sense, size, low, high, value, step,
                        no_slope,
                    )  # fmt: skip
                    if kept.size > 0:
                        kept[d, blocks[s] + block, tile] = h
                    advance(B, C, d, at, sense, size, rate, skip, value, step, h, total)
                    add_panel(d, at, sense, size, low, high, total, summed)
                    if d == 1 and out.size > 0:
                        if z_stride >= 0:
                            load_flat(z, z_stride, at, sense, size, low, high, gate)
                            for k in range(size):
                                for e in range(TILE):
                                    total[k, e] *= gate[k, e] * sigmoid(gate[k, e])
                        store_panel(total, at, sense, size, low, high, out)
                if finals.size > 0:
                    finals[d, s, :, low:high] = h[:, : high - low]
