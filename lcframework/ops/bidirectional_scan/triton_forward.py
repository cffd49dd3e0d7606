"""The forward kernels of the bidirectional selective scan.

One program walks one work item (a piece of a segment) for BE channels, its states in registers,
first forward and then backward in time, so nothing is flipped; the second walk adds what the first
one wrote and applies the gate. B and C lie interleaved in float32, (2, T, 2 N), so that a step
fetches both with eight wide loads. Exponentials bind: POLY of the N states take theirs from
multiply-adds instead of the special-function unit.

What changes from pack to pack is not specialised on, or training would compile anew.

Legend: T tokens, E channels, N states (padded), I work items, d direction; steps are kept times
log2(e), see `triton_math.step_size`. Offsets are int64: packs exceed 2^31 elements."""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    decay_of,
    exp2,
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
def has_neighbour(links, item, d, AFTER: tl.constexpr):
    """Whether the segment goes on after (before) this item in the direction's own time."""
    before_in_pack = tl.load(links + 2 * item)
    after_in_pack = tl.load(links + 2 * item + 1)
    if AFTER:
        return tl.where(d == 0, after_in_pack, before_in_pack) != 0
    else:
        return tl.where(d == 0, before_in_pack, after_in_pack) != 0


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


@triton.jit(do_not_specialize=["T", "n_items"])
def contribution_kernel(
    x, dt, bias, rate, maps, own, total, bounds, links, order, T, E, n_items,
    SOFTPLUS: tl.constexpr, N: tl.constexpr, BE: tl.constexpr, POLY: tl.constexpr,
    AHEAD: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Last state from zero, own (2, I, N, E), and sum of steps, total (2, I, E), of items that
    another one follows."""
    item, d = tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    steps = tl.where(has_neighbour(links, item, d, True), steps, 0)
    if steps > 0:
        row = first + d * T
        stride = sense * E
        rates = load_states(rate + d * N * E, E, e, inside, N)
        add = tl.load(bias + d * E + e, mask=inside, other=0.0)
        h = zero_states(add, N)
        through = add * 0.0
        x_at, dt_at, maps_at = x + row * E, dt + row * E, maps + row * (2 * N)
        xs = load_rows(x_at, stride, e, inside, steps, AHEAD)
        dts = load_rows(dt_at, stride, e, inside, steps, AHEAD)
        B = load_maps(maps_at, N, FAST)
        for begin in range(0, steps, AHEAD):
            later_xs = ()
            later_dts = ()
            for k in tl.static_range(AHEAD):
                i = begin + k
                x_t = xs[k].to(tl.float32)
                step = tl.where(i < steps, step_size(dts[k], add, SOFTPLUS, FAST), 0.0)
                x_at += stride
                dt_at += stride
                later = inside & (i + AHEAD < steps)
                later_xs = later_xs + (
                    tl.load(x_at + (AHEAD - 1) * stride + e, mask=later, other=0.0),
                )
                later_dts = later_dts + (
                    tl.load(dt_at + (AHEAD - 1) * stride + e, mask=later, other=0.0),
                )
                B_next = maps_ahead(maps_at, sense, i, steps, N, N, FAST)
                u = step * x_t * LN_2
                through += step
                after = ()
                for n in tl.static_range(N):
                    decay = decay_of(step * rates[n], n < POLY, FAST)
                    after = after + (decay * h[n] + u * B[n],)
                h = after
                B = B_next
            xs = later_xs
            dts = later_dts
        store_states(own + state_offset(d, item, n_items, N, E), h, E, e, inside, N)
        tl.store(total + (d * n_items + item.to(tl.int64)) * E + e, through, mask=inside)


@triton.jit(do_not_specialize=["n_items", "S"])
def border_kernel(
    own, total, rate, start, entering, first_items, n_items, S, E,
    START: tl.constexpr, BACKWARD: tl.constexpr, N: tl.constexpr, BE: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """What enters each item of one segment, from the items' own contributions; BACKWARD for
    adjoints, which travel the other way. `start` (2, S, N, E) enters the first."""
    segment, d = tl.program_id(1), tl.program_id(2)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = e < E
    low, high = tl.load(first_items + segment), tl.load(first_items + segment + 1)
    rates = load_states(rate + d * N * E, E, e, inside, N)
    h = zero_states(rates[0], N)
    if START:
        h = load_states(start + state_offset(d, segment, S, N, E), E, e, inside, N)
    rising = (d == 0) != BACKWARD
    for i in range(0, high - low):
        item = tl.where(rising, low + i, high - 1 - i)
        here = state_offset(d, item, n_items, N, E)
        store_states(entering + here, h, E, e, inside, N)
        more = inside & (i + 1 < high - low)
        through = tl.load(total + (d * n_items + item.to(tl.int64)) * E + e, mask=more, other=0.0)
        mine = load_states(own + here, E, e, more, N)
        after = ()
        for n in tl.static_range(N):
            after = after + (mine[n] + exp2(through * rates[n], FAST) * h[n],)
        h = after
