"""The forward kernels of the bidirectional selective scan.

One program is one warp. It walks one work item (a piece of a segment) for BE = 64 channels, two
neighbours per lane, its states in registers, first forward and then backward in time, so nothing is
flipped; the second walk adds what the first one wrote and applies the gate. B and C lie side by
side in float32, (2, T, 2 N). Rows come through shared memory (STAGED, see `triton_ring`) where
addresses are aligned for that, else straight from global memory. POLY of the N states take their
exponentials from multiply-adds instead of the special-function unit.

What changes from pack to pack is not specialised on, or training would compile anew.

Legend: T tokens, E channels, N states (padded), I work items, d direction; steps are kept times
log2(e), see `triton_math.step_size`; names ending in 0 and 1 are a lane's even and odd channel.
Offsets are int64: packs exceed 2^31 elements."""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    decay_of,
    halves,
    halves_of_states,
    load_maps,
    load_pair,
    load_states,
    sigmoid,
    step_size,
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
def scan_state(step, u, total, rate, h, B, C, POLY: tl.constexpr, FAST: tl.constexpr):
    """One state of one step of one channel per lane: (state, output so far)."""
    h = decay_of(step * rate, POLY, FAST) * h + u * B
    return h, total + h * C


@triton.jit
def walk(
    x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, item, n_items, tile, ring,
    T, E, z_stride, d,
    SECOND: tl.constexpr, SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, LAST: tl.constexpr,
    GATE: tl.constexpr, KEEP: tl.constexpr, N: tl.constexpr, POLY: tl.constexpr,
    UNROLL: tl.constexpr, FAST: tl.constexpr, STAGED: tl.constexpr, SLOT: tl.constexpr,
    APART: tl.constexpr,
):  # fmt: skip
    """One direction of one work item. SECOND adds to what lies in `y`; with GATE it writes `out`,
    and `y` only with KEEP. APART: each direction has a `y` of its own."""
    TYPE: tl.constexpr = x.dtype.element_ty
    SIZE: tl.constexpr = TYPE.primitive_bitwidth // 8
    BE: tl.constexpr = 64
    e = tile * BE + tl.arange(0, BE)
    lane = tl.arange(0, BE // 2)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    row = first + d * T
    rates0, rates1 = halves_of_states(load_states(rate + d * N * E, E, e, inside, N), N)
    add0, add1 = halves(tl.load(bias + d * E + e, mask=inside, other=0.0))
    skip0, skip1 = halves(tl.load(skip + d * E + e, mask=inside, other=0.0))
    h0 = zero_states(add0, N)
    h1 = zero_states(add0, N)
    if ENTER:
        here = state_offset(d, item, n_items, N, E)
        h0, h1 = halves_of_states(load_states(entering + here, E, e, inside, N), N)
    stride, gate_stride = sense * E, sense * z_stride
    x_at, dt_at, maps_at = x + row * E, dt + row * E, maps + row * (2 * N)
    y_row = first
    if APART:
        y_row = row
    y_at, z_at, out_at = y + y_row * E, z + first * z_stride, out + first * E
    rates_at = ring + DEPTH * SLOT
    if STAGED:
        put_states(rates_at, rates0, rates1, lane, N)
        SIZES: tl.constexpr = walk_sizes(N, SIZE, SECOND, GATE)
        from_tile = tile * BE
        bases = (maps_at, x_at + from_tile, dt_at + from_tile, y_at + from_tile, z_at + from_tile)
        long = stride * SIZE
        longs = (sense * (8 * N), long, long, long, gate_stride * SIZE)
        room = (E - from_tile) * SIZE
        rooms = (8 * N, room, room, room, room)
        sources, sizes = sources_of(bases, rooms, SIZES, lane)
        strides = strides_of(longs, SIZES, lane)
        sources = send_first(sources, sizes, strides, ring, lane, steps, SLOT)
    for i in tl.range(0, steps, loop_unroll_factor=UNROLL):
        if STAGED:
            sources, slot = turn(sources, sizes, strides, ring, lane, i, steps, SLOT)
            Bs, Cs = (), ()
            x0, x1 = pair_from(slot + bytes_before(SIZES, 1), lane, TYPE)
            raw0, raw1 = pair_from(slot + bytes_before(SIZES, 2), lane, TYPE)
        else:
            slot = 0
            Bs = load_maps(maps_at + i * sense * (2 * N), 2 * N, FAST)
            Cs = Bs
            x0, x1 = load_pair(x_at + i * stride, e, inside)
            raw0, raw1 = load_pair(dt_at + i * stride, e, inside)
        step0 = step_size(raw0, add0, SOFTPLUS, FAST)
        step1 = step_size(raw1, add1, SOFTPLUS, FAST)
        u0 = step0 * x0 * LN_2
        u1 = step1 * x1 * LN_2
        total0 = skip0 * x0
        total1 = skip1 * x1
        after0 = ()
        after1 = ()
        rates = (rates0, rates1)
        for n in tl.static_range(N):
            b, Bs = number(Bs, slot, n, STAGED)
            c, Cs = number(Cs, slot, N + n, STAGED)
            rate0, rate1, rates = channels(rates, rates_at, lane, n, STAGED)
            state0, total0 = scan_state(step0, u0, total0, rate0, h0[n], b, c, n < POLY, FAST)
            state1, total1 = scan_state(step1, u1, total1, rate1, h1[n], b, c, n < POLY, FAST)
            after0 = after0 + (state0,)
            after1 = after1 + (state1,)
        h0 = after0
        h1 = after1
        if SECOND:
            if STAGED:
                y0, y1 = pair_from(slot + bytes_before(SIZES, 3), lane, TYPE)
            else:
                y0, y1 = load_pair(y_at + i * stride, e, inside)
            total0 += y0
            total1 += y1
            if GATE:
                if STAGED:
                    z0, z1 = pair_from(slot + bytes_before(SIZES, 4), lane, TYPE)
                else:
                    z0, z1 = load_pair(z_at + i * gate_stride, e, inside)
                gated = whole(total0 * z0 * sigmoid(z0, FAST), total1 * z1 * sigmoid(z1, FAST))
                tl.store(out_at + i * stride + e, gated.to(TYPE), mask=inside)
        if KEEP or not (SECOND and GATE):
            tl.store(y_at + i * stride + e, whole(total0, total1).to(TYPE), mask=inside)
    if LAST:
        store_halves(last + state_offset(d, item, n_items, N, E), h0, h1, E, e, inside, N)


@triton.constexpr_function
def walk_sizes(states, size, second, gate):
    """Bytes that the streams of a walk take in a slot: maps, x, dt, and in the second walk y and
    z."""
    return (8 * states,) + (64 * size,) * (4 if second and gate else 3 if second else 2)


@triton.jit(do_not_specialize=["T", "n_items"])
def scan_kernel(
    x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, order, T, E, z_stride,
    n_items,
    SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, LAST: tl.constexpr, GATE: tl.constexpr,
    KEEP: tl.constexpr, N: tl.constexpr, POLY: tl.constexpr, UNROLL: tl.constexpr,
    FAST: tl.constexpr, STAGED: tl.constexpr, SLOT: tl.constexpr, APART: tl.constexpr,
):  # fmt: skip
    """64 channels of one work item: y (T, E) the sum of both directions, out (T, E) gated. APART:
    one direction only, into y (2, T, E); `sum_kernel` does the rest."""
    item = tl.load(order + tl.program_id(1))
    ring = 0
    if STAGED:
        ring = ring_address(n_items, DEPTH * SLOT + 256 * N)
    if APART:
        walk(
            x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, item, n_items,
            tl.program_id(0), ring, T, E, z_stride, tl.program_id(2),
            False, SOFTPLUS, ENTER, LAST, False, True, N, POLY, UNROLL, FAST, STAGED, SLOT, True,
        )  # fmt: skip
    else:
        for d in tl.static_range(2):
            walk(
                x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, item, n_items,
                tl.program_id(0), ring, T, E, z_stride, d, d == 1,
                SOFTPLUS, ENTER, LAST, GATE, KEEP, N, POLY, UNROLL, FAST, STAGED, SLOT, False,
            )  # fmt: skip
            tl.debug_barrier()  # what one lane wrote, another one's copy reads


@triton.jit(do_not_specialize=["T"])
def sum_kernel(
    apart, z, y, out, T, E, z_stride,
    GATE: tl.constexpr, KEEP: tl.constexpr, ROWS: tl.constexpr, BE: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """y (T, E), the sum over directions of apart (2, T, E), with KEEP; out = y silu(z) with
    GATE."""
    t = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    e = tl.program_id(0) * BE + tl.arange(0, BE)[None, :]
    inside = (t < T) & (e < E)
    total = tl.load(apart + t * E + e, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(apart + (t + T) * E + e, mask=inside, other=0.0).to(tl.float32)
    if KEEP:
        tl.store(y + t * E + e, total.to(y.dtype.element_ty), mask=inside)
    if GATE:
        gate = tl.load(z + t * z_stride + e, mask=inside, other=0.0).to(tl.float32)
        gated = total * gate * sigmoid(gate, FAST)
        tl.store(out + t * E + e, gated.to(out.dtype.element_ty), mask=inside)


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
