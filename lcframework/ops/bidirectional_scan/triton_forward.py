"""The forward kernels of the bidirectional selective scan.

One program walks one work item (a piece of a segment) for BE channels, its states in registers, first forward and then
backward in time, so nothing is flipped; the second walk adds what the first one wrote and applies the gate. B and C lie
interleaved in float32, (2, T, 2 N), so that a step fetches both with eight wide loads. Exponentials bind: POLY of the
N states take theirs from multiply-adds instead of the special-function unit.

Legend: T tokens, E channels, N states (padded), I work items, d direction; steps are kept times log2(e), see
`triton_math.step_size`. Offsets are int64: packs exceed 2^31 elements.
"""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    decay_of,
    exp2,
    load_maps,
    load_states,
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
def walk(
    x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, item, n_items, e, inside, T, E, z_stride, d,
    SECOND: tl.constexpr, SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, LAST: tl.constexpr,
    GATE: tl.constexpr, KEEP: tl.constexpr, AHEAD: tl.constexpr, N: tl.constexpr, POLY: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """One direction of one work item. SECOND adds to what lies in `y`; with GATE it writes `out`, and `y` only with
    KEEP. AHEAD fetches a step's maps one step early, for few programs at a time."""
    first, sense, steps = item_bounds(bounds, item, d)
    row = first + d * T
    rates = load_states(rate + d * N * E, E, e, inside, N)
    add = tl.load(bias + d * E + e, mask=inside, other=0.0)
    straight = tl.load(skip + d * E + e, mask=inside, other=0.0)
    h = zero_states(add, N)
    if ENTER:
        h = load_states(entering + state_offset(d, item, n_items, N, E), E, e, inside, N)
    x_at, dt_at, maps_at = x + row * E, dt + row * E, maps + row * (2 * N)
    y_at, z_at, out_at = y + first * E, z + first * z_stride, out + first * E
    x_next = tl.load(x_at + e, mask=inside & (steps > 0), other=0.0)
    dt_next = tl.load(dt_at + e, mask=inside & (steps > 0), other=0.0)
    if SECOND:
        y_next = tl.load(y_at + e, mask=inside & (steps > 0), other=0.0)
        z_next = y_next
        if GATE:
            z_next = tl.load(z_at + e, mask=inside & (steps > 0), other=0.0)
    BC_next = ()
    if AHEAD:
        BC_next = load_maps(maps_at, 2 * N, FAST)
    for i in range(steps):
        x_t = x_next.to(tl.float32)
        step = step_size(dt_next, add, SOFTPLUS, FAST)
        x_at += sense * E
        dt_at += sense * E
        more = inside & (i + 1 < steps)
        x_next = tl.load(x_at + e, mask=more, other=0.0)
        dt_next = tl.load(dt_at + e, mask=more, other=0.0)
        if AHEAD:
            maps_at += tl.where(i + 1 < steps, sense, 0) * (2 * N)
            BC = BC_next
            BC_next = load_maps(maps_at, 2 * N, FAST)
        else:
            BC = load_maps(maps_at, 2 * N, FAST)
            maps_at += sense * (2 * N)
        u = step * x_t * LN_2
        total = straight * x_t
        after = ()
        for n in tl.static_range(N):
            decay = decay_of(step * rates[n], n < POLY, FAST)
            state = decay * h[n] + u * BC[n]
            total += state * BC[N + n]
            after = after + (state,)
        h = after
        if SECOND:
            total += y_next.to(tl.float32)
            y_next = tl.load(y_at + sense * E + e, mask=more, other=0.0)
            if GATE:
                z_t = z_next.to(tl.float32)
                z_at += sense * z_stride
                z_next = tl.load(z_at + e, mask=more, other=0.0)
                gated = total * z_t * sigmoid(z_t, FAST)
                tl.store(out_at + e, gated.to(out.dtype.element_ty), mask=inside)
        if KEEP or not (SECOND and GATE):
            tl.store(y_at + e, total.to(y.dtype.element_ty), mask=inside)
        y_at += sense * E
        out_at += sense * E
    if LAST:
        store_states(last + state_offset(d, item, n_items, N, E), h, E, e, inside, N)


@triton.jit
def scan_kernel(
    x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, order, T, E, z_stride, n_items,
    SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, LAST: tl.constexpr, GATE: tl.constexpr,
    KEEP: tl.constexpr, AHEAD: tl.constexpr, N: tl.constexpr, BE: tl.constexpr, POLY: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Both directions of one work item and BE channels: y (T, E) their sum, out (T, E) gated."""
    item = tl.load(order + tl.program_id(1))
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    for d in tl.static_range(2):
        walk(
            x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, item, n_items, e, e < E,
            T, E, z_stride, d, d == 1, SOFTPLUS, ENTER, LAST, GATE, KEEP, AHEAD, N, POLY, FAST,
        )  # fmt: skip


@triton.jit
def contribution_kernel(
    x, dt, bias, rate, maps, own, total, bounds, links, order, T, E, n_items,
    SOFTPLUS: tl.constexpr, N: tl.constexpr, BE: tl.constexpr, POLY: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Last state from zero, own (2, I, N, E), and sum of steps, total (2, I, E), of items that another one follows."""
    item, d = tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    steps = tl.where(has_neighbour(links, item, d, True), steps, 0)
    if steps > 0:
        row = first + d * T
        rates = load_states(rate + d * N * E, E, e, inside, N)
        add = tl.load(bias + d * E + e, mask=inside, other=0.0)
        h = zero_states(add, N)
        through = add * 0.0
        x_at, dt_at, maps_at = x + row * E, dt + row * E, maps + row * (2 * N)
        x_next = tl.load(x_at + e, mask=inside, other=0.0)
        dt_next = tl.load(dt_at + e, mask=inside, other=0.0)
        for i in range(steps):
            x_t = x_next.to(tl.float32)
            step = step_size(dt_next, add, SOFTPLUS, FAST)
            x_at += sense * E
            dt_at += sense * E
            more = inside & (i + 1 < steps)
            x_next = tl.load(x_at + e, mask=more, other=0.0)
            dt_next = tl.load(dt_at + e, mask=more, other=0.0)
            B = load_maps(maps_at, N, FAST)
            maps_at += sense * (2 * N)
            u = step * x_t * LN_2
            through += step
            after = ()
            for n in tl.static_range(N):
                decay = decay_of(step * rates[n], n < POLY, FAST)
                after = after + (decay * h[n] + u * B[n],)
            h = after
        store_states(own + state_offset(d, item, n_items, N, E), h, E, e, inside, N)
        tl.store(total + (d * n_items + item.to(tl.int64)) * E + e, through, mask=inside)


@triton.jit
def border_kernel(
    own, total, rate, start, entering, first_items, n_items, S, E,
    START: tl.constexpr, BACKWARD: tl.constexpr, N: tl.constexpr, BE: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """What enters each item of one segment, from the items' own contributions; BACKWARD for adjoints, which travel the
    other way. `start` (2, S, N, E) enters the first."""
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
