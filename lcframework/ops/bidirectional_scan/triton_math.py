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
def load_pair(p, e, inside):
    """The even and the odd channels of a row at `p`, in float32; zeros outside."""
    return halves(tl.load(p + e, mask=inside, other=0.0).to(tl.float32))


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
