"""Triton kernels of the bidirectional selective scan.

What is unusual: one program owns a tile of channels of one work item (a piece of one segment) in
one direction and walks through time step by step, its states in registers. Lanes hold channels, so
that sums over states need no shuffle. Direction is a grid axis; direction 1 walks from the last
token to the first, so nothing is flipped. The backward kernel walks against its direction in blocks
of BLOCK steps whose entering states the forward kernel kept; it replays a block, keeps every fourth
state in scratch memory, and holds four steps in registers at a time.

Legend: T tokens, E channels, N states (padded to NP rows), I work items, d direction; `rate` is A
log2(e), because exponentials are taken to base 2. Offsets are int64: packs exceed 2^31 elements.
"""

import triton
import triton.language as tl

LN_2 = tl.constexpr(0.6931471805599453)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def exp2(v, FAST: tl.constexpr):
    """2^v; FAST takes the special-function unit's result as it is (no denormals)."""
    if FAST:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [v], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(v)


@triton.jit
def softplus(v, FAST: tl.constexpr):
    """log(1 + e^v) in float32, v itself above 20."""
    small = exp2(tl.minimum(v, 20.0) * LOG2_E, FAST)
    # log1p by its series where 1 + small would round the answer away
    series = small * (1.0 - small * (0.5 - small * 0.33333333))
    return tl.where(v > 20.0, v, tl.where(small < 0.01, series, tl.log2(1.0 + small) * LN_2))


@triton.jit
def step_size(raw, bias, SOFTPLUS: tl.constexpr, FAST: tl.constexpr):
    """The recurrence's step from the projection's output."""
    v = raw + bias
    if SOFTPLUS:
        v = softplus(v, FAST)
    return v


@triton.jit
def item_bounds(items, item, d):
    """(token of the first step, sense of time, number of steps) of one work item."""
    start = tl.load(items + 2 * item).to(tl.int64)
    stop = tl.load(items + 2 * item + 1).to(tl.int64)
    first = tl.where(d == 0, start, stop - 1)
    sense = tl.where(d == 0, 1, -1).to(tl.int64)
    return first, sense, (stop - start).to(tl.int32)


@triton.jit
def has_neighbour(links, item, d, after: tl.constexpr):
    """Whether the segment goes on after (before) this item in the direction's own time."""
    before_in_pack = tl.load(links + 2 * item)
    after_in_pack = tl.load(links + 2 * item + 1)
    if after:
        return tl.where(d == 0, after_in_pack, before_in_pack) != 0
    else:
        return tl.where(d == 0, before_in_pack, after_in_pack) != 0


@triton.jit
def tile(d, index, count, E, NP: tl.constexpr, e):
    """Offsets of a (NP, tile) slice of a (2, count, NP, E) array."""
    row = (d.to(tl.int64) * count + index) * NP + tl.arange(0, NP)
    return row[:, None] * E + e[None, :]


@triton.jit
def scan_kernel(
    x, dt, bias, rate, B, C, skip, y, saved, entering, last, total, items, links, blocks,
    T, E, N, n_items, n_blocks,
    SOFTPLUS: tl.constexpr, OUTPUT: tl.constexpr, ENTER: tl.constexpr, SAVE: tl.constexpr,
    NP: tl.constexpr, BE: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """Forward walk of one work item.

    With OUTPUT: outputs y, kept states every BLOCK steps (SAVE) and the last state. Without: only
    the last state from zero and the sum of steps, for items that another one follows.
    """
    item, d = tl.program_id(0), tl.program_id(2)
    e = tl.program_id(1) * BE + tl.arange(0, BE)
    n = tl.arange(0, NP)
    inside, real = e < E, n < N
    first, sense, steps = item_bounds(items, item, d)
    if not OUTPUT:
        steps = tl.where(has_neighbour(links, item, d, True), steps, 0)
    if steps > 0:
        base = d.to(tl.int64) * T
        decay = tl.load(rate + tile(d, 0, 1, E, NP, e), mask=inside[None, :], other=0.0)
        add = tl.load(bias + d * E + e, mask=inside, other=0.0)
        straight = tl.load(skip + d * E + e, mask=inside, other=0.0)
        h = tl.zeros((NP, BE), tl.float32)
        if ENTER:
            h = tl.load(entering + tile(d, item, n_items, E, NP, e), mask=inside[None, :], other=0.0)
        through = tl.zeros((BE,), tl.float32)
        block = tl.load(blocks + item).to(tl.int64)
        for i in tl.range(0, steps, num_stages=STAGES):
            row = base + first + i * sense
            x_t = tl.load(x + row * E + e, mask=inside, other=0.0).to(tl.float32)
            raw = tl.load(dt + row * E + e, mask=inside, other=0.0).to(tl.float32)
            B_t = tl.load(B + row * N + n, mask=real, other=0.0).to(tl.float32)
            if SAVE:
                if i % BLOCK == 0:
                    kept = tile(d, block + i // BLOCK, n_blocks, E, NP, e)
                    tl.store(saved + kept, h, mask=inside[None, :])
            step = step_size(raw, add, SOFTPLUS, FAST)
            h = exp2(step[None, :] * decay, FAST) * h + (step * x_t)[None, :] * B_t[:, None]
            if OUTPUT:
                C_t = tl.load(C + row * N + n, mask=real, other=0.0).to(tl.float32)
                out = tl.sum(h * C_t[:, None], 0) + straight * x_t
                tl.store(y + row * E + e, out.to(y.dtype.element_ty), mask=inside)
            else:
                through += step
        tl.store(last + tile(d, item, n_items, E, NP, e), h, mask=inside[None, :])
        if not OUTPUT:
            tl.store(total + (d.to(tl.int64) * n_items + item) * E + e, through, mask=inside)


@triton.jit
def border_kernel(
    own, total, rate, start, entering, first_items, n_items, S, E,
    START: tl.constexpr, BACKWARD: tl.constexpr, NP: tl.constexpr, BE: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """What enters each item of one segment, from the items' own contributions; BACKWARD for
    adjoints, which travel the other way. `start` (2, S, NP, E) enters the first."""
    segment, d = tl.program_id(0), tl.program_id(2)
    e = tl.program_id(1) * BE + tl.arange(0, BE)
    inside = e < E
    low, high = tl.load(first_items + segment), tl.load(first_items + segment + 1)
    decay = tl.load(rate + tile(d, 0, 1, E, NP, e), mask=inside[None, :], other=0.0)
    h = tl.zeros((NP, BE), tl.float32)
    if START:
        h = tl.load(start + tile(d, segment, S, E, NP, e), mask=inside[None, :], other=0.0)
    rising = (d == 0) != BACKWARD
    for i in range(0, high - low):
        item = tl.where(rising, low + i, high - 1 - i)
        tl.store(entering + tile(d, item, n_items, E, NP, e), h, mask=inside[None, :])
        if i + 1 < high - low:
            through = tl.load(total + (d.to(tl.int64) * n_items + item) * E + e, mask=inside, other=0.0)
            mine = tl.load(own + tile(d, item, n_items, E, NP, e), mask=inside[None, :], other=0.0)
            h = mine + exp2(through[None, :] * decay, FAST) * h
