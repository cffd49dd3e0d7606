"""The short convolutions on the CPU, and their gradients: one channel tile of a piece of the pack.

A block of a segment is copied with the K - 1 tokens before and after it; what lies beyond the
segment is zero, which is what a tap over its border sees.

Legend: T tokens, E channels, K taps, H = K - 1, P pieces.
"""

import numpy as np

from lcframework.ops.cpu.compile import inlined, kernel
from lcframework.ops.cpu.math import sigmoid
from lcframework.ops.cpu.panels import load_flat, load_panel, store_panel
from lcframework.ops.cpu.plan import TILE

BLOCK = 32
"""Tokens computed at once."""


@inlined
def clip(first, size, start, stop):
    """The part of the tokens [first, first + size) inside a segment: (its first, its size)."""
    inside = max(first, start)
    return inside, min(first + size, stop) - inside


@inlined
def load_weights(weight, bias, d, low, high, taps, offset):
    """One direction's (K, TILE) taps and (TILE,) bias."""
    for j in range(taps.shape[0]):
        for e in range(high - low):
            taps[j, e] = weight[d, j, low + e]
    for e in range(high - low):
        offset[e] = bias[d, low + e]


@inlined
def convolve(panel, shift, size, sense, taps, offset, out):
    """out[k] = offset + sum over j of taps[H - j] panel[k + shift - sense j]."""
    for k in range(size):
        for e in range(TILE):
            out[k, e] = offset[e]
        for j in range(taps.shape[0]):
            at, tap = k + shift - sense * j, taps.shape[0] - 1 - j
            for e in range(TILE):
                out[k, e] += taps[tap, e] * panel[at, e]


@kernel
def conv(cut, first, last, x, stride, weight, bias, silu, out):
    """Tasks `first` to `last`: task i is piece i % P of channel tile i // P.

    Args:
        cut: see `lcframework.ops.cpu.plan.Cut`.
        first: first task.
        last: the one after the last.
        x: storage of the input (T, E) from its first element on.
        stride: elements from one of its tokens to the next.
        weight: (2, K, E).
        bias: (2, E).
        silu: whether to activate.
        out: (2, T, E), filled.
    """
    borders, piece_starts, blocks = cut
    K, real, P = weight.shape[1], weight.dtype, piece_starts.size - 1
    H = K - 1
    panel, result = np.empty((BLOCK + 2 * H, TILE), real), np.zeros((BLOCK, TILE), real)
    taps, offset = np.zeros((K, TILE), real), np.zeros(TILE, real)
    for task in range(first, last):
        tile, piece = task // P, task % P
        low = tile * TILE
        high = min(low + TILE, out.shape[2])
        for s in range(piece_starts[piece], piece_starts[piece + 1]):
            start, stop = borders[s], borders[s + 1]
            for block in range(blocks[s + 1] - blocks[s]):
                at = start + block * BLOCK
                size = min(BLOCK, stop - at)
                inside, count = clip(at - H, size + 2 * H, start, stop)
                panel[:] = 0
                load_flat(x, stride, (inside, 1, count, low, high), panel[inside - (at - H) :])
                for d in range(2):
                    load_weights(weight, bias, d, low, high, taps, offset)
                    convolve(panel, H, size, 1 - 2 * d, taps, offset, result)
                    if silu:
                        for k in range(size):
                            for e in range(TILE):
                                result[k, e] *= sigmoid(result[k, e])
                    store_panel(result, (at, 1, size, low, high), out[d])


@kernel
def conv_gradients(cut, first, last, x, stride, weight, bias, silu, dy, dx, d_weight, d_bias):
    """Tasks as in `conv`.

    Args:
        cut, first, last, x, stride, weight, bias, silu: as in `conv`.
        dy: (2, T, E) gradient of the result.
        dx: (T, E), filled.
        d_weight: (P, 2, K, E), filled.
        d_bias: (P, 2, E), filled.
    """
    borders, piece_starts, blocks = cut
    K, real, P = weight.shape[1], weight.dtype, piece_starts.size - 1
    H = K - 1
    one = real.type(1)
    panel, grad = np.empty((BLOCK + 4 * H, TILE), real), np.empty((BLOCK + 2 * H, TILE), real)
    before, total = np.zeros((BLOCK + 2 * H, TILE), real), np.zeros((BLOCK, TILE), real)
    taps, offset = np.zeros((K, TILE), real), np.zeros(TILE, real)
    d_taps, d_offset = np.empty((2, K, TILE), real), np.empty((2, TILE), real)
    for task in range(first, last):
        tile, piece = task // P, task % P
        low = tile * TILE
        high = min(low + TILE, dx.shape[1])
        d_taps[:], d_offset[:] = 0, 0
        for s in range(piece_starts[piece], piece_starts[piece + 1]):
            start, stop = borders[s], borders[s + 1]
            for block in range(blocks[s + 1] - blocks[s]):
                at = start + block * BLOCK
                size = min(BLOCK, stop - at)
                panel[:], total[:] = 0, 0
                inside, count = clip(at - 2 * H, size + 4 * H, start, stop)
                load_flat(x, stride, (inside, 1, count, low, high), panel[inside - (at - 2 * H) :])
                inside, count = clip(at - H, size + 2 * H, start, stop)
                for d in range(2):
                    sense = 1 - 2 * d
                    load_weights(weight, bias, d, low, high, taps, offset)
                    grad[:] = 0
                    load_panel(dy[d], (inside, 1, count, low, high), grad[inside - (at - H) :])
                    if silu:
                        convolve(panel, H, size + 2 * H, sense, taps, offset, before)
                        for k in range(size + 2 * H):
                            for e in range(TILE):
                                gate = sigmoid(before[k, e])
                                grad[k, e] *= gate * (one + before[k, e] * (one - gate))
                    collect(panel, grad, size, sense, taps, total, d_taps[d], d_offset[d])
                store_panel(total, (at, 1, size, low, high), dx)
        for d in range(2):
            for e in range(high - low):
                d_bias[piece, d, low + e] = d_offset[d, e]
            for j in range(K):
                for e in range(high - low):
                    d_weight[piece, d, j, low + e] = d_taps[d, j, e]


@inlined
def collect(panel, grad, size, sense, taps, dx, d_taps, d_offset):
    """One direction's part of the gradients of a block: `grad` starts H, `panel` 2 H before it."""
    H = taps.shape[0] - 1
    for k in range(size):
        for j in range(H + 1):
            there, here, tap = k + H + sense * j, k + 2 * H - sense * j, H - j
            for e in range(TILE):
                dx[k, e] += taps[tap, e] * grad[there, e]
            for e in range(TILE):
                d_taps[tap, e] += grad[k + H, e] * panel[here, e]
        for e in range(TILE):
            d_offset[e] += grad[k + H, e]
