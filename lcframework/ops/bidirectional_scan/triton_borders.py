"""What crosses the borders of a long segment's pieces, states forward in time, adjoints backward.

Each piece but the last adds a state of its own and lets what entered it decay; one launch finds
both for all pieces at once, a second one goes from border to border. Legend as in `triton_forward`.
"""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_forward import (
    item_bounds,
    maps_ahead,
    state_offset,
)
from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    decay_of,
    exp2,
    load_maps,
    load_rows,
    load_rows_back,
    load_states,
    prefetch,
    step_size,
    store_states,
    zero_states,
)


@triton.jit
def has_neighbour(links, item, d, AFTER: tl.constexpr):
    """Whether the segment goes on after (before) this item in the direction's own time."""
    before_in_pack = tl.load(links + 2 * item)
    after_in_pack = tl.load(links + 2 * item + 1)
    if AFTER:
        return tl.where(d == 0, after_in_pack, before_in_pack) != 0
    else:
        return tl.where(d == 0, before_in_pack, after_in_pack) != 0


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


@triton.jit(do_not_specialize=["T", "n_items"])
def adjoint_contribution_kernel(
    dt, bias, rate, maps, dy, own, total, bounds, links, order, T, E, n_items,
    SOFTPLUS: tl.constexpr, N: tl.constexpr, BE: tl.constexpr, POLY: tl.constexpr,
    AHEAD: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Decayed adjoint of the state that enters an item, when nothing is known of later ones, own
    (2, I, N, E), and sum of steps, total (2, I, E), of items that follow another one."""
    item, d = tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    steps = tl.where(has_neighbour(links, item, d, False), steps, 0)
    if steps > 0:
        row = first + d * T
        stride = sense * E
        end = (steps + AHEAD - 1) // AHEAD * AHEAD
        rates = load_states(rate + d * N * E, E, e, inside, N)
        add = tl.load(bias + d * E + e, mask=inside, other=0.0)
        g = zero_states(add, N)
        through = add * 0.0
        maps_at = maps + row * (2 * N) + N
        dt_at = dt + (row + (end - 1) * sense) * E
        dy_at = dy + (first + (end - 1) * sense) * E
        dts = load_rows_back(dt_at, stride, e, inside, end, steps, AHEAD)
        dys = load_rows_back(dy_at, stride, e, inside, end, steps, AHEAD)
        for begin in range(0, end, AHEAD):
            later_dts = ()
            later_dys = ()
            for k in tl.static_range(AHEAD):
                i = end - 1 - begin - k
                step = tl.where(i < steps, step_size(dts[k], add, SOFTPLUS, FAST), 0.0)
                dy_t = dys[k].to(tl.float32)
                later = inside & (i >= AHEAD)
                later_dts = later_dts + (
                    tl.load(dt_at - AHEAD * stride + e, mask=later, other=0.0),
                )
                later_dys = later_dys + (
                    tl.load(dy_at - AHEAD * stride + e, mask=later, other=0.0),
                )
                dt_at -= stride
                dy_at -= stride
                at = tl.minimum(i, steps - 1) * sense * (2 * N)
                prefetch(maps_at + tl.maximum(i - 8, 0) * sense * (2 * N), FAST)
                C = load_maps(maps_at + at, N, FAST)
                through += step
                after = ()
                for n in tl.static_range(N):
                    decay = decay_of(step * rates[n], n < POLY, FAST)
                    after = after + (decay * (g[n] + C[n] * dy_t),)
                g = after
            dts = later_dts
            dys = later_dys
        store_states(own + state_offset(d, item, n_items, N, E), g, E, e, inside, N)
        tl.store(total + (d * n_items + item.to(tl.int64)) * E + e, through, mask=inside)
