"""The backward kernels of the bidirectional selective scan: two streaming walks, no kept states.

With hd_t = a_t h_{t-1} (the decayed state) and gd_t = a_{t+1} g_{t+1} (the decayed adjoint), the
gradient through a decay is A P_t with P_t = g_t hd_t, elementwise in the states. It needs a state
and an adjoint of the same time, which are made in opposite orders. But

    P_t = C_t dy_t hd_t + gd_t hd_t    and    P_{t+1} = gd_t h_t = gd_t hd_t + u_t B_t gd_t,

so P_t = P_{t+1} + C_t dy_t hd_t - u_t B_t gd_t: a sum of terms that need only the state or only the
adjoint. The first walk (`replay_kernel`, in time's order) recomputes the states and writes the
channels' sums q_t = dy_t sum_n A C_t hd_t; the second (`adjoint_kernel`, against it) makes the
adjoints and adds up. Summation by parts turns the gradient of A, sum_t step_t P_t, into sums over
each walk of the same terms times S_t, the sum of the steps so far. Both sums start anew every SPAN
steps from an exact P = gd h at the border, so that rounding does not add up over long proteins; and
terms that would cancel (C dy u B) appear in neither, so steps of any size are safe.

Legend as in `triton_forward`; K spans.
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
    step_slope,
    store_halves,
    whole,
    zero_states,
)
from lcframework.ops.bidirectional_scan.triton_ring import (
    DEPTH,
    bytes_before,
    channels,
    number,
    pair_from,
    put_states,
    ring_address,
    send_first,
    sources_of,
    strides_of,
    turn,
)
from lcframework.ops.bidirectional_scan.triton_sums import (
    add_products,
    columns,
    no_sums,
    packed,
    store_sums,
)


@triton.constexpr_function
def backward_sizes(states, size, wide):
    """Bytes that a step's rows take in a slot: maps, x, dt, dy, and in the second walk, `wide`, q
    in float32."""
    return (8 * states, 64 * size, 64 * size, 64 * size) + ((256,) if wide else ())


@triton.jit
def replay_state(step, u, weight, rate, h, acc, q, B, C, FAST: tl.constexpr):
    """One state of one step of the first walk: (h, acc, q)."""
    decayed = exp2(step * rate, FAST) * h
    seen = C * decayed
    return decayed + u * B, acc + weight * seen, q + rate * seen


@triton.jit(do_not_specialize=["T", "n_items", "n_spans"])
def replay_kernel(
    x, dt, bias, rate, maps, dy, q, dC, span_state, span_step, acc_out, entering, bounds, spans,
    order,
    T, E, n_items, n_spans,
    SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, N: tl.constexpr, SPAN: tl.constexpr,
    FAST: tl.constexpr, BRIEF: tl.constexpr, STAGED: tl.constexpr,
    SLOT: tl.constexpr,
):  # fmt: skip
    """First walk over one item, direction and 64 channels: q (2, T, E), shares of dC (tiles, 2, T,
    N), per span its last state (2, K, N, E) and sum of steps (2, K, E), and the walk's part of dA
    (2, I, N, E)."""
    TYPE: tl.constexpr = x.dtype.element_ty
    SIZE: tl.constexpr = TYPE.primitive_bitwidth // 8
    BE: tl.constexpr = 64
    tile, item, d = tl.program_id(0), tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tile * BE + tl.arange(0, BE)
    lane = tl.arange(0, BE // 2)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    row = first + d * T
    add0, add1 = halves(tl.load(bias + d * E + e, mask=inside, other=0.0))
    r0, r1 = halves_of_states(load_states(rate + d * N * E, E, e, inside, N), N)
    here = state_offset(d, item, n_items, N, E)
    h0 = zero_states(add0, N)
    h1 = zero_states(add0, N)
    if ENTER:
        h0, h1 = halves_of_states(load_states(entering + here, E, e, inside, N), N)
    a0 = zero_states(add0, N)
    a1 = zero_states(add0, N)
    ones = columns(lane, BRIEF)
    rates_at = 0
    stride = sense * E
    x_at, dt_at, dy_at, q_at = x + row * E, dt + row * E, dy + first * E, q + row * E
    maps_at, dC_at = maps + row * (2 * N), dC + (tile.to(tl.int64) * 2 * T + row) * N
    if STAGED:
        SIZES: tl.constexpr = backward_sizes(N, SIZE, False)
        from_tile = tile * BE
        bases = (maps_at, x_at + from_tile, dt_at + from_tile, dy_at + from_tile)
        room = (E - from_tile) * SIZE
        long = stride * SIZE
        sources, sizes = sources_of(bases, (8 * N, room, room, room), SIZES, lane)
        strides = strides_of((sense * (8 * N), long, long, long), SIZES, lane)
        ring = ring_address(n_items, DEPTH * SLOT + 256 * N)
        rates_at = ring + DEPTH * SLOT
        put_states(rates_at, r0, r1, lane, N)
        sources = send_first(sources, sizes, strides, ring, lane, steps, SLOT)
    span = d * n_spans + tl.load(spans + item).to(tl.int64)
    for start in range(0, steps, SPAN):
        S0 = add0 * 0.0
        S1 = add0 * 0.0
        for i in range(start, tl.minimum(start + SPAN, steps)):
            if STAGED:
                sources, slot = turn(sources, sizes, strides, ring, lane, i, steps, SLOT)
                Bs, Cs = (), ()
                x0, x1 = pair_from(slot + bytes_before(SIZES, 1), lane, TYPE)
                raw0, raw1 = pair_from(slot + bytes_before(SIZES, 2), lane, TYPE)
                dy0, dy1 = pair_from(slot + bytes_before(SIZES, 3), lane, TYPE)
            else:
                slot = 0
                Bs = load_maps(maps_at + i * sense * (2 * N), 2 * N, FAST)
                Cs = Bs
                x0, x1 = load_pair(x_at + i * stride, e, inside)
                raw0, raw1 = load_pair(dt_at + i * stride, e, inside)
                dy0, dy1 = load_pair(dy_at + i * stride, e, inside)
            step0 = step_size(raw0, add0, SOFTPLUS, FAST)
            step1 = step_size(raw1, add1, SOFTPLUS, FAST)
            u0 = step0 * x0 * LN_2
            u1 = step1 * x1 * LN_2
            S0 += step0
            S1 += step1
            w0 = S0 * dy0
            w1 = S1 * dy1
            q0 = S0 * 0.0
            q1 = S0 * 0.0
            after0 = ()
            after1 = ()
            kept0 = ()
            kept1 = ()
            factors = packed(dy0, dy1, BRIEF)
            sums = no_sums(S0, BRIEF)
            waiting = ()
            rates = (r0, r1)
            for n in tl.static_range(N):
                b, Bs = number(Bs, slot, n, STAGED)
                c, Cs = number(Cs, slot, N + n, STAGED)
                rate0, rate1, rates = channels(rates, rates_at, lane, n, STAGED)
                state0, acc0, q0 = replay_state(step0, u0, w0, rate0, h0[n], a0[n], q0, b, c, FAST)
                state1, acc1, q1 = replay_state(step1, u1, w1, rate1, h1[n], a1[n], q1, b, c, FAST)
                after0 = after0 + (state0,)
                after1 = after1 + (state1,)
                kept0 = kept0 + (acc0,)
                kept1 = kept1 + (acc1,)
                sums, waiting = add_products(
                    sums, waiting, state0, state1, factors, ones, lane, n, FAST, BRIEF
                )
            h0 = after0
            h1 = after1
            a0 = kept0
            a1 = kept1
            store_sums(dC_at + i * sense * N, sums, lane, N, FAST, BRIEF)
            tl.store(q_at + i * stride + e, whole(q0 * dy0, q1 * dy1), mask=inside)
        store_halves(span_state + span * N * E, h0, h1, E, e, inside, N)
        tl.store(span_step + span * E + e, whole(S0, S1), mask=inside)
        span += 1
    store_halves(acc_out + here, a0, a1, E, e, inside, N)


@triton.jit
def adjoint_state(step, weight, dy, rate, gd, acc, gB, r, B, C, FAST: tl.constexpr):
    """One state of one step of the second walk: (gd, acc, gB, r, g)."""
    seen = B * gd
    g = gd + C * dy
    gd = exp2(step * rate, FAST) * g
    return gd, acc - weight * seen, gB + g * B, r + rate * seen, g


@triton.jit(do_not_specialize=["T", "n_items", "n_spans"])
def adjoint_kernel(
    x, dt, bias, rate, maps, skip, dy, q, span_state, span_step, leaving,
    dx, ddt, dB, d_rate, d_bias, d_skip, arriving, bounds, spans, order,
    T, E, n_items, n_spans,
    SOFTPLUS: tl.constexpr, LEAVE: tl.constexpr, ARRIVE: tl.constexpr, N: tl.constexpr,
    SPAN: tl.constexpr, FAST: tl.constexpr, BRIEF: tl.constexpr,
    STAGED: tl.constexpr, SLOT: tl.constexpr,
):  # fmt: skip
    """Second walk, against time, over one item, direction and 64 channels: dx, ddt (2, T, E),
    shares of dB (tiles, 2, T, N), and this item's share of the other gradients; d_rate (2, I, N, E)
    is step-weighted in the steps' unit."""
    TYPE: tl.constexpr = x.dtype.element_ty
    SIZE: tl.constexpr = TYPE.primitive_bitwidth // 8
    BE: tl.constexpr = 64
    tile, item, d = tl.program_id(0), tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tile * BE + tl.arange(0, BE)
    lane = tl.arange(0, BE // 2)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    final = tl.maximum(steps - 1, 0)
    add0, add1 = halves(tl.load(bias + d * E + e, mask=inside, other=0.0))
    skip0, skip1 = halves(tl.load(skip + d * E + e, mask=inside, other=0.0))
    r0, r1 = halves_of_states(load_states(rate + d * N * E, E, e, inside, N), N)
    here = state_offset(d, item, n_items, N, E)
    g0 = zero_states(add0, N)
    g1 = zero_states(add0, N)
    if LEAVE:
        g0, g1 = halves_of_states(load_states(leaving + here, E, e, inside, N), N)
    a0, a1 = halves_of_states(load_states(d_rate + here, E, e, inside, N), N)
    bias0 = add0 * 0.0
    bias1 = add0 * 0.0
    dD0 = add0 * 0.0
    dD1 = add0 * 0.0
    ones = columns(lane, BRIEF)
    rates_at = 0
    stride = sense * E
    token = first + final * sense
    row = token + d * T
    x_at, dt_at, q_at, dy_at = x + row * E, dt + row * E, q + row * E, dy + token * E
    dx_at, ddt_at = dx + row * E, ddt + row * E
    maps_at, dB_at = maps + row * (2 * N), dB + (tile.to(tl.int64) * 2 * T + row) * N
    if STAGED:
        SIZES: tl.constexpr = backward_sizes(N, SIZE, True)
        from_tile = tile * BE
        bases = (
            maps_at, x_at + from_tile, dt_at + from_tile, dy_at + from_tile, q_at + from_tile
        )  # fmt: skip
        room = (E - from_tile) * SIZE
        long = stride * (-SIZE)
        rooms = (8 * N, room, room, room, (E - from_tile) * 4)
        sources, sizes = sources_of(bases, rooms, SIZES, lane)
        strides = strides_of((sense * (-8 * N), long, long, long, stride * -4), SIZES, lane)
        ring = ring_address(n_items, DEPTH * SLOT + 256 * N)
        rates_at = ring + DEPTH * SLOT
        put_states(rates_at, r0, r1, lane, N)
        sources = send_first(sources, sizes, strides, ring, lane, steps, SLOT)
    count = (steps + SPAN - 1) // SPAN
    span = d * n_spans + tl.load(spans + item).to(tl.int64) + count - 1
    for back in range(0, count):
        # P at the span's end, exactly: the adjoint that arrives there times the state that the
        # first walk left there.
        h0, h1 = halves_of_states(load_states(span_state + span * N * E, E, e, inside, N), N)
        S0, S1 = halves(tl.load(span_step + span * E + e, mask=inside, other=0.0))
        span -= 1
        P0 = add0 * 0.0
        P1 = add0 * 0.0
        kept0 = ()
        kept1 = ()
        border_rates = (r0, r1)
        for n in tl.static_range(N):
            rate0, rate1, border_rates = channels(border_rates, rates_at, lane, n, STAGED)
            P0 += rate0 * (g0[n] * h0[n])
            P1 += rate1 * (g1[n] * h1[n])
            kept0 = kept0 + (a0[n] + S0 * (g0[n] * h0[n]),)
            kept1 = kept1 + (a1[n] + S1 * (g1[n] * h1[n]),)
        a0 = kept0
        a1 = kept1
        # Steps are counted from the item's end; the first span met may be a short one.
        low = tl.maximum(steps - (count - back) * SPAN, 0)
        high = steps - (count - 1 - back) * SPAN
        for j in range(low, high):
            if STAGED:
                sources, slot = turn(sources, sizes, strides, ring, lane, j, steps, SLOT)
                Bs, Cs = (), ()
                x0, x1 = pair_from(slot + bytes_before(SIZES, 1), lane, TYPE)
                raw0, raw1 = pair_from(slot + bytes_before(SIZES, 2), lane, TYPE)
                dy0, dy1 = pair_from(slot + bytes_before(SIZES, 3), lane, TYPE)
                q0, q1 = pair_from(slot + bytes_before(SIZES, 4), lane, tl.float32)
            else:
                slot = 0
                Bs = load_maps(maps_at - j * sense * (2 * N), 2 * N, FAST)
                Cs = Bs
                x0, x1 = load_pair(x_at - j * stride, e, inside)
                raw0, raw1 = load_pair(dt_at - j * stride, e, inside)
                dy0, dy1 = load_pair(dy_at - j * stride, e, inside)
                q0, q1 = load_pair(q_at - j * stride, e, inside)
            step0 = step_size(raw0, add0, SOFTPLUS, FAST)
            step1 = step_size(raw1, add1, SOFTPLUS, FAST)
            natural0 = step0 * LN_2
            natural1 = step1 * LN_2
            u0 = natural0 * x0
            u1 = natural1 * x1
            w0 = S0 * u0
            w1 = S1 * u1
            S0 -= step0
            S1 -= step1
            gB0 = S0 * 0.0
            gB1 = S0 * 0.0
            R0 = S0 * 0.0
            R1 = S0 * 0.0
            after0 = ()
            after1 = ()
            kept0 = ()
            kept1 = ()
            factors = packed(u0, u1, BRIEF)
            sums = no_sums(S0, BRIEF)
            waiting = ()
            rates = (r0, r1)
            for n in tl.static_range(N):
                b, Bs = number(Bs, slot, n, STAGED)
                c, Cs = number(Cs, slot, N + n, STAGED)
                rate0, rate1, rates = channels(rates, rates_at, lane, n, STAGED)
                adj0, acc0, gB0, R0, full0 = adjoint_state(
                    step0, w0, dy0, rate0, g0[n], a0[n], gB0, R0, b, c, FAST
                )
                adj1, acc1, gB1, R1, full1 = adjoint_state(
                    step1, w1, dy1, rate1, g1[n], a1[n], gB1, R1, b, c, FAST
                )
                after0 = after0 + (adj0,)
                after1 = after1 + (adj1,)
                kept0 = kept0 + (acc0,)
                kept1 = kept1 + (acc1,)
                sums, waiting = add_products(
                    sums, waiting, full0, full1, factors, ones, lane, n, FAST, BRIEF
                )
            g0 = after0
            g1 = after1
            a0 = kept0
            a1 = kept1
            store_sums(dB_at - j * sense * N, sums, lane, N, FAST, BRIEF)
            P0 += q0 - u0 * R0
            P1 += q1 - u1 * R1
            ddt0 = (gB0 * x0 + P0) * step_slope(step0, SOFTPLUS, FAST)
            ddt1 = (gB1 * x1 + P1) * step_slope(step1, SOFTPLUS, FAST)
            dx0 = gB0 * natural0 + skip0 * dy0
            dx1 = gB1 * natural1 + skip1 * dy1
            tl.store(dx_at - j * stride + e, whole(dx0, dx1).to(TYPE), mask=inside)
            tl.store(ddt_at - j * stride + e, whole(ddt0, ddt1).to(TYPE), mask=inside)
            bias0 += ddt0
            bias1 += ddt1
            dD0 += dy0 * x0
            dD1 += dy1 * x1
    store_halves(d_rate + here, a0, a1, E, e, inside, N)
    if ARRIVE:
        store_halves(arriving + here, g0, g1, E, e, inside, N)
    vector = (d * n_items + item.to(tl.int64)) * E + e
    tl.store(d_bias + vector, whole(bias0, bias1), mask=inside)
    tl.store(d_skip + vector, whole(dD0, dD1), mask=inside)
