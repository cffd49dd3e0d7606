"""Kernels of the RMS norm: one pass over a row forward, one backward.

Legend: T rows, D columns, BD the next power of two.
"""

import triton
import triton.language as tl


@triton.jit
def norm_kernel(x, weight, out, scale, D, eps, BD: tl.constexpr):
    """out (T, D) = x / rms(x) weight, and scale (T,) = 1 / rms(x)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BD)
    inside = column < D
    value = tl.load(x + row * D + column, mask=inside, other=0.0)
    inverse = tl.rsqrt(tl.sum(value * value, 0) / D + eps)
    gain = tl.load(weight + column, mask=inside, other=0.0)
    tl.store(out + row * D + column, (value * inverse * gain).to(out.dtype.element_ty), mask=inside)
    tl.store(scale + row, inverse)


@triton.jit(do_not_specialize=["T"])
def norm_backward_kernel(
    x, weight, scale, d_out, d_through, dx, d_weight, T, D, THROUGH: tl.constexpr, BD: tl.constexpr
):
    """dx (T, D), d_through added if THROUGH, and each program's share of d_weight (programs, D).

    Programs take every so manieth row."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, BD)
    inside = column < D
    gain = tl.load(weight + column, mask=inside, other=0.0)
    share = gain * 0.0
    row = program.to(tl.int64)
    for _ in range(program, T, programs):
        at = row * D + column
        inverse = tl.load(scale + row)
        unit = tl.load(x + at, mask=inside, other=0.0) * inverse
        grad = tl.load(d_out + at, mask=inside, other=0.0).to(tl.float32)
        share += grad * unit
        grad *= gain
        value = inverse * (grad - unit * (tl.sum(grad * unit, 0) / D))
        if THROUGH:
            value += tl.load(d_through + at, mask=inside, other=0.0)
        tl.store(dx + at, value, mask=inside)
        row += programs
    tl.store(d_weight + program * D + column, share, mask=inside)
