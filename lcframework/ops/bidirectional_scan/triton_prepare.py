"""Brings a call's small arguments into the layout that the walks read: two launches where torch
would take ten, which shows where a pack is short.

Legend: T tokens, E channels, N states, padded to NP.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["T"])
def maps_kernel(
    B, C, maps, T, B_direction, B_token, C_direction, C_token,
    N: tl.constexpr, NP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """maps (2, T, 2 NP) float32: B beside C (2, T, N), zeros behind their states."""
    d = tl.program_id(1).to(tl.int64)
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    n = tl.arange(0, NP)[None, :]
    real = (t < T) & (n < N)
    b = tl.load(B + d * B_direction + t * B_token + n, mask=real, other=0.0)
    c = tl.load(C + d * C_direction + t * C_token + n, mask=real, other=0.0)
    to = maps + (d * T + t) * (2 * NP) + n
    tl.store(to, b.to(tl.float32), mask=t < T)
    tl.store(to + NP, c.to(tl.float32), mask=t < T)


@triton.jit
def parameters_kernel(
    A, D, bias, rate, skip, shift, E,
    SKIP: tl.constexpr, BIAS: tl.constexpr, N: tl.constexpr, NP: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """rate (2, NP, E): A (2, E, N) transposed, zeros behind its states; skip and shift (2, E): D,
    and the bias times log2(e), zeros where there is none. All float32."""
    d = tl.program_id(1)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    n = tl.arange(0, NP)[:, None]
    inside = (e < E)[None, :]
    rates = tl.load(A + (d * E + e)[None, :] * N + n, mask=inside & (n < N), other=0.0)
    tl.store(rate + (d * NP + n) * E + e[None, :], rates.to(tl.float32), mask=inside)
    row = d * E + e
    skips = tl.zeros([BE], tl.float32)
    shifts = tl.zeros([BE], tl.float32)
    if SKIP:
        skips = tl.load(D + row, mask=e < E, other=0.0).to(tl.float32)
    if BIAS:
        shifts = tl.load(bias + row, mask=e < E, other=0.0).to(tl.float32) * LOG2_E
    tl.store(skip + row, skips, mask=e < E)
    tl.store(shift + row, shifts, mask=e < E)
