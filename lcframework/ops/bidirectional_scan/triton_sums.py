"""Sums over the channels of a warp, in a fixed order: two runs give equal bits.

Lanes hold pairs of channels. In float32 the pairs' sums are folded over the lanes; for bfloat16
inputs the products are rounded to bfloat16, as those inputs are, and the tensor cores add them up
in float32."""

import triton
import triton.language as tl

# Lanes whose bit of the mask is 0 keep $1 and send $2, the others keep $2 and send $1; what is kept
# and what arrives are added. n values over 32 lanes thus become n / 2: half the shuffles and
# additions of a sum over lanes for each value.
MERGE = tl.constexpr(
    "{ .reg .pred p; .reg .b32 t, s, k; and.b32 t, $3, $4; setp.ne.u32 p, t, 0;"
    " selp.b32 s, $1, $2, p; selp.b32 k, $2, $1, p; shfl.sync.bfly.b32 t, s, $4, 0x1f, 0xffffffff;"
    " add.f32 $0, k, t; }"
)
SPREAD = tl.constexpr(
    "{ .reg .b32 t; shfl.sync.bfly.b32 t, $1, $2, 0x1f, 0xffffffff; add.f32 $0, $1, t; }"
)
PACK = tl.constexpr("cvt.rn.bf16x2.f32 $0, $2, $1;")
PRODUCTS = tl.constexpr(
    "{ .reg .b32 v, z; cvt.rn.bf16x2.f32 v, $2, $1; mov.b32 z, 0x80008000;"
    " fma.rn.bf16x2 $0, v, $3, z; }"
)
MMA = tl.constexpr(
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
    " {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
)


@triton.jit
def merge(a, b, lane, mask):
    """Add over pairs of lanes that differ in the bit `mask`: `a` in lanes without it, `b` in lanes
    with it."""
    return tl.inline_asm_elementwise(
        MERGE, "=f,f,f,r,r", [a, b, lane, mask], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def spread(v, mask):
    """Add the value of the lane that differs in the bit `mask`."""
    return tl.inline_asm_elementwise(
        SPREAD, "=f,f,r", [v, mask], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def merge_all(v, lane, mask, COUNT: tl.constexpr):
    """2 COUNT values over lanes to COUNT; see `merge`."""
    out = ()
    for j in tl.static_range(COUNT):
        out = out + (merge(v[2 * j], v[2 * j + 1], lane, mask),)
    return out


@triton.jit
def packed(even, odd, BRIEF: tl.constexpr):
    """What `products` multiplies by: the pair itself, or both rounded to bfloat16 in one word."""
    if BRIEF:
        return tl.inline_asm_elementwise(
            PACK, "=r,f,f", [even, odd], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        return (even, odd)


@triton.jit
def columns(lane, BRIEF: tl.constexpr):
    """The right factors of `add_products`: ones in column c, zeros elsewhere, for c in 0..7."""
    out = ()
    if BRIEF:
        for c in tl.static_range(8):
            out = out + (tl.where(lane // 4 == c, 0x3F803F80, 0),)
    return out


@triton.jit
def no_sums(like, BRIEF: tl.constexpr):
    """What `add_products` starts from."""
    if BRIEF:
        return (like * 0.0, like * 0.0, like * 0.0, like * 0.0)
    else:
        return ()


@triton.jit
def add_products(
    sums, waiting, even, odd, factors, ones, lane, n: tl.constexpr, FAST: tl.constexpr,
    BRIEF: tl.constexpr,
):  # fmt: skip
    """Take in state n of both channels times the factors: (sums, waiting); the first call gets
    `no_sums` and ().

    BRIEF: four states' words are the left factor of one product of matrices. States 0 and 2 lie in
    its rows 0-7, 1 and 3 in its rows 8-15, 2 and 3 in the second half of its columns, so that each
    adds up four lanes in a column of its own: see `store_sums` for where.
    """
    if BRIEF:
        word = tl.inline_asm_elementwise(
            PRODUCTS, "=r,f,f,r", [even, odd, factors], dtype=tl.int32, is_pure=True, pack=1
        )
        if n % 4 < 3:
            return sums, waiting + (word,)
        else:
            j: tl.constexpr = n // 4 * 2
            a, b, c, d = tl.inline_asm_elementwise(
                MMA, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
                [waiting[0], waiting[1], waiting[2], word, ones[j], ones[j + 1],
                 sums[0], sums[1], sums[2], sums[3]],
                dtype=(tl.float32, tl.float32, tl.float32, tl.float32), is_pure=True, pack=1,
            )  # fmt: skip
            return (a, b, c, d), ()
    else:
        share = even * factors[0] + odd * factors[1]
        if not FAST:
            return sums + (share,), waiting
        elif n % 2 == 0:
            return sums, (share,)
        else:
            return sums + (merge(waiting[0], share, lane, 1),), ()


@triton.jit
def store_sums(p, sums, lane, N: tl.constexpr, FAST: tl.constexpr, BRIEF: tl.constexpr):
    """Write the sums over channels of N states to N neighbouring addresses, N a power of two from 2
    to 32 (4 to 16 if BRIEF)."""
    if BRIEF:
        # Lane 4 g + c holds the sums over lanes 4 g .. 4 g + 3 of states 4 c, 4 c + 2, 4 c + 1 and
        # 4 c + 3.
        v = merge(merge(sums[0], sums[1], lane, 16), merge(sums[2], sums[3], lane, 16), lane, 8)
        state = (lane & 3) * 4 + ((lane & 16) >> 3) + ((lane & 8) >> 3)
        tl.store(p + state, spread(v, 4), mask=((lane & 4) == 0) & (state < N))
    elif FAST:
        v = sums
        if N >= 4:
            v = merge_all(v, lane, 2, N // 4)
        if N >= 8:
            v = merge_all(v, lane, 4, N // 8)
        if N >= 16:
            v = merge_all(v, lane, 8, N // 16)
        if N >= 32:
            v = merge_all(v, lane, 16, N // 32)
        total = v[0]
        if N < 4:
            total = spread(total, 2)
        if N < 8:
            total = spread(total, 4)
        if N < 16:
            total = spread(total, 8)
        if N < 32:
            total = spread(total, 16)
        tl.store(p + (lane & (N - 1)), total, mask=lane < N)
    else:
        for n in tl.static_range(N):
            tl.store(p + n, tl.sum(sums[n], 0))
