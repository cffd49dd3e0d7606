"""Kernels of the short depthwise convolutions: both directions read x once.

A program holds ROWS tokens by BE channels at a time, with the taps' neighbours on both sides, over BLOCKS such tiles.
Neighbours of another segment count as zero. Legend: T tokens, E channels, K taps, d direction.
"""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import sigmoid


@triton.jit
def load_around(
    x, stride, room, t, e, inside, T, TAPS: tl.constexpr
):
    """x at tokens t - K + 1 .. t + K - 1 as a tuple of (ROWS, BE) in float32; zero outside the token's segment.

    `room` (2, T) holds how many tokens of the segment lie before and after each token.
    """
    before = tl.load(room + t, mask=t < T, other=0)
    after = tl.load(room + T + t, mask=t < T, other=0)
    out = ()
    for shift in tl.static_range(1 - TAPS, TAPS):
        there = (before >= -shift) & (after >= shift) & (t < T)
        at = (t + shift)[:, None] * stride + e[None, :]
        out = out + (tl.load(x + at, mask=there[:, None] & inside, other=0.0).to(tl.float32),)
    return out, before, after


@triton.jit
def convolve(around, weights, bias, CENTRE: tl.constexpr, SENSE: tl.constexpr, TAPS: tl.constexpr):
    """Sum over taps at the token that lies at index CENTRE of `around`; SENSE 1 looks back in the pack, -1 ahead."""
    total = bias[None, :]
    for k in tl.static_range(TAPS):
        total += weights[k][None, :] * around[CENTRE - SENSE * (TAPS - 1 - k)]
    return total


@triton.jit
def load_weights(weight, d: tl.constexpr, e, E, TAPS: tl.constexpr):
    """The K taps of one direction, vectors over channels, from (2, K, E)."""
    out = ()
    for k in tl.static_range(TAPS):
        out = out + (tl.load(weight + (d * TAPS + k) * E + e, mask=e < E, other=0.0),)
    return out


@triton.jit
def conv_kernel(
    x, weight, bias, room, out, T, E, stride,
    TAPS: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, BE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """out (2, T, E) from x (T, E) with a row stride."""
    t = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = (t < T)[:, None] & (e < E)[None, :]
    around, _, _ = load_around(x, stride, room, t, e, (e < E)[None, :], T, TAPS)
    for d in tl.static_range(2):
        weights = load_weights(weight, d, e, E, TAPS)
        add = tl.load(bias + d * E + e, mask=e < E, other=0.0)
        pre = convolve(around, weights, add, TAPS - 1, 1 - 2 * d, TAPS)
        if SILU:
            pre = pre * sigmoid(pre, FAST)
        at = (t + d * T)[:, None] * E + e[None, :]
        tl.store(out + at, pre.to(out.dtype.element_ty), mask=inside)


@triton.jit
def conv_backward_kernel(
    x, weight, bias, room, dout, dx, d_weight, d_bias, T, E, stride, dx_stride,
    TAPS: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr,
    BE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """dx (T, E) with a row stride, and each program's share of d_weight (programs, 2, K, E) and d_bias (programs, 2, E).

    What a later token's output owes to this one needs that output's own value before the activation: it is computed
    again here from the same neighbours, which reach far enough.
    """
    share = tl.program_id(1)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    real = (e < E)[None, :]
    weights0 = load_weights(weight, 0, e, E, TAPS)
    weights1 = load_weights(weight, 1, e, E, TAPS)
    add0 = tl.load(bias + e, mask=e < E, other=0.0)
    add1 = tl.load(bias + E + e, mask=e < E, other=0.0)
    sums = ()
    for _ in tl.static_range(2 * TAPS + 2):
        sums = sums + (tl.zeros((BE,), tl.float32),)
    for block in range(BLOCKS):
        t = (share.to(tl.int64) * BLOCKS + block) * ROWS + tl.arange(0, ROWS)
        around, before, after = load_around(x, stride, room, t, e, real, T, TAPS)
        total = tl.zeros((ROWS, BE), tl.float32)
        added = ()
        for d in tl.static_range(2):
            for j in tl.static_range(TAPS):
                if d == 0:
                    there = (after >= j) & (t < T)
                    shift = j
                    pre = convolve(around, weights0, add0, TAPS - 1 + j, 1, TAPS)
                    tap = weights0[TAPS - 1 - j]
                else:
                    there = (before >= j) & (t < T)
                    shift = -j
                    pre = convolve(around, weights1, add1, TAPS - 1 - j, -1, TAPS)
                    tap = weights1[TAPS - 1 - j]
                at = (t + shift + d * T)[:, None] * E + e[None, :]
                grad = tl.load(dout + at, mask=there[:, None] & real, other=0.0).to(tl.float32)
                if SILU:
                    s = sigmoid(pre, FAST)
                    grad *= s * (1.0 + pre * (1.0 - s))
                total += tap[None, :] * grad
                if j == 0:
                    for k in tl.static_range(TAPS):
                        neighbour = around[TAPS - 1 - (1 - 2 * d) * (TAPS - 1 - k)]
                        added = added + (tl.sum(grad * neighbour, 0),)
                    added = added + (tl.sum(grad, 0),)
        sums_next = ()
        for k in tl.static_range(2 * TAPS + 2):
            sums_next = sums_next + (sums[k] + added[k],)
        sums = sums_next
        tl.store(
            dx + t[:, None] * dx_stride + e[None, :],
            total.to(dx.dtype.element_ty),
            mask=(t < T)[:, None] & real,
        )
    for d in tl.static_range(2):
        for k in tl.static_range(TAPS):
            row = (share * 2 + d) * TAPS + k
            tl.store(d_weight + row * E + e, sums[d * (TAPS + 1) + k], mask=e < E)
        tl.store(d_bias + (share * 2 + d) * E + e, sums[d * (TAPS + 1) + TAPS], mask=e < E)
