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

Channels are handled in pairs, one lane each pair, so that the sums over channels that dB and dC
need are halved before they cross lanes. Legend as in `triton_forward`; K spans.
"""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_forward import (
    item_bounds,
    state_offset,
)
from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    add_share,
    decay_of,
    halves,
    halves_of_states,
    load_maps,
    load_rows,
    load_rows_back,
    load_states,
    prefetch,
    step_size,
    step_slope,
    store_halves,
    store_lane_sums,
    whole,
    zero_states,
)


@triton.jit
def maps_now(maps_at, sense, i, steps, N: tl.constexpr, FAST: tl.constexpr):
    """The maps of step i, of the last one past the end; what lies eight steps ahead is asked
    for."""
    last = steps - 1
    prefetch(maps_at + tl.minimum(i + 8, last) * sense * (2 * N), FAST)
    return load_maps(maps_at + tl.minimum(i, last) * sense * (2 * N), 2 * N, FAST)


@triton.jit
def maps_back(maps_at, sense, i, steps, N: tl.constexpr, FAST: tl.constexpr):
    """`maps_now` for a walk against time."""
    prefetch(maps_at + tl.maximum(i - 8, 0) * sense * (2 * N), FAST)
    return load_maps(maps_at + tl.minimum(i, steps - 1) * sense * (2 * N), 2 * N, FAST)


@triton.jit
def replay_state(
    step, u, weight, dy, rate, h, acc, q, B, C, BY_FMA: tl.constexpr, FAST: tl.constexpr
):
    """One state of one step of the first walk: (h, acc, q, share of dC)."""
    decayed = decay_of(step * rate, BY_FMA, FAST) * h
    seen = C * decayed
    h = decayed + u * B
    return h, acc + weight * seen, q + rate * seen, h * dy


@triton.jit(do_not_specialize=["T", "n_items", "n_spans"])
def replay_kernel(
    x, dt, bias, rate, maps, dy, q, dC, span_state, span_step, acc_out, entering, bounds, spans,
    order,
    T, E, n_items, n_spans,
    SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, N: tl.constexpr, BE: tl.constexpr,
    SPAN: tl.constexpr, POLY: tl.constexpr, AHEAD: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """First walk over one item, direction and BE channels: q (2, T, E), shares of dC (tiles, 2, T,
    N), per span its last state (2, K, N, E) and sum of steps (2, K, E), and the walk's part of dA
    (2, I, N, E)."""
    tile, item, d = tl.program_id(0), tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tile * BE + tl.arange(0, BE)
    lane = tl.arange(0, BE // 2)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    row = first + d * T
    add = tl.load(bias + d * E + e, mask=inside, other=0.0)
    r0, r1 = halves_of_states(load_states(rate + d * N * E, E, e, inside, N), N)
    here = state_offset(d, item, n_items, N, E)
    h0 = zero_states(r0[0], N)
    h1 = zero_states(r0[0], N)
    if ENTER:
        h0, h1 = halves_of_states(load_states(entering + here, E, e, inside, N), N)
    a0 = zero_states(r0[0], N)
    a1 = zero_states(r0[0], N)
    stride = sense * E
    x_at, dt_at, dy_at, q_at = x + row * E, dt + row * E, dy + first * E, q + row * E
    maps_at, dC_at = maps + row * (2 * N), dC + (tile.to(tl.int64) * 2 * T + row) * N
    xs = load_rows(x_at, stride, e, inside, steps, AHEAD)
    dts = load_rows(dt_at, stride, e, inside, steps, AHEAD)
    dys = load_rows(dy_at, stride, e, inside, steps, AHEAD)
    span = d * n_spans + tl.load(spans + item).to(tl.int64)
    for start in range(0, steps, SPAN):
        S0 = r0[0] * 0.0
        S1 = S0
        for begin in range(start, tl.minimum(start + SPAN, steps), AHEAD):
            later_xs = ()
            later_dts = ()
            later_dys = ()
            for k in tl.static_range(AHEAD):
                i = begin + k
                live = i < steps
                x_t = xs[k].to(tl.float32)
                step = tl.where(live, step_size(dts[k], add, SOFTPLUS, FAST), 0.0)
                dy0, dy1 = halves(dys[k].to(tl.float32))
                later = inside & (i + AHEAD < steps)
                later_xs = later_xs + (tl.load(x_at + AHEAD * stride + e, mask=later, other=0.0),)
                later_dts = later_dts + (
                    tl.load(dt_at + AHEAD * stride + e, mask=later, other=0.0),
                )
                later_dys = later_dys + (
                    tl.load(dy_at + AHEAD * stride + e, mask=later, other=0.0),
                )
                BC = maps_now(maps_at, sense, i, steps, N, FAST)
                u0, u1 = halves(step * x_t * LN_2)
                step0, step1 = halves(step)
                S0 += step0
                S1 += step1
                w0 = S0 * dy0
                w1 = S1 * dy1
                q0 = S0 * 0.0
                q1 = q0
                after0 = ()
                after1 = ()
                sums0 = ()
                sums1 = ()
                shares = ()
                before = q0
                for n in tl.static_range(N):
                    state0, acc0, q0, c0 = replay_state(
                        step0, u0, w0, dy0, r0[n], h0[n], a0[n], q0, BC[n], BC[N + n], n < POLY,
                        FAST
                    )  # fmt: skip
                    state1, acc1, q1, c1 = replay_state(
                        step1, u1, w1, dy1, r1[n], h1[n], a1[n], q1, BC[n], BC[N + n], n < POLY,
                        FAST
                    )  # fmt: skip
                    after0 = after0 + (state0,)
                    after1 = after1 + (state1,)
                    sums0 = sums0 + (acc0,)
                    sums1 = sums1 + (acc1,)
                    shares = add_share(shares, before, c0 + c1, lane, n, FAST)
                    before = c0 + c1
                h0 = after0
                h1 = after1
                a0 = sums0
                a1 = sums1
                store_lane_sums(dC_at, shares, lane, live, N, FAST)
                tl.store(q_at + e, whole(q0 * dy0, q1 * dy1), mask=inside & live)
                x_at += stride
                dt_at += stride
                dy_at += stride
                q_at += stride
                dC_at += sense * N
            xs = later_xs
            dts = later_dts
            dys = later_dys
        store_halves(span_state + span * N * E, h0, h1, E, e, inside, N)
        tl.store(span_step + span * E + e, whole(S0, S1), mask=inside)
        span += 1
    store_halves(acc_out + here, a0, a1, E, e, inside, N)


@triton.jit
def adjoint_state(
    step, u, weight, dy, rate, gd, acc, gB, r, B, C, BY_FMA: tl.constexpr, FAST: tl.constexpr
):
    """One state of one step of the second walk: (gd, acc, gB, r, share of dB)."""
    seen = B * gd
    g = gd + C * dy
    gd = decay_of(step * rate, BY_FMA, FAST) * g
    return gd, acc - weight * seen, gB + g * B, r + rate * seen, g * u


@triton.jit(do_not_specialize=["T", "n_items", "n_spans"])
def adjoint_kernel(
    x, dt, bias, rate, maps, skip, dy, q, span_state, span_step, leaving,
    dx, ddt, dB, d_rate, d_bias, d_skip, arriving, bounds, spans, order,
    T, E, n_items, n_spans,
    SOFTPLUS: tl.constexpr, LEAVE: tl.constexpr, ARRIVE: tl.constexpr, N: tl.constexpr,
    BE: tl.constexpr, SPAN: tl.constexpr, POLY: tl.constexpr, AHEAD: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Second walk, against time, over one item, direction and BE channels: dx, ddt (2, T, E),
    shares of dB (tiles, 2, T, N), and this item's share of the other gradients; d_rate (2, I, N, E)
    is step-weighted in the steps' unit.

    Steps are taken AHEAD at a time, counted from the item's first one: the walk begins with steps
    that do not exist, which change nothing."""
    tile, item, d = tl.program_id(0), tl.load(order + tl.program_id(1)), tl.program_id(2)
    e = tile * BE + tl.arange(0, BE)
    lane = tl.arange(0, BE // 2)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    row = first + d * T
    add = tl.load(bias + d * E + e, mask=inside, other=0.0)
    skip0, skip1 = halves(tl.load(skip + d * E + e, mask=inside, other=0.0))
    r0, r1 = halves_of_states(load_states(rate + d * N * E, E, e, inside, N), N)
    here = state_offset(d, item, n_items, N, E)
    g0 = zero_states(r0[0], N)
    g1 = zero_states(r0[0], N)
    if LEAVE:
        g0, g1 = halves_of_states(load_states(leaving + here, E, e, inside, N), N)
    a0, a1 = halves_of_states(load_states(d_rate + here, E, e, inside, N), N)
    bias0 = r0[0] * 0.0
    bias1 = bias0
    dD0 = bias0
    dD1 = bias0
    stride = sense * E
    end = (steps + AHEAD - 1) // AHEAD * AHEAD
    maps_at, dB_at = maps + row * (2 * N), dB + (tile.to(tl.int64) * 2 * T + row) * N
    token, row = first + (end - 1) * sense, row + (end - 1) * sense
    x_at, dt_at, q_at, dy_at = x + row * E, dt + row * E, q + row * E, dy + token * E
    dx_at, ddt_at = dx + row * E, ddt + row * E
    dB_at += (end - 1) * sense * N
    xs = load_rows_back(x_at, stride, e, inside, end, steps, AHEAD)
    dts = load_rows_back(dt_at, stride, e, inside, end, steps, AHEAD)
    dys = load_rows_back(dy_at, stride, e, inside, end, steps, AHEAD)
    qs = load_rows_back(q_at, stride, e, inside, end, steps, AHEAD)
    count = (steps + SPAN - 1) // SPAN
    span = d * n_spans + tl.load(spans + item).to(tl.int64) + count - 1
    for back in range(0, count):
        low = (count - 1 - back) * SPAN
        high = tl.minimum(low + SPAN, end)
        # P at the span's end, exactly: the adjoint that arrives there times the state that the
        # first walk left there.
        h0, h1 = halves_of_states(load_states(span_state + span * N * E, E, e, inside, N), N)
        S0, S1 = halves(tl.load(span_step + span * E + e, mask=inside, other=0.0))
        span -= 1
        P0 = r0[0] * 0.0
        P1 = P0
        sums0 = ()
        sums1 = ()
        for n in tl.static_range(N):
            P0 += r0[n] * (g0[n] * h0[n])
            P1 += r1[n] * (g1[n] * h1[n])
            sums0 = sums0 + (a0[n] + S0 * (g0[n] * h0[n]),)
            sums1 = sums1 + (a1[n] + S1 * (g1[n] * h1[n]),)
        a0 = sums0
        a1 = sums1
        for begin in range(low, high, AHEAD):
            later_xs = ()
            later_dts = ()
            later_dys = ()
            later_qs = ()
            for k in tl.static_range(AHEAD):
                i = low + (high - 1 - begin) - k
                live = i < steps
                x0, x1 = halves(xs[k].to(tl.float32))
                step = tl.where(live, step_size(dts[k], add, SOFTPLUS, FAST), 0.0)
                dy0, dy1 = halves(dys[k].to(tl.float32))
                q0, q1 = halves(qs[k])
                later = inside & (i >= AHEAD)
                later_xs = later_xs + (tl.load(x_at - AHEAD * stride + e, mask=later, other=0.0),)
                later_dts = later_dts + (
                    tl.load(dt_at - AHEAD * stride + e, mask=later, other=0.0),
                )
                later_dys = later_dys + (
                    tl.load(dy_at - AHEAD * stride + e, mask=later, other=0.0),
                )
                later_qs = later_qs + (tl.load(q_at - AHEAD * stride + e, mask=later, other=0.0),)
                BC = maps_back(maps_at, sense, i, steps, N, FAST)
                step0, step1 = halves(step)
                natural0 = step0 * LN_2
                natural1 = step1 * LN_2
                u0 = natural0 * x0
                u1 = natural1 * x1
                w0 = S0 * u0
                w1 = S1 * u1
                S0 -= step0
                S1 -= step1
                gB0 = S0 * 0.0
                gB1 = gB0
                R0 = gB0
                R1 = gB0
                after0 = ()
                after1 = ()
                sums0 = ()
                sums1 = ()
                shares = ()
                before = gB0
                for n in tl.static_range(N):
                    adj0, acc0, gB0, R0, c0 = adjoint_state(
                        step0, u0, w0, dy0, r0[n], g0[n], a0[n], gB0, R0, BC[n], BC[N + n],
                        n < POLY, FAST
                    )  # fmt: skip
                    adj1, acc1, gB1, R1, c1 = adjoint_state(
                        step1, u1, w1, dy1, r1[n], g1[n], a1[n], gB1, R1, BC[n], BC[N + n],
                        n < POLY, FAST
                    )  # fmt: skip
                    after0 = after0 + (adj0,)
                    after1 = after1 + (adj1,)
                    sums0 = sums0 + (acc0,)
                    sums1 = sums1 + (acc1,)
                    shares = add_share(shares, before, c0 + c1, lane, n, FAST)
                    before = c0 + c1
                g0 = after0
                g1 = after1
                a0 = sums0
                a1 = sums1
                store_lane_sums(dB_at, shares, lane, live, N, FAST)
                P0 += q0 - u0 * R0
                P1 += q1 - u1 * R1
                slope0, slope1 = halves(step_slope(step, SOFTPLUS, FAST))
                ddt0 = tl.where(live, (gB0 * x0 + P0) * slope0, 0.0)
                ddt1 = tl.where(live, (gB1 * x1 + P1) * slope1, 0.0)
                dx0 = gB0 * natural0 + skip0 * dy0
                dx1 = gB1 * natural1 + skip1 * dy1
                real = inside & live
                tl.store(dx_at + e, whole(dx0, dx1).to(dx.dtype.element_ty), mask=real)
                tl.store(ddt_at + e, whole(ddt0, ddt1).to(ddt.dtype.element_ty), mask=real)
                bias0 += ddt0
                bias1 += ddt1
                dD0 += dy0 * x0
                dD1 += dy1 * x1
                x_at -= stride
                dt_at -= stride
                dy_at -= stride
                q_at -= stride
                dx_at -= stride
                ddt_at -= stride
                dB_at -= sense * N
            xs = later_xs
            dts = later_dts
            dys = later_dys
            qs = later_qs
    store_halves(d_rate + here, a0, a1, E, e, inside, N)
    if ARRIVE:
        store_halves(arriving + here, g0, g1, E, e, inside, N)
    vector = (d * n_items + item.to(tl.int64)) * E + e
    tl.store(d_bias + vector, whole(bias0, bias1), mask=inside)
    tl.store(d_skip + vector, whole(dD0, dD1), mask=inside)
