"""What the scan's kernels compute with: exponentials to base 2, the activated step, rows of maps,
and sums over channels.

States are kept as tuples of vectors over channels, one vector per state: every operation then acts
on channels alone, a map's value is a scalar, and the sum over states needs no shuffle. FAST chooses
PTX instructions that Triton has no word for; the interpreter, which knows no PTX, takes the plain
words."""

import triton
import triton.language as tl

LN_2 = tl.constexpr(0.6931471805599453)
LOG2_E = tl.constexpr(1.4426950408889634)

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
def log2(v, FAST: tl.constexpr):
    """Base-2 logarithm; FAST as in `exp2`."""
    if FAST:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [v], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.log2(v)


@triton.jit
def exp2_by_fma(v):
    """2^v for v <= 0 without the special-function unit, which is the scan's bottleneck: 2^round(v)
    times a polynomial of degree 5 in the rest (relative error 1.9e-7)."""
    v = tl.maximum(v, -126.0)
    shifted = v + 12582912.0  # 1.5 2^23: the rounded value lands in the last bits
    r = v - (shifted - 12582912.0)
    p = r * 1.3264726e-3 + 9.671513e-3
    p = p * r + 5.5507336e-2
    p = p * r + 2.4022242e-1
    p = p * r + 6.93147e-1
    p = p * r + 1.0
    bits = p.to(tl.int32, bitcast=True) + (shifted.to(tl.int32, bitcast=True) << 23)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def reciprocal(v, FAST: tl.constexpr):
    """1 / v; FAST as in `exp2`."""
    if FAST:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [v], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 / v


@triton.jit
def sigmoid(v, FAST: tl.constexpr):
    """1 / (1 + e^-v) in float32."""
    return reciprocal(1.0 + exp2(v * -LOG2_E, FAST), FAST)


@triton.jit
def step_size(raw, bias, SOFTPLUS: tl.constexpr, FAST: tl.constexpr):
    """The recurrence's step times log2(e), from the projection's output and the bias times log2(e):
    the unit in which a decay is 2^(step A)."""
    v = raw.to(tl.float32) * LOG2_E + bias
    if SOFTPLUS:
        small = exp2(-tl.abs(v), FAST)
        # log2(1 + small) by its series where the sum would round small away
        series = small * (1.4426950 - small * (0.7213475 - small * 0.4808983))
        v = tl.maximum(v, 0.0) + tl.where(small < 0.01, series, log2(1.0 + small, FAST))
    return v


@triton.jit
def step_slope(step, SOFTPLUS: tl.constexpr, FAST: tl.constexpr):
    """Derivative of the step in natural units by the projection's output, from the activated step:
    1 - e^-step."""
    if SOFTPLUS:
        natural = step * LN_2
        return tl.where(natural < 0.01, natural * (1.0 - 0.5 * natural), 1.0 - exp2(-step, FAST))
    else:
        return step * 0.0 + 1.0


@triton.jit
def decay_of(v, BY_FMA: tl.constexpr, FAST: tl.constexpr):
    """2^v for v <= 0 by the unit that BY_FMA names."""
    if BY_FMA:
        return exp2_by_fma(v)
    else:
        return exp2(v, FAST)


@triton.jit
def load_four(p):
    """Four float32 from an address that is the same in all lanes, aligned to 16 bytes."""
    return tl.inline_asm_elementwise(
        "ld.global.nc.v4.f32 {$0, $1, $2, $3}, [$4];", "=f,=f,=f,=f,l", [p],
        dtype=(tl.float32, tl.float32, tl.float32, tl.float32), is_pure=True, pack=1,
    )  # fmt: skip


@triton.jit
def load_maps(p, COUNT: tl.constexpr, FAST: tl.constexpr):
    """COUNT scalars that lie behind one another, COUNT a multiple of 4."""
    out = ()
    for k in tl.static_range(0, COUNT, 4):
        if FAST:
            a, b, c, d = load_four(p + k)
            out = out + (a, b, c, d)
        else:
            out = out + (tl.load(p + k), tl.load(p + k + 1), tl.load(p + k + 2), tl.load(p + k + 3))
    return out


@triton.jit
def load_rows(p, stride, e, inside, left, COUNT: tl.constexpr):
    """Tuple of COUNT rows of channels, `stride` apart; zeros from row `left` on."""
    out = ()
    for k in tl.static_range(COUNT):
        out = out + (tl.load(p + k * stride + e, mask=inside & (k < left), other=0.0),)
    return out


@triton.jit
def load_rows_back(p, stride, e, inside, end, steps, COUNT: tl.constexpr):
    """Tuple of the rows end - 1, end - 2, ... of an item, the first of them at `p`; zeros where
    there is no step."""
    out = ()
    for k in tl.static_range(COUNT):
        i = end - 1 - k
        there = inside & (i >= 0) & (i < steps)
        out = out + (tl.load(p - k * stride + e, mask=there, other=0.0),)
    return out


@triton.jit
def prefetch(p, FAST: tl.constexpr):
    """Ask for the line at `p` to be brought into the L2 cache."""
    if FAST:
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [p],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def load_states(p, E, e, inside, N: tl.constexpr):
    """Tuple of N vectors over channels from an (N, E) array."""
    out = ()
    for n in tl.static_range(N):
        out = out + (tl.load(p + n * E + e, mask=inside, other=0.0),)
    return out


@triton.jit
def zero_states(like, N: tl.constexpr):
    """Tuple of N zero vectors of the shape of `like`."""
    out = ()
    for _ in tl.static_range(N):
        out = out + (like * 0.0,)
    return out


@triton.jit
def store_states(p, h, E, e, inside, N: tl.constexpr):
    """Write a tuple of N vectors to an (N, E) array."""
    for n in tl.static_range(N):
        tl.store(p + n * E + e, h[n], mask=inside)


@triton.jit
def halves(v):
    """The even and the odd channels of a vector."""
    return tl.split(tl.reshape(v, (v.shape[0] // 2, 2)))


@triton.jit
def whole(even, odd):
    """Undo `halves`."""
    return tl.reshape(tl.join(even, odd), (even.shape[0] * 2,))


@triton.jit
def halves_of_states(h, N: tl.constexpr):
    """The even and the odd channels of each of N vectors, two tuples."""
    even = ()
    odd = ()
    for n in tl.static_range(N):
        a, b = halves(h[n])
        even = even + (a,)
        odd = odd + (b,)
    return even, odd


@triton.jit
def store_halves(p, even, odd, E, e, inside, N: tl.constexpr):
    """`store_states` of vectors given as halves."""
    for n in tl.static_range(N):
        tl.store(p + n * E + e, whole(even[n], odd[n]), mask=inside)


@triton.jit
def merge(a, b, lane, mask):
    """Add over pairs of lanes that differ in the bit `mask`: `a` in lanes without it, `b` in lanes
    with it."""
    return tl.inline_asm_elementwise(
        MERGE, "=f,f,f,r,r", [a, b, lane, mask], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def add_share(shares, before, share, lane, n: tl.constexpr, FAST: tl.constexpr):
    """Append the share of state n to the tuple that `store_lane_sums` takes; with FAST odd ones are
    merged with the one before at once, so that few are alive at a time."""
    if not FAST:
        return shares + (share,)
    elif n % 2 == 1:
        return shares + (merge(before, share, lane, 1),)
    else:
        return shares


@triton.jit
def merge_all(v, lane, mask, COUNT: tl.constexpr):
    """2 COUNT values over lanes to COUNT; see `merge`."""
    out = ()
    for j in tl.static_range(COUNT):
        out = out + (merge(v[2 * j], v[2 * j + 1], lane, mask),)
    return out


@triton.jit
def spread(v, mask):
    """Add the value of the lane that differs in the bit `mask`."""
    return tl.inline_asm_elementwise(
        SPREAD, "=f,f,r", [v, mask], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def store_lane_sums(p, shares, lane, live, N: tl.constexpr, FAST: tl.constexpr):
    """Write the sums over 32 lanes of N vectors to N neighbouring addresses, N a power of two from
    2 to 32; `shares` comes from `add_share`. Nothing is written unless `live`."""
    if FAST:
        v = shares
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
        tl.store(p + (lane & (N - 1)), total, mask=(lane < N) & live)
    else:
        for n in tl.static_range(N):
            tl.store(p + n, tl.sum(shares[n], 0), mask=live)
