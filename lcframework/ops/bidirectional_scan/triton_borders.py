"""What crosses the borders of a long segment's pieces, states forward in time, adjoints backward.

Each piece but the last adds a state of its own and lets what entered it decay; one launch finds
both for all pieces at once, a second one goes from border to border. Legend as in `triton_forward`.
"""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_forward import item_bounds, state_offset
from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    exp2,
    halves,
    halves_of_states,
    load_maps,
    load_pair,
    load_states,
    step_size,
    store_halves,
    store_states,
    whole,
    zero_states,
)
from lcframework.ops.bidirectional_scan.triton_ring import (
    DEPTH,
    bytes_before,
    number,
    pair_from,
    ring_address,
    send_first,
    sources_of,
    strides_of,
    turn,
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


@triton.constexpr_function
def contribution_sizes(states, size):
    """Bytes that a step's rows take in a slot: one map and two rows of channels."""
    return (4 * states, 64 * size, 64 * size)


@triton.jit
def contribution_state(step, added, rate, h, one_map, FORWARD: tl.constexpr, FAST: tl.constexpr):
    """One state of one step of one channel per lane: the state decays before, the adjoint after it
    is added to."""
    decay = exp2(step * rate, FAST)
    if FORWARD:
        return decay * h + added * one_map
    else:
        return decay * (h + added * one_map)


@triton.jit(do_not_specialize=["T", "n_items"])
def contribution_kernel(
    values, dt, bias, rate, maps, own, total, bounds, links, order, T, E, n_items,
    FORWARD: tl.constexpr, SOFTPLUS: tl.constexpr, N: tl.constexpr,
    FAST: tl.constexpr, STAGED: tl.constexpr, SLOT: tl.constexpr,
):  # fmt: skip
    """What items add to what crosses their borders, own (2, I, N, E), and their sums of steps,
    total (2, I, E).

    FORWARD, with `values` x (2, T, E): the last state from zero, of items that another one follows.
    Else, with `values` dy (T, E): the decayed adjoint of the state that enters, when nothing is
    known of later items, of items that follow another one.
    """
    TYPE: tl.constexpr = dt.dtype.element_ty
    SIZE: tl.constexpr = TYPE.primitive_bitwidth // 8
    BE: tl.constexpr = 64
    tile, item, d = tl.program_id(0), tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tile * BE + tl.arange(0, BE)
    lane = tl.arange(0, BE // 2)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    steps = tl.where(has_neighbour(links, item, d, FORWARD), steps, 0)
    if steps > 0:
        token = first
        value_row = first + d * T
        maps_at = maps
        if not FORWARD:
            token = first + (steps - 1) * sense
            value_row = token
            maps_at = maps + N
            sense = -sense
        row = token + d * T
        stride = sense * E
        rates0, rates1 = halves_of_states(load_states(rate + d * N * E, E, e, inside, N), N)
        add0, add1 = halves(tl.load(bias + d * E + e, mask=inside, other=0.0))
        h0 = zero_states(add0, N)
        h1 = zero_states(add0, N)
        through0 = add0 * 0.0
        through1 = add0 * 0.0
        value_at, dt_at, maps_at = values + value_row * E, dt + row * E, maps_at + row * (2 * N)
        if STAGED:
            SIZES: tl.constexpr = contribution_sizes(N, SIZE)
            from_tile = tile * BE
            room = (E - from_tile) * SIZE
            long = stride * SIZE
            bases = (maps_at, value_at + from_tile, dt_at + from_tile)
            sources, sizes = sources_of(bases, (4 * N, room, room), SIZES, lane)
            strides = strides_of((sense * (8 * N), long, long), SIZES, lane)
            ring = ring_address(n_items, DEPTH * SLOT)
            sources = send_first(sources, sizes, strides, ring, lane, steps, SLOT)
        for i in range(0, steps):
            if STAGED:
                sources, slot = turn(sources, sizes, strides, ring, lane, i, steps, SLOT)
                one_map = ()
                value0, value1 = pair_from(slot + bytes_before(SIZES, 1), lane, TYPE)
                raw0, raw1 = pair_from(slot + bytes_before(SIZES, 2), lane, TYPE)
            else:
                slot = 0
                one_map = load_maps(maps_at + i * sense * (2 * N), N, FAST)
                value0, value1 = load_pair(value_at + i * stride, e, inside)
                raw0, raw1 = load_pair(dt_at + i * stride, e, inside)
            step0 = step_size(raw0, add0, SOFTPLUS, FAST)
            step1 = step_size(raw1, add1, SOFTPLUS, FAST)
            through0 += step0
            through1 += step1
            if FORWARD:
                value0 *= step0 * LN_2
                value1 *= step1 * LN_2
            after0 = ()
            after1 = ()
            for n in tl.static_range(N):
                one, one_map = number(one_map, slot, n, STAGED)
                state0 = contribution_state(step0, value0, rates0[n], h0[n], one, FORWARD, FAST)
                state1 = contribution_state(step1, value1, rates1[n], h1[n], one, FORWARD, FAST)
                after0 = after0 + (state0,)
                after1 = after1 + (state1,)
            h0 = after0
            h1 = after1
        store_halves(own + state_offset(d, item, n_items, N, E), h0, h1, E, e, inside, N)
        vector = (d * n_items + item.to(tl.int64)) * E + e
        tl.store(total + vector, whole(through0, through1), mask=inside)


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
