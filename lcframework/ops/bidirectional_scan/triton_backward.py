"""The backward kernels of the bidirectional selective scan; see `triton_kernels` for the legend and
the idea."""

import triton
import triton.language as tl

from lcframework.ops.bidirectional_scan.triton_kernels import (
    LN_2,
    LOG2_E,
    exp2,
    has_neighbour,
    item_bounds,
    step_size,
    tile,
)


@triton.jit
def adjoint_kernel(
    dt, bias, rate, C, dy, own, total, items, links,
    T, E, N, n_items,
    SOFTPLUS: tl.constexpr, NP: tl.constexpr, BE: tl.constexpr,
    STAGES: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Adjoint of the state that enters an item when nothing is known of later items, for items with
    an earlier one. The gradient of the final states comes in as `start` of `border_kernel`."""
    item, d = tl.program_id(0), tl.program_id(2)
    e = tl.program_id(1) * BE + tl.arange(0, BE)
    n = tl.arange(0, NP)
    inside, real = e < E, n < N
    first, sense, steps = item_bounds(items, item, d)
    steps = tl.where(has_neighbour(links, item, d, False), steps, 0)
    if steps > 0:
        base = d.to(tl.int64) * T
        decay = tl.load(rate + tile(d, 0, 1, E, NP, e), mask=inside[None, :], other=0.0)
        add = tl.load(bias + d * E + e, mask=inside, other=0.0)
        g = tl.zeros((NP, BE), tl.float32)
        through = tl.zeros((BE,), tl.float32)
        for i in tl.range(0, steps, num_stages=STAGES):
            token = first + (steps - 1 - i) * sense
            row = base + token
            raw = tl.load(dt + row * E + e, mask=inside, other=0.0).to(tl.float32)
            C_t = tl.load(C + row * N + n, mask=real, other=0.0).to(tl.float32)
            dy_t = tl.load(dy + token * E + e, mask=inside, other=0.0).to(tl.float32)
            step = step_size(raw, add, SOFTPLUS, FAST)
            g = (g + C_t[:, None] * dy_t[None, :]) * exp2(step[None, :] * decay, FAST)
            through += step
        tl.store(own + tile(d, item, n_items, E, NP, e), g, mask=inside[None, :])
        tl.store(total + (d.to(tl.int64) * n_items + item) * E + e, through, mask=inside)


@triton.jit
def replay(h, x, dt, B, base, first, sense, i, steps, E, N, e, n, inside, real, add, decay,
           SOFTPLUS: tl.constexpr, FAST: tl.constexpr):  # fmt: skip
    """Forward step i: (x, step, decays, state after); nothing happens at or beyond `steps`."""
    ok = i < steps
    row = base + first + tl.minimum(i, steps - 1) * sense
    x_t = tl.load(x + row * E + e, mask=inside & ok, other=0.0).to(tl.float32)
    raw = tl.load(dt + row * E + e, mask=inside & ok, other=0.0).to(tl.float32)
    B_t = tl.load(B + row * N + n, mask=real & ok, other=0.0).to(tl.float32)
    step = tl.where(ok, step_size(raw, add, SOFTPLUS, FAST), 0.0)
    a = exp2(step[None, :] * decay, FAST)
    return x_t, step, a, a * h + (step * x_t)[None, :] * B_t[:, None]


@triton.jit
def retrace(g, d_rate, d_bias, d_skip, before, after, a, x_t, step, dy, B, C, dx, ddt, dB, dC,
            base, first, sense, i, steps, partial, E, N, e, n, inside, real, decay, straight,
            SOFTPLUS: tl.constexpr, FAST: tl.constexpr):  # fmt: skip
    """Adjoint step i: writes dx, ddt and this tile's share of dB and dC; returns the adjoint before
    the step and the running sums."""
    ok = i < steps
    token = first + tl.minimum(i, steps - 1) * sense
    row = base + token
    dy_t = tl.load(dy + token * E + e, mask=inside & ok, other=0.0).to(tl.float32)
    B_t = tl.load(B + row * N + n, mask=real & ok, other=0.0).to(tl.float32)
    C_t = tl.load(C + row * N + n, mask=real & ok, other=0.0).to(tl.float32)
    g += C_t[:, None] * dy_t[None, :]
    tl.store(dC + (partial + row) * N + n, tl.sum(after * dy_t[None, :], 1), mask=real & ok)
    tl.store(dB + (partial + row) * N + n, tl.sum(g * (step * x_t)[None, :], 1), mask=real & ok)
    gB = tl.sum(g * B_t[:, None], 0)
    g *= a
    through = g * before
    d_rate += through * step[None, :]
    d_step = gB * x_t + tl.sum(through * decay, 0) * LN_2
    if SOFTPLUS:  # its derivative, 1 - e^-softplus, without cancellation
        slope = 1.0 - exp2(-step * LOG2_E, FAST)
        d_step *= tl.where(step < 0.01, step * (1.0 - 0.5 * step), slope)
    d_x = gB * step + straight * dy_t
    tl.store(dx + row * E + e, d_x.to(dx.dtype.element_ty), mask=inside & ok)
    tl.store(ddt + row * E + e, d_step.to(ddt.dtype.element_ty), mask=inside & ok)
    return g, d_rate, d_bias + d_step, d_skip + dy_t * x_t


@triton.jit
def gradient_kernel(
    x, dt, bias, rate, B, C, skip, dy, saved, leaving, scratch,
    dx, ddt, dB, dC, d_rate, d_bias, d_skip, arriving, items, blocks,
    T, E, N, n_items, n_blocks,
    SOFTPLUS: tl.constexpr, LEAVE: tl.constexpr, NP: tl.constexpr, BE: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """All gradients of one work item, channel tile and direction."""
    item, d = tl.program_id(0), tl.program_id(2)
    e = tl.program_id(1) * BE + tl.arange(0, BE)
    n = tl.arange(0, NP)
    inside, real = e < E, n < N
    first, sense, steps = item_bounds(items, item, d)
    if steps > 0:
        base = d.to(tl.int64) * T
        partial = tl.program_id(1).to(tl.int64) * 2 * T
        here = tile(d, item, n_items, E, NP, e)
        decay = tl.load(rate + tile(d, 0, 1, E, NP, e), mask=inside[None, :], other=0.0)
        add = tl.load(bias + d * E + e, mask=inside, other=0.0)
        straight = tl.load(skip + d * E + e, mask=inside, other=0.0)
        g = tl.zeros((NP, BE), tl.float32)
        if LEAVE:
            g = tl.load(leaving + here, mask=inside[None, :], other=0.0)
        sum_rate = tl.zeros((NP, BE), tl.float32)
        sum_bias = tl.zeros((BE,), tl.float32)
        sum_skip = tl.zeros((BE,), tl.float32)
        block = tl.load(blocks + item).to(tl.int64)
        # One scratch area of BLOCK / 4 states per program.
        quarter: tl.constexpr = BLOCK // 4
        area = ((d * tl.num_programs(1) + tl.program_id(1)) * n_items + item).to(tl.int64) * quarter
        lane = tl.arange(0, NP)[:, None] * BE + tl.arange(0, BE)[None, :]
        count = (steps + BLOCK - 1) // BLOCK
        for back in range(0, count):
            b = count - 1 - back
            kept = tile(d, block + b, n_blocks, E, NP, e)
            h = tl.load(saved + kept, mask=inside[None, :], other=0.0)
            quads = (tl.minimum(BLOCK, steps - b * BLOCK) + 3) // 4
            # Keep the state before every fourth step.
            for i in tl.range(0, 4 * quads, num_stages=STAGES):
                if i % 4 == 0:
                    tl.store(scratch + (area + i // 4) * (NP * BE) + lane, h)
                _, _, _, h = replay(h, x, dt, B, base, first, sense, b * BLOCK + i, steps, E, N,
                                    e, n, inside, real, add, decay, SOFTPLUS, FAST)  # fmt: skip
            tl.debug_barrier()
            for q in range(0, quads):
                i = b * BLOCK + 4 * (quads - 1 - q)
                h0 = tl.load(scratch + (area + quads - 1 - q) * (NP * BE) + lane)
                x0, s0, a0, h1 = replay(h0, x, dt, B, base, first, sense, i, steps, E, N,
                                        e, n, inside, real, add, decay, SOFTPLUS, FAST)  # fmt: skip
                x1, s1, a1, h2 = replay(h1, x, dt, B, base, first, sense, i + 1, steps, E, N,
                                        e, n, inside, real, add, decay, SOFTPLUS, FAST)  # fmt: skip
                x2, s2, a2, h3 = replay(h2, x, dt, B, base, first, sense, i + 2, steps, E, N,
                                        e, n, inside, real, add, decay, SOFTPLUS, FAST)  # fmt: skip
                x3, s3, a3, h4 = replay(h3, x, dt, B, base, first, sense, i + 3, steps, E, N,
                                        e, n, inside, real, add, decay, SOFTPLUS, FAST)  # fmt: skip
                g, sum_rate, sum_bias, sum_skip = retrace(
                    g, sum_rate, sum_bias, sum_skip, h3, h4, a3, x3, s3, dy, B, C, dx, ddt, dB, dC,
                    base, first, sense, i + 3, steps, partial, E, N, e, n, inside, real, decay,
                    straight, SOFTPLUS, FAST)  # fmt: skip
                g, sum_rate, sum_bias, sum_skip = retrace(
                    g, sum_rate, sum_bias, sum_skip, h2, h3, a2, x2, s2, dy, B, C, dx, ddt, dB, dC,
                    base, first, sense, i + 2, steps, partial, E, N, e, n, inside, real, decay,
                    straight, SOFTPLUS, FAST)  # fmt: skip
                g, sum_rate, sum_bias, sum_skip = retrace(
                    g, sum_rate, sum_bias, sum_skip, h1, h2, a1, x1, s1, dy, B, C, dx, ddt, dB, dC,
                    base, first, sense, i + 1, steps, partial, E, N, e, n, inside, real, decay,
                    straight, SOFTPLUS, FAST)  # fmt: skip
                g, sum_rate, sum_bias, sum_skip = retrace(
                    g, sum_rate, sum_bias, sum_skip, h0, h1, a0, x0, s0, dy, B, C, dx, ddt, dB, dC,
                    base, first, sense, i, steps, partial, E, N, e, n, inside, real, decay,
                    straight, SOFTPLUS, FAST)  # fmt: skip
            tl.debug_barrier()
        tl.store(arriving + here, g, mask=inside[None, :])
        tl.store(d_rate + here, sum_rate, mask=inside[None, :])
        vector = (d.to(tl.int64) * n_items + item) * E + e
        tl.store(d_bias + vector, sum_bias, mask=inside)
        tl.store(d_skip + vector, sum_skip, mask=inside)
