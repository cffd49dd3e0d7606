"""The forward kernels of the bidirectional selective scan.

One program is two warps: each walks the same work item (a piece of a segment) for the same BE = 64
channels, two neighbours per lane, its states in registers, the first warp forward in time, the
second one backward, so nothing is flipped. They meet in the middle: up to there a warp writes what
it finds, from there on it adds what the other one wrote and applies the gate. B and C lie side by
side in float32, (2, T, 2 N). Rows come through shared memory (STAGED, see `triton_ring`) where
addresses are aligned for that, else straight from global memory.

What changes from pack to pack is not specialised on, or training would compile anew.

Legend: T tokens, E channels, N states (padded), I work items, d direction; steps are kept times
log2(e), see `triton_math.step_size`; names ending in 0 and 1 are a lane's even and odd channel.
Vectors of both directions have the first one's half before the second one's. Offsets are int64:
packs exceed 2^31 elements."""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_math import (
    LN_2,
    exp2,
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
    number,
    pair_from,
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
def scan_state(step, u, total, rate, h, B, C, FAST: tl.constexpr):
    """One state of one step of one channel per lane: (state, output so far)."""
    h = exp2(step * rate, FAST) * h + u * B
    return h, total + h * C


@triton.jit
def walk(
    h0, h1, x, dt, maps, z, y, out, rates0, rates1, add0, add1, skip0, skip1, ring, e,
    lane, token, row, sense, from_tile, steps, stored, T, E, z_stride,
    SECOND: tl.constexpr, SOFTPLUS: tl.constexpr, GATE: tl.constexpr, KEEP: tl.constexpr,
    N: tl.constexpr, FAST: tl.constexpr,
    STAGED: tl.constexpr, SLOT: tl.constexpr,
):  # fmt: skip
    """`steps` steps of both directions from their own `token` and `row` on: (states, output of the
    last step). SECOND adds to what lies in `y`; with GATE it writes `out`, and `y` only with KEEP.
    Else the first `stored` outputs go to `y`."""
    TYPE: tl.constexpr = x.dtype.element_ty
    SIZE: tl.constexpr = TYPE.primitive_bitwidth // 8
    SIZES: tl.constexpr = walk_sizes(N, SIZE, SECOND, GATE)
    inside = e < E
    # Of each lane: what it copies belongs to the direction of its own warp.
    lane_token, lane_row, lane_sense = token[0], row[0], sense[0]
    token, row, sense = token[1], row[1], sense[1]
    if STAGED:
        bases = (
            maps + lane_row * (2 * N), x + lane_row * E + from_tile, dt + lane_row * E + from_tile,
            y + lane_token * E + from_tile, z + lane_token * z_stride + from_tile,
        )  # fmt: skip
        long = lane_sense * (E * SIZE)
        longs = (lane_sense * (8 * N), long, long, long, lane_sense * (z_stride * SIZE))
        room = (E - from_tile) * SIZE
        rooms = (8 * N, room, room, room, room)
        sources, sizes = sources_of(bases, rooms, SIZES, lane)
        strides = strides_of(longs, SIZES, lane)
        sources = send_first(sources, sizes, strides, ring, lane, steps, SLOT)
    stride = sense * E
    x_at, dt_at = x + row * E, dt + row * E
    y_at, out_at, z_at = y + token * E, out + token * E, z + token * z_stride
    maps_at = maps + lane_row * (2 * N)
    total0 = add0 * 0.0
    total1 = add0 * 0.0
    for i in range(0, steps):
        if STAGED:
            sources, slot = turn(sources, sizes, strides, ring, lane, i, steps, SLOT)
            Bs, Cs = (), ()
            x0, x1 = pair_from(slot + bytes_before(SIZES, 1), lane, TYPE)
            raw0, raw1 = pair_from(slot + bytes_before(SIZES, 2), lane, TYPE)
        else:
            slot = 0
            Bs = load_maps(maps_at + i * lane_sense * (2 * N), 2 * N, FAST)
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
        for n in tl.static_range(N):
            b, Bs = number(Bs, slot, n, STAGED)
            c, Cs = number(Cs, slot, N + n, STAGED)
            state0, total0 = scan_state(step0, u0, total0, rates0[n], h0[n], b, c, FAST)
            state1, total1 = scan_state(step1, u1, total1, rates1[n], h1[n], b, c, FAST)
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
                    z0, z1 = load_pair(z_at + i * sense * z_stride, e, inside)
                gated = whole(total0 * z0 * sigmoid(z0, FAST), total1 * z1 * sigmoid(z1, FAST))
                tl.store(out_at + i * stride + e, gated.to(TYPE), mask=inside)
        if KEEP or not (SECOND and GATE):
            here = inside & (SECOND | (i < stored))
            tl.store(y_at + i * stride + e, whole(total0, total1).to(TYPE), mask=here)
    return h0, h1, total0, total1


@triton.constexpr_function
def walk_sizes(states, size, second, gate):
    """Bytes that the streams of a walk take in a slot: maps, x, dt, and in the second half y and
    z."""
    return (8 * states,) + (64 * size,) * (4 if second and gate else 3 if second else 2)


@triton.jit(do_not_specialize=["T", "n_items"])
def scan_kernel(
    x, dt, bias, rate, maps, skip, z, y, out, entering, last, bounds, order, T, E, z_stride,
    n_items,
    SOFTPLUS: tl.constexpr, ENTER: tl.constexpr, LAST: tl.constexpr, GATE: tl.constexpr,
    KEEP: tl.constexpr, N: tl.constexpr,
    FAST: tl.constexpr, STAGED: tl.constexpr, SLOT: tl.constexpr,
):  # fmt: skip
    """64 channels of one work item: y (T, E) the sum of both directions, out (T, E) gated; y is
    scratch without KEEP."""
    BE: tl.constexpr = 64
    item = tl.load(order + tl.program_id(1))
    from_tile = tl.program_id(0) * BE
    column = tl.arange(0, 2 * BE)
    d, e = column // BE, from_tile + column % BE
    lane_d, lane = tl.arange(0, BE) // (BE // 2), tl.arange(0, BE) % (BE // 2)
    inside = e < E
    first, sense, steps = item_bounds(bounds, item, d)
    lane_first, lane_sense, _ = item_bounds(bounds, item, lane_d)
    rates0, rates1 = halves_of_states(load_states(rate + d * N * E, E, e, inside, N), N)
    add0, add1 = halves(tl.load(bias + d * E + e, mask=inside, other=0.0))
    skip0, skip1 = halves(tl.load(skip + d * E + e, mask=inside, other=0.0))
    ring = 0
    if STAGED:
        ring = ring_address(n_items, 2 * DEPTH * SLOT) + lane_d * (DEPTH * SLOT)
    h0 = zero_states(add0, N)
    h1 = zero_states(add0, N)
    state = state_offset(d, item, n_items, N, E)
    if ENTER:
        h0, h1 = halves_of_states(load_states(entering + state, E, e, inside, N), N)
    half = steps // 2
    until = steps - half
    h0, h1, total0, total1 = walk(
        h0, h1, x, dt, maps, z, y, out, rates0, rates1, add0, add1, skip0, skip1, ring,
        e, lane, (lane_first, first), (lane_first + lane_d * T, first + d * T), (lane_sense, sense),
        from_tile, until, half, T, E, z_stride,
        False, SOFTPLUS, GATE, KEEP, N, FAST, STAGED, SLOT,
    )  # fmt: skip
    if until > half:
        # Both found the middle token's output at the same time.
        total = tl.sum(tl.reshape(whole(total0, total1), (2, BE)), 0)
        channel = from_tile + tl.arange(0, BE)
        middle = tl.load(bounds + 2 * item).to(tl.int64) + half
        real = channel < E
        if GATE:
            gate = tl.load(z + middle * z_stride + channel, mask=real, other=0.0).to(tl.float32)
            gated = total * gate * sigmoid(gate, FAST)
            tl.store(out + middle * E + channel, gated.to(out.dtype.element_ty), mask=real)
        if KEEP or not GATE:
            tl.store(y + middle * E + channel, total.to(y.dtype.element_ty), mask=real)
    tl.debug_barrier()  # what one warp wrote, the other one reads
    first += sense * until
    lane_first += lane_sense * until
    h0, h1, total0, total1 = walk(
        h0, h1, x, dt, maps, z, y, out, rates0, rates1, add0, add1, skip0, skip1, ring,
        e, lane, (lane_first, first), (lane_first + lane_d * T, first + d * T), (lane_sense, sense),
        from_tile, half, half, T, E, z_stride,
        True, SOFTPLUS, GATE, KEEP, N, FAST, STAGED, SLOT,
    )  # fmt: skip
    if LAST:
        store_halves(last + state, h0, h1, E, e, inside, N)


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
