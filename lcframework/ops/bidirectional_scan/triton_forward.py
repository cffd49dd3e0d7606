"""The forward kernels of the bidirectional selective scan.

One program walks one work item (a piece of a segment) for BE channels, its states in registers,
first forward and then backward in time, so nothing is flipped; the second walk adds what the first
one wrote and applies the gate. B and C lie interleaved in float32, (2, T, 2 N), so that a step
fetches both with eight wide loads. POLY of the N states take their exponentials from
multiply-adds instead of the special-function unit.

What changes from pack to pack is not specialised on, or training would compile anew.

Legend: T tokens, E channels, N states (padded), I work items, d direction; steps are kept times
log2(e), see `triton_math.step_size`. Offsets are int64: packs exceed 2^31 elements."""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    decay_of,
    load_maps,
    load_rows,
    load_states,
    prefetch,
    sigmoid,
    step_size,
    store_states,
    zero_states,
)


@triton.jit
def item_bounds(bounds, item, d):
    """(first token, sense of time, number of steps) of one work item in direction `d`."""
    start = tl.load(bounds + 2 * item).to(tl.int64)
    stop = tl.load(bounds + 2 * item + 1).to(tl.int64)
    first = tl.where(d == 0, start, stop - 1)
    first = tl.where(stop > start, first, 0)  # an empty item reads a row that exists
    sense = tl.where(d == 0, 1, -1).to(tl.int64)
    return first, sense, (stop - start).to(tl.int32)


@triton.jit
def state_offset(d, item, n_items, N, E):
    """Where the (N, E) block of one direction and item begins in a (2, I, N, E) array."""
    return (d * n_items + item.to(tl.int64)) * N * E


@triton.jit
def maps_ahead(maps_at, sense, i, steps, COUNT: tl.constexpr, N: tl.constexpr, FAST: tl.constexpr):
    """The maps of the step after step i, `maps_at` being the first step's; past the end those of
    the last one. What lies eight steps ahead is asked for."""
    last = steps - 1
    prefetch(maps_at + tl.minimum(i + 8, last) * sense * (2 * N), FAST)
    return load_maps(maps_at + tl.minimum(i + 1, last) * sense * (2 * N), COUNT, FAST)


@triton.jit
def walk(
    x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, item, n_items, e, inside,
    T, E, z_stride, d,
    SECOND: tl.constexpr, SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, LAST: tl.constexpr,
    GATE: tl.constexpr, KEEP: tl.constexpr, N: tl.constexpr, POLY: tl.constexpr,
    AHEAD: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """One direction of one work item. SECOND adds to what lies in `y`; with GATE it writes `out`,
    and `y` only with KEEP."""
    first, sense, steps = item_bounds(bounds, item, d)
    row = first + d * T
    rates = load_states(rate + d * N * E, E, e, inside, N)
    add = tl.load(bias + d * E + e, mask=inside, other=0.0)
    straight = tl.load(skip + d * E + e, mask=inside, other=0.0)
    h = zero_states(add, N)
    if ENTER:
        h = load_states(entering + state_offset(d, item, n_items, N, E), E, e, inside, N)
    stride, gate_stride = sense * E, sense * z_stride
    x_at, dt_at, maps_at = x + row * E, dt + row * E, maps + row * (2 * N)
    y_at, z_at, out_at = y + first * E, z + first * z_stride, out + first * E
    xs = load_rows(x_at, stride, e, inside, steps, AHEAD)
    dts = load_rows(dt_at, stride, e, inside, steps, AHEAD)
    ys = xs
    zs = xs
    if SECOND:
        ys = load_rows(y_at, stride, e, inside, steps, AHEAD)
        if GATE:
            zs = load_rows(z_at, gate_stride, e, inside, steps, AHEAD)
    BC = load_maps(maps_at, 2 * N, FAST)
    for begin in range(0, steps, AHEAD):
        later_xs = ()
        later_dts = ()
        later_ys = ()
        later_zs = ()
        for k in tl.static_range(AHEAD):
            i = begin + k
            live = i < steps
            x_t = xs[k].to(tl.float32)
            step = tl.where(live, step_size(dts[k], add, SOFTPLUS, FAST), 0.0)
            later = inside & (i + AHEAD < steps)
            later_xs = later_xs + (tl.load(x_at + AHEAD * stride + e, mask=later, other=0.0),)
            later_dts = later_dts + (tl.load(dt_at + AHEAD * stride + e, mask=later, other=0.0),)
            BC_next = maps_ahead(maps_at, sense, i, steps, 2 * N, N, FAST)
            u = step * x_t * LN_2
            total = straight * x_t
            after = ()
            for n in tl.static_range(N):
                decay = decay_of(step * rates[n], n < POLY, FAST)
                state = decay * h[n] + u * BC[n]
                total += state * BC[N + n]
                after = after + (state,)
            h = after
            BC = BC_next
            if SECOND:
                total += ys[k].to(tl.float32)
                later_ys = later_ys + (tl.load(y_at + AHEAD * stride + e, mask=later, other=0.0),)
                if GATE:
                    z_t = zs[k].to(tl.float32)
                    later_zs = later_zs + (
                        tl.load(z_at + AHEAD * gate_stride + e, mask=later, other=0.0),
                    )
                    gated = total * z_t * sigmoid(z_t, FAST)
                    tl.store(out_at + e, gated.to(out.dtype.element_ty), mask=inside & live)
            if KEEP or not (SECOND and GATE):
                tl.store(y_at + e, total.to(y.dtype.element_ty), mask=inside & live)
            x_at += stride
            dt_at += stride
            y_at += stride
            z_at += gate_stride
            out_at += stride
        xs = later_xs
        dts = later_dts
        if SECOND:
            ys = later_ys
            if GATE:
                zs = later_zs
    if LAST:
        store_states(last + state_offset(d, item, n_items, N, E), h, E, e, inside, N)


@triton.jit(do_not_specialize=["T", "n_items"])
def scan_kernel(
    x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, order, T, E, z_stride,
    n_items,
    SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, LAST: tl.constexpr, GATE: tl.constexpr,
    KEEP: tl.constexpr, N: tl.constexpr, BE: tl.constexpr, POLY: tl.constexpr, AHEAD: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Both directions of one work item and BE channels: y (T, E) their sum, out (T, E) gated."""
    item = tl.load(order + tl.program_id(1))
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    for d in tl.static_range(2):
        walk(
            x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, item, n_items, e,
            e < E,
            T, E, z_stride, d, d == 1, SOFTPLUS, ENTER, LAST, GATE, KEEP, N, POLY, AHEAD, FAST,
        )  # fmt: skip


@triton.jit(do_not_specialize=["T"])
def gate_kernel(
    dout, z, y, dy, dz, T, E, z_stride, dz_stride,
    ROWS: tl.constexpr, BE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Gradients of out = y silu(z): dy (T, E) and dz (T, E); the rows of z and dz may lie apart."""
    t = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    e = tl.program_id(0) * BE + tl.arange(0, BE)[None, :]
    inside = (t < T) & (e < E)
    grad = tl.load(dout + t * E + e, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(z + t * z_stride + e, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(y + t * E + e, mask=inside, other=0.0).to(tl.float32)
    s = sigmoid(gate, FAST)
    tl.store(dy + t * E + e, (grad * gate * s).to(dy.dtype.element_ty), mask=inside)
    slope = s * (1.0 + gate * (1.0 - s))
    tl.store(dz + t * dz_stride + e, (grad * value * slope).to(dz.dtype.element_ty), mask=inside)
