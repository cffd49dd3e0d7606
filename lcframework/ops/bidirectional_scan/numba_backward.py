"""Gradients of the scan on the CPU: blocks from the last to the first, each replayed from its kept
state. Legend as in `numba_forward`.

The adjoint of a state is g_k = C_k dy_k + a_{k+1} g_{k+1}.
"""

from typing import Any, NamedTuple

import numpy as np

from lcframework.ops.bidirectional_scan.numba_forward import (
    BLOCK,
    load_inputs,
    load_parameters,
    multiply,
)
from lcframework.ops.cpu.compile import inlined, kernel
from lcframework.ops.cpu.math import LN_2, exp2, sigmoid
from lcframework.ops.cpu.panels import block_span, copy_rows, load_flat, load_panel, store_panel
from lcframework.ops.cpu.plan import TILE


class Wanted(NamedTuple):
    """Arrays that the kernel fills; sums over time are per piece, sums over channels per tile.

    Attributes:
        x, dt: (2, T, E).
        z: (T, E), or empty without a gate.
        B, C: (tiles, 2, T, N).
        A: (P, 2, N, E).
        bias, skip: (P, 2, E).
        initial: (2, S, N, E), or empty.
    """

    x: Any
    dt: Any
    z: Any
    B: Any
    C: Any
    A: Any
    bias: Any
    skip: Any
    initial: Any


@inlined
def gate_gradient(gate, summed, dy, dz):
    """Panels: the gradient before the gate silu(z) into `dy`, and of z into `dz`."""
    for k in range(BLOCK):
        for e in range(TILE):
            z, s = gate[k, e], sigmoid(gate[k, e])
            dz[k, e] = dy[k, e] * summed[k, e] * (s + z * (s - s * s))
            dy[k, e] *= z * s


@inlined
def replay(B, span, rate, step, entering, decays, states):
    """Decays (BLOCK, N, TILE) of a block and its states (BLOCK + 1, N, TILE), the first given."""
    first, sense, size, _, _ = span
    for k in range(size):
        t = first + sense * k
        for n in range(rate.shape[0]):
            b = B[t, n]
            for e in range(TILE):
                a = exp2(step[k, e] * rate[n, e])
                decays[k, n, e] = a
                states[k + 1, n, e] = a * states[k, n, e] + entering[k, e] * b


@inlined
def retreat(B, C, t, k, rate, step, entering, dy, decays, states, g, dA, du, dstep, dB, dC):
    """The adjoints g (N, TILE) one step back; gradients of that step. `dA` accumulates; `dstep`
    lacks the factor ln 2."""
    du[:], dstep[:] = 0, 0
    for n in range(g.shape[0]):
        b, c = B[t, n], C[t, n]
        sum_b, sum_c = dA.dtype.type(0), dA.dtype.type(0)
        for e in range(TILE):
            adjoint = g[n, e] + c * dy[k, e]
            sum_c += states[k + 1, n, e] * dy[k, e]
            sum_b += adjoint * entering[k, e]
            du[e] += adjoint * b
            adjoint *= decays[k, n, e]
            g[n, e] = adjoint
            through_decay = adjoint * states[k, n, e]
            dA[n, e] += through_decay * step[k, e]
            dstep[e] += through_decay * rate[n, e]
        dB[t, n], dC[t, n] = sum_b, sum_c


@inlined
def step_gradients(k, skip, value, step, slope, dy, du, dstep, d_skip, d_bias):
    """Replace x by dx and the step by the gradient of dt in row k of `value` and `step`."""
    ln_2 = du.dtype.type(LN_2)
    for e in range(TILE):
        x = value[k, e]
        value[k, e] = du[e] * step[k, e] + skip[e] * dy[k, e]
        step[k, e] = (du[e] * x + dstep[e] * ln_2) * slope[k, e]
        d_skip[e] += dy[k, e] * x
        d_bias[e] += step[k, e]


@kernel
def scan_gradients(cut, first, last, given, dy, summed, kept, d_finals, wanted):
    """Tasks `first` to `last`, as in `numba_forward.scan`.

    Args:
        cut: see `lcframework.ops.cpu.plan.Cut`.
        first: first task.
        last: the one after the last.
        given: see `Given`.
        dy: (T, E) gradient of the gated sum.
        summed: (T, E) the sum before the gate; or empty without a gate.
        kept: (2, blocks, tiles, N, TILE) the state before each block.
        d_finals: (2, S, N, E) gradient of the final states; or empty.
        wanted: see `Wanted`.
    """
    X, DT, B, C, RATE, BIAS, SKIP, z, z_stride, _, activate = given
    borders, piece_starts, blocks = cut
    d_X, d_DT, d_Z, d_B, d_C, d_A, d_BIAS, d_SKIP, d_initial = wanted
    N, real, P = RATE.shape[1], RATE.dtype, piece_starts.size - 1
    g, rate, dA = np.empty((N, TILE), real), np.empty((N, TILE), real), np.empty((N, TILE), real)
    decays, states = np.empty((BLOCK, N, TILE), real), np.empty((BLOCK + 1, N, TILE), real)
    value, step = np.empty((BLOCK, TILE), real), np.empty((BLOCK, TILE), real)
    slope, entering = np.ones((BLOCK, TILE), real), np.zeros((BLOCK, TILE), real)
    out, gate = np.zeros((BLOCK, TILE), real), np.zeros((BLOCK, TILE), real)
    ungated, dz = np.zeros((BLOCK, TILE), real), np.zeros((BLOCK, TILE), real)
    # One allocation each: loops over rows of a common one are not vectorised.
    bias, skip = np.zeros(TILE, real), np.zeros(TILE, real)
    d_bias, d_skip = np.empty(TILE, real), np.empty(TILE, real)
    du, dstep = np.empty(TILE, real), np.empty(TILE, real)
    for task in range(first, last):
        tile, piece = task // P, task % P
        low = tile * TILE
        high = min(low + TILE, X.shape[2])
        rate[:], value[:], step[:], out[:] = 0, 0, 0, 0  # beyond the last channel too
        for d in range(2):
            sense = 1 - 2 * d
            load_parameters(RATE, BIAS, SKIP, d, low, high, rate, bias, skip)
            dA[:], d_bias[:], d_skip[:] = 0, 0, 0
            for s in range(piece_starts[piece], piece_starts[piece + 1]):
                g[:] = 0
                if d_finals.size > 0:
                    copy_rows(d_finals[d, s, :, low:high], g)
                for block in range(blocks[s + 1] - blocks[s] - 1, -1, -1):
                    at, size = block_span(borders[s], borders[s + 1], d, block, BLOCK)
                    span = at, sense, size, low, high
                    load_inputs(X[d], DT[d], bias, activate, span, value, step, slope)
                    load_panel(dy, span, out)
                    if z_stride >= 0:
                        load_flat(z, z_stride, span, gate)
                        load_panel(summed, span, ungated)
                        gate_gradient(gate, ungated, out, dz)
                        if d == 0:
                            store_panel(dz, span, d_Z)
                    multiply(size, step, value, entering)
                    copy_rows(kept[d, blocks[s] + block, tile], states[0])
                    replay(B[d], span, rate, step, entering, decays, states)
                    for k in range(size - 1, -1, -1):
                        retreat(
                            B[d], C[d], at + sense * k, k, rate, step, entering, out, decays,
                            states, g, dA, du, dstep, d_B[tile, d], d_C[tile, d],
                        )  # fmt: skip
                        step_gradients(k, skip, value, step, slope, out, du, dstep, d_skip, d_bias)
                    store_panel(value, span, d_X[d])
                    store_panel(step, span, d_DT[d])
                if d_initial.size > 0:
                    copy_rows(g, d_initial[d, s, :, low:high])
            copy_rows(dA, d_A[piece, d, :, low:high])
            for e in range(high - low):
                d_BIAS[piece, d, low + e], d_SKIP[piece, d, low + e] = d_bias[e], d_skip[e]
