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
        token = first + (steps - 1) * sense
        dt_at, dy_at = dt + (base + token) * E + e, dy + token * E + e
        C_at = C + (base + token) * N + n
        for _ in tl.range(0, steps, num_stages=STAGES):
            raw = tl.load(dt_at, mask=inside, other=0.0).to(tl.float32)
            C_t = tl.load(C_at, mask=real, other=0.0)
            dy_t = tl.load(dy_at, mask=inside, other=0.0).to(tl.float32)
            step = step_size(raw, add, SOFTPLUS, FAST)
            g = (g + C_t[:, None] * dy_t[None, :]) * exp2(step[None, :] * decay, FAST)
            through += step
            dt_at -= sense * E
            dy_at -= sense * E
            C_at -= sense * N
        tl.store(own + tile(d, item, n_items, E, NP, e), g, mask=inside[None, :])
        tl.store(total + (d.to(tl.int64) * n_items + item) * E + e, through, mask=inside)


@triton.jit
def gradient_kernel(
    x, dt, bias, rate, B, C, skip, dy, saved, leaving, scratch,
    dx, ddt, dB, dC, d_rate, d_bias, d_skip, arriving, items, blocks,
    T, E, N, n_items, n_blocks,
    SOFTPLUS: tl.constexpr, LEAVE: tl.constexpr, NP: tl.constexpr, BE: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """All gradients of one work item, channel tile and direction. dB and dC get a share per tile,
    summed afterwards in a fixed order."""
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
        area = ((d * tl.num_programs(1) + tl.program_id(1)) * n_items + item).to(tl.int64) * BLOCK
        lane = tl.arange(0, NP)[:, None] * BE + tl.arange(0, BE)[None, :]
        states = scratch + area * (NP * BE) + lane
        count = (steps + BLOCK - 1) // BLOCK
        for back in range(0, count):
            b = count - 1 - back
            length = tl.minimum(BLOCK, steps - b * BLOCK)
            row = base + first + b * BLOCK * sense
            h = tl.load(saved + tile(d, block + b, n_blocks, E, NP, e), mask=inside[None, :],
                        other=0.0)  # fmt: skip
            # Replay the block, keeping the state before each step.
            x_at, dt_at, B_at = x + row * E + e, dt + row * E + e, B + row * N + n
            keep_at = states
            for _ in tl.range(0, length, num_stages=STAGES):
                x_t = tl.load(x_at, mask=inside, other=0.0).to(tl.float32)
                raw = tl.load(dt_at, mask=inside, other=0.0).to(tl.float32)
                B_t = tl.load(B_at, mask=real, other=0.0)
                tl.store(keep_at, h.to(scratch.dtype.element_ty))
                step = step_size(raw, add, SOFTPLUS, FAST)
                h = exp2(step[None, :] * decay, FAST) * h + (step * x_t)[None, :] * B_t[:, None]
                x_at += sense * E
                dt_at += sense * E
                B_at += sense * N
                keep_at += NP * BE
            tl.debug_barrier()
            row += (length - 1) * sense
            x_at, dt_at, dy_at = x + row * E + e, dt + row * E + e, dy + (row - base) * E + e
            B_at, C_at = B + row * N + n, C + row * N + n
            dx_at, ddt_at = dx + row * E + e, ddt + row * E + e
            dB_at, dC_at = dB + (partial + row) * N + n, dC + (partial + row) * N + n
            keep_at = states + (length - 1) * (NP * BE)
            for _ in tl.range(0, length, num_stages=STAGES):
                x_t = tl.load(x_at, mask=inside, other=0.0).to(tl.float32)
                raw = tl.load(dt_at, mask=inside, other=0.0).to(tl.float32)
                dy_t = tl.load(dy_at, mask=inside, other=0.0).to(tl.float32)
                B_t = tl.load(B_at, mask=real, other=0.0)
                C_t = tl.load(C_at, mask=real, other=0.0)
                before = tl.load(keep_at).to(tl.float32)
                step = step_size(raw, add, SOFTPLUS, FAST)
                u = step * x_t
                decayed = exp2(step[None, :] * decay, FAST)
                g += C_t[:, None] * dy_t[None, :]
                gB = tl.sum(g * B_t[:, None], 0)
                tl.store(dB_at, tl.sum(g * u[None, :], 1), mask=real)
                before *= decayed
                after = before + u[None, :] * B_t[:, None]
                tl.store(dC_at, tl.sum(after * dy_t[None, :], 1), mask=real)
                through = g * before
                g *= decayed
                sum_rate += through * step[None, :]
                d_step = gB * x_t + tl.sum(through * decay, 0) * LN_2
                if SOFTPLUS:  # its derivative, 1 - e^-softplus, without cancellation
                    slope = 1.0 - exp2(-step * LOG2_E, FAST)
                    d_step *= tl.where(step < 0.01, step * (1.0 - 0.5 * step), slope)
                d_x = gB * step + straight * dy_t
                tl.store(dx_at, d_x.to(dx.dtype.element_ty), mask=inside)
                tl.store(ddt_at, d_step.to(ddt.dtype.element_ty), mask=inside)
                sum_bias += d_step
                sum_skip += dy_t * x_t
                x_at -= sense * E
                dt_at -= sense * E
                dy_at -= sense * E
                B_at -= sense * N
                C_at -= sense * N
                dx_at -= sense * E
                ddt_at -= sense * E
                dB_at -= sense * N
                dC_at -= sense * N
                keep_at -= NP * BE
            tl.debug_barrier()
        tl.store(arriving + here, g, mask=inside[None, :])
        tl.store(d_rate + here, sum_rate, mask=inside[None, :])
        vector = (d.to(tl.int64) * n_items + item) * E + e
        tl.store(d_bias + vector, sum_bias, mask=inside)
        tl.store(d_skip + vector, sum_skip, mask=inside)
