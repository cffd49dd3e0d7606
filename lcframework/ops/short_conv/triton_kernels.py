"""Kernels of the short depthwise convolutions: both directions read x once.

Neighbours of another segment count as zero. Legend: T tokens, E channels, K taps, d direction.
"""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import sigmoid


@triton.jit
def load_around(x, stride, room, t, e, inside, T, TAPS: tl.constexpr):
    """x at tokens t - K + 1 .. t + K - 1 as a tuple of (ROWS, BE) in float32; zero outside the
    token's segment.

    `room` (2, T) holds how many tokens of the segment lie before and after each token.
    """
    before = tl.load(room + t, mask=t < T, other=0)
    after = tl.load(room + T + t, mask=t < T, other=0)
    out = ()
    for shift in tl.static_range(1 - TAPS, TAPS):
        there = (before >= -shift) & (after >= shift) & (t < T)
        at = (t + shift)[:, None] * stride + e[None, :]
        out = out + (tl.load(x + at, mask=there[:, None] & inside, other=0.0).to(tl.float32),)
    return out


@triton.jit
def convolve(around, weights, bias, CENTRE: tl.constexpr, SENSE: tl.constexpr, TAPS: tl.constexpr):
    """Sum over taps at the token that lies at index CENTRE of `around`; SENSE 1 looks back in the
    pack, -1 ahead."""
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


@triton.jit(do_not_specialize=["T"])
def conv_kernel(
    x, weight, bias, room, out, T, E, stride,
    TAPS: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, BE: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """out (2, T, E) from x (T, E) with a row stride."""
    t = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = (t < T)[:, None] & (e < E)[None, :]
    around = load_around(x, stride, room, t, e, (e < E)[None, :], T, TAPS)
    for d in tl.static_range(2):
        weights = load_weights(weight, d, e, E, TAPS)
        add = tl.load(bias + d * E + e, mask=e < E, other=0.0)
        pre = convolve(around, weights, add, TAPS - 1, 1 - 2 * d, TAPS)
        if SILU:
            pre = pre * sigmoid(pre, FAST)
        at = (t + d * T)[:, None] * E + e[None, :]
        tl.store(out + at, pre.to(out.dtype.element_ty), mask=inside)


@triton.jit
def shifted(window, value, LENGTH: tl.constexpr):
    """`value` in front of a window of the LENGTH last values, newest first."""
    out = (value,)
    for j in tl.static_range(LENGTH - 1):
        out = out + (window[j],)
    return out


@triton.jit
def slope_of(pre, SILU: tl.constexpr, FAST: tl.constexpr):
    """Derivative of the activation before which the value was `pre`."""
    if SILU:
        s = sigmoid(pre, FAST)
        return s * (1.0 + pre * (1.0 - s))
    else:
        return pre * 0.0 + 1.0


@triton.jit(do_not_specialize=["T"])
def conv_backward_kernel(
    x, weight, bias, room, dout, dx, d_weight, d_bias, T, E, stride, dx_stride,
    TAPS: tl.constexpr, SILU: tl.constexpr, CHUNK: tl.constexpr, BE: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """dx (T, E) with a row stride, and each program's share of d_weight (programs, 2, K, E) and
    d_bias (programs, 2, E).

    Walks over CHUNK tokens with the last values in registers. At token t the forward direction's
    gradient before the activation is known for t, the backward direction's for s = t - (K - 1),
    whose neighbours ahead have been seen by then; both are known for all that dx[s] needs."""
    share = tl.program_id(1)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = e < E
    w0 = load_weights(weight, 0, e, E, TAPS)
    w1 = load_weights(weight, 1, e, E, TAPS)
    add0 = tl.load(bias + e, mask=inside, other=0.0)
    add1 = tl.load(bias + E + e, mask=inside, other=0.0)
    zero = add0 * 0.0
    seen = ()
    for _ in tl.static_range(2 * TAPS - 1):
        seen = seen + (zero,)
    dw0 = ()
    dw1 = ()
    g0 = ()
    g1 = ()
    for _ in tl.static_range(TAPS):
        dw0 = dw0 + (zero,)
        dw1 = dw1 + (zero,)
        g0 = g0 + (zero,)
        g1 = g1 + (zero,)
    db0 = zero
    db1 = zero
    low = share.to(tl.int64) * CHUNK
    high = tl.minimum(low + CHUNK, T)
    t = low - (TAPS - 1)
    x_next = tl.load(x + t * stride + e, mask=inside & (t >= 0), other=0.0)
    for _ in range(CHUNK + 2 * TAPS - 2):
        s = t - (TAPS - 1)
        seen = shifted(seen, x_next.to(tl.float32), 2 * TAPS - 1)
        here = (t >= low) & (t < T)
        there = (s >= 0) & (s < T)
        x_next = tl.load(
            x + (t + 1) * stride + e, mask=inside & (t + 1 >= 0) & (t + 1 < T), other=0.0
        )
        grad0 = tl.load(dout + t * E + e, mask=inside & here, other=0.0).to(tl.float32)
        grad1 = tl.load(dout + (s + T) * E + e, mask=inside & there, other=0.0).to(tl.float32)
        before_t = tl.load(room + t, mask=here, other=0)
        before_s = tl.load(room + s, mask=there, other=0)
        after_s = tl.load(room + T + s, mask=there, other=0)
        pre0 = add0
        pre1 = add1
        for j in tl.static_range(TAPS):
            pre0 += w0[TAPS - 1 - j] * tl.where(before_t >= j, seen[j], 0.0)
            pre1 += w1[TAPS - 1 - j] * tl.where(after_s >= j, seen[TAPS - 1 - j], 0.0)
        grad0 *= slope_of(pre0, SILU, FAST)
        grad1 *= slope_of(pre1, SILU, FAST)
        # A token of the neighbouring chunk counts for dx here and for the weights there.
        own0 = tl.where(t < high, grad0, 0.0)
        own1 = tl.where(s >= low, grad1, 0.0)
        db0 += own0
        db1 += own1
        sums0 = ()
        sums1 = ()
        for k in tl.static_range(TAPS):
            sums0 = sums0 + (
                dw0[k] + own0 * tl.where(before_t >= TAPS - 1 - k, seen[TAPS - 1 - k], 0.0),
            )
            sums1 = sums1 + (dw1[k] + own1 * tl.where(after_s >= TAPS - 1 - k, seen[k], 0.0),)
        dw0 = sums0
        dw1 = sums1
        g0 = shifted(g0, grad0, TAPS)
        g1 = shifted(g1, grad1, TAPS)
        total = zero
        for j in tl.static_range(TAPS):
            total += w0[TAPS - 1 - j] * tl.where(after_s >= j, g0[TAPS - 1 - j], 0.0)
            total += w1[TAPS - 1 - j] * tl.where(before_s >= j, g1[j], 0.0)
        mine = inside & (s >= low) & (s < high)
        tl.store(dx + s * dx_stride + e, total.to(dx.dtype.element_ty), mask=mine)
        t += 1
    for k in tl.static_range(TAPS):
        tl.store(d_weight + (share * 2 * TAPS + k) * E + e, dw0[k], mask=inside)
        tl.store(d_weight + ((share * 2 + 1) * TAPS + k) * E + e, dw1[k], mask=inside)
    tl.store(d_bias + share * 2 * E + e, db0, mask=inside)
    tl.store(d_bias + (share * 2 + 1) * E + e, db1, mask=inside)
