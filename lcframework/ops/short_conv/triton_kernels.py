"""Kernels of the short depthwise convolutions: both directions read x once.

Neighbours of another segment count as zero. `room` (2, T) holds how many tokens of the segment lie
before and after each token; rows that lie far enough from all borders are computed without masks.

Legend: T tokens, E channels, K taps, d direction; names ending in 0 look back in the pack, in 1
ahead.
"""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import sigmoid


@triton.jit
def load_weights(weight, d: tl.constexpr, e, E, TAPS: tl.constexpr):
    """The K taps of one direction, vectors over channels, from (2, K, E)."""
    out = ()
    for k in tl.static_range(TAPS):
        out = out + (tl.load(weight + (d * TAPS + k) * E + e, mask=e < E, other=0.0),)
    return out


@triton.jit
def load_rows(p, stride, low, e, inside, T, COUNT: tl.constexpr):
    """Rows low .. low + COUNT - 1 as a tuple of vectors over channels in float32, zero outside the
    pack."""
    out = ()
    for r in tl.static_range(COUNT):
        there = inside & (low + r >= 0) & (low + r < T)
        out = out + (tl.load(p + (low + r) * stride + e, mask=there, other=0.0).to(tl.float32),)
    return out


@triton.jit
def weighted(
    total, weights, rows, CENTRE: tl.constexpr, SENSE: tl.constexpr, near, TAPS: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """total + sum over j of weights[K - 1 - j] rows[CENTRE + SENSE j]; MASKED: for j <= near
    only."""
    for j in tl.static_range(TAPS):
        row = rows[CENTRE + SENSE * j]
        if MASKED:
            row = tl.where(near >= j, row, 0.0)
        total += weights[TAPS - 1 - j] * row
    return total


@triton.jit
def store_convolved(
    out, rows, weights0, weights1, add0, add1, room, t, e, inside, T, E,
    TAPS: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, FAST: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Both convolutions of ROWS tokens from `t` on, `rows` starting K - 1 before."""
    for r in tl.static_range(ROWS):
        before = t * 0
        after = t * 0
        live = inside
        if MASKED:
            live = inside & (t + r < T)
            before = tl.load(room + t + r, mask=t + r < T, other=0)
            after = tl.load(room + T + t + r, mask=t + r < T, other=0)
        pre0 = weighted(add0, weights0, rows, TAPS - 1 + r, -1, before, TAPS, MASKED)
        pre1 = weighted(add1, weights1, rows, TAPS - 1 + r, 1, after, TAPS, MASKED)
        if SILU:
            pre0 = pre0 * sigmoid(pre0, FAST)
            pre1 = pre1 * sigmoid(pre1, FAST)
        tl.store(out + (t + r) * E + e, pre0.to(out.dtype.element_ty), mask=live)
        tl.store(out + (t + r + T) * E + e, pre1.to(out.dtype.element_ty), mask=live)


@triton.jit
def within_segment(room, low, high, T):
    """Whether the rows low .. high - 1 lie in one segment."""
    last = high - 1
    return (last < T) & (tl.load(room + last, mask=last < T, other=0) >= last - low)


@triton.jit(do_not_specialize=["T"])
def conv_kernel(
    x, weight, bias, room, out, T, E, stride,
    TAPS: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, BE: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """out (2, T, E) from x (T, E) with a row stride."""
    t = tl.program_id(1).to(tl.int64) * ROWS
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = e < E
    rows = load_rows(x, stride, t - (TAPS - 1), e, inside, T, ROWS + 2 * TAPS - 2)
    weights0 = load_weights(weight, 0, e, E, TAPS)
    weights1 = load_weights(weight, 1, e, E, TAPS)
    add0 = tl.load(bias + e, mask=inside, other=0.0)
    add1 = tl.load(bias + E + e, mask=inside, other=0.0)
    if within_segment(room, t - (TAPS - 1), t + ROWS + TAPS - 1, T):
        store_convolved(
            out, rows, weights0, weights1, add0, add1, room, t, e, inside, T, E,
            TAPS, SILU, ROWS, FAST, False,
        )  # fmt: skip
    else:
        store_convolved(
            out, rows, weights0, weights1, add0, add1, room, t, e, inside, T, E,
            TAPS, SILU, ROWS, FAST, True,
        )  # fmt: skip


@triton.jit
def slope_of(pre, SILU: tl.constexpr, FAST: tl.constexpr):
    """Derivative of the activation before which the value was `pre`."""
    if SILU:
        s = sigmoid(pre, FAST)
        return s * (1.0 + pre * (1.0 - s))
    else:
        return pre * 0.0 + 1.0


@triton.jit
def repeated(value, COUNT: tl.constexpr):
    """`value`, COUNT times."""
    out = ()
    for _ in tl.static_range(COUNT):
        out = out + (value,)
    return out


@triton.jit
def tail(rows, COUNT: tl.constexpr):
    """The last COUNT of a tuple."""
    out = ()
    for r in tl.static_range(COUNT):
        out = out + (rows[len(rows) - COUNT + r],)
    return out


@triton.jit
def grads_before_activation(
    rows, grads, weights, add, room_at, t, T, FIRST: tl.constexpr, SENSE: tl.constexpr,
    TAPS: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, FAST: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Gradients before the activation of ROWS tokens from `t` on, and how many neighbours each may
    use, two tuples; `rows[FIRST]` is token t's."""
    out = ()
    nears = ()
    for r in tl.static_range(ROWS):
        near = (t * 0).to(tl.int32)
        if MASKED:
            near = tl.load(room_at + t + r, mask=(t + r >= 0) & (t + r < T), other=0)
        pre = weighted(add, weights, rows, FIRST + r, SENSE, near, TAPS, MASKED)
        out = out + (grads[r] * slope_of(pre, SILU, FAST),)
        nears = nears + (near,)
    return out, nears


@triton.jit
def add_tap_sums(
    sums, total, rows, grads, nears, t, low, high, FIRST: tl.constexpr, SENSE: tl.constexpr,
    TAPS: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Gradients of taps and bias, plus what the tokens t .. t + ROWS - 1 from low .. high - 1
    give."""
    for r in tl.static_range(ROWS):
        own = tl.where((t + r >= low) & (t + r < high), grads[r], 0.0)
        total += own
        after = ()
        for k in tl.static_range(TAPS):
            row = rows[FIRST + r + SENSE * (TAPS - 1 - k)]
            if MASKED:
                row = tl.where(nears[r] >= TAPS - 1 - k, row, 0.0)
            after = after + (sums[k] + own * row,)
        sums = after
    return sums, total


@triton.jit
def backward_rows(
    x_rows, grads0, grads1, g0, g1, dw0, dw1, db0, db1, w0, w1, add0, add1, room, dx, t, low, high,
    e, inside, T, dx_stride,
    TAPS: tl.constexpr, SILU: tl.constexpr, ROWS: tl.constexpr, FAST: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """ROWS tokens of the backward walk; see `conv_backward_kernel`. `g0` and `g1` are the K - 1
    gradients before."""
    K1: tl.constexpr = TAPS - 1
    s = t - K1
    new0, nears0 = grads_before_activation(
        x_rows, grads0, w0, add0, room, t, T, K1, -1, TAPS, SILU, ROWS, FAST, MASKED
    )
    new1, nears1 = grads_before_activation(
        x_rows, grads1, w1, add1, room + T, s, T, 0, 1, TAPS, SILU, ROWS, FAST, MASKED
    )
    # A token of the neighbouring chunk counts for dx here and for the weights there.
    dw0, db0 = add_tap_sums(
        dw0, db0, x_rows, new0, nears0, t, low, high, K1, -1, TAPS, ROWS, MASKED
    )
    dw1, db1 = add_tap_sums(dw1, db1, x_rows, new1, nears1, s, low, high, 0, 1, TAPS, ROWS, MASKED)
    all0 = g0 + new0
    all1 = g1 + new1
    for r in tl.static_range(ROWS):
        before = (t * 0).to(tl.int32)
        if MASKED:
            before = tl.load(room + s + r, mask=(s + r >= 0) & (s + r < T), other=0)
        total = weighted(add0 * 0.0, w0, all0, r, 1, nears1[r], TAPS, MASKED)
        total = weighted(total, w1, all1, r + K1, -1, before, TAPS, MASKED)
        mine = inside & (s + r >= low) & (s + r < high)
        tl.store(dx + (s + r) * dx_stride + e, total.to(dx.dtype.element_ty), mask=mine)
    return tail(all0, K1), tail(all1, K1), dw0, dw1, db0, db1


@triton.jit(do_not_specialize=["T"])
def conv_backward_kernel(
    x, weight, bias, room, dout, dx, d_weight, d_bias, T, E, stride, dx_stride,
    TAPS: tl.constexpr, SILU: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr,
    BE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """dx (T, E) with a row stride, and each program's share of d_weight (programs, 2, K, E) and
    d_bias (programs, 2, E).

    Walks over CHUNK tokens, ROWS at a time. At tokens t .. t + ROWS - 1 the gradients before the
    activation are found of the direction that looks back, and of the other one for tokens K - 1
    earlier, whose neighbours ahead have been seen by then; these earlier tokens' dx needs no
    others."""
    K1: tl.constexpr = TAPS - 1
    share = tl.program_id(1)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = e < E
    w0 = load_weights(weight, 0, e, E, TAPS)
    w1 = load_weights(weight, 1, e, E, TAPS)
    add0 = tl.load(bias + e, mask=inside, other=0.0)
    add1 = tl.load(bias + E + e, mask=inside, other=0.0)
    zero = add0 * 0.0
    dw0 = repeated(zero, TAPS)
    dw1 = repeated(zero, TAPS)
    db0 = zero
    db1 = zero
    low = share.to(tl.int64) * CHUNK
    high = tl.minimum(low + CHUNK, T)
    g0 = repeated(zero, K1)
    g1 = repeated(zero, K1)
    seen = load_rows(x, stride, low - K1, e, inside, T, K1)
    for block in range(0, (CHUNK + K1 + ROWS - 1) // ROWS):
        t = low + block * ROWS
        s = t - K1
        x_rows = seen + load_rows(x, stride, t, e, inside, T, ROWS)
        grads0 = load_rows(dout, E, t, e, inside, T, ROWS)
        grads1 = load_rows(dout + T.to(tl.int64) * E, E, s, e, inside, T, ROWS)
        # What this block looks at begins K - 1 tokens before s.
        if within_segment(room, s - K1, t + ROWS, T):
            g0, g1, dw0, dw1, db0, db1 = backward_rows(
                x_rows, grads0, grads1, g0, g1, dw0, dw1, db0, db1, w0, w1, add0, add1, room, dx,
                t, low, high, e, inside, T, dx_stride, TAPS, SILU, ROWS, FAST, False,
            )  # fmt: skip
        else:
            g0, g1, dw0, dw1, db0, db1 = backward_rows(
                x_rows, grads0, grads1, g0, g1, dw0, dw1, db0, db1, w0, w1, add0, add1, room, dx,
                t, low, high, e, inside, T, dx_stride, TAPS, SILU, ROWS, FAST, True,
            )  # fmt: skip
        seen = tail(x_rows, K1)
    for k in tl.static_range(TAPS):
        tl.store(d_weight + (share * 2 * TAPS + k) * E + e, dw0[k], mask=inside)
        tl.store(d_weight + ((share * 2 + 1) * TAPS + k) * E + e, dw1[k], mask=inside)
    tl.store(d_bias + share * 2 * E + e, db0, mask=inside)
    tl.store(d_bias + (share * 2 + 1) * E + e, db1, mask=inside)
