"""Rows on their way to a walk: a ring of slots in shared memory that asynchronous copies fill.

A warp waits for loads into registers through one of six counters, and a wait for an old load waits
for every newer one on the same counter; with rows fetched steps ahead that cost a third of a walk's
time on an H200. A copy into shared memory is waited for by its age alone.

One slot holds what one step needs: the row of maps and the rows of channels, behind one another.
Each lane copies 16 bytes of it (in turns, if there are more than 512) and keeps its own address and
stride. The addresses of a walk never leave its work item. Programs are one warp.
"""

import triton
import triton.language as tl

DEPTH = tl.constexpr(4)
"""Slots; the copy of a row starts DEPTH - 1 steps before its use."""

RING_2K = tl.constexpr("{ .shared .align 128 .b8 ring[2048]; mov.u32 $0, ring; }")
RING_4K = tl.constexpr("{ .shared .align 128 .b8 ring[4096]; mov.u32 $0, ring; }")
RING_8K = tl.constexpr("{ .shared .align 128 .b8 ring[8192]; mov.u32 $0, ring; }")
RING_32K = tl.constexpr("{ .shared .align 128 .b8 ring[32768]; mov.u32 $0, ring; }")
RING_16K = tl.constexpr("{ .shared .align 128 .b8 ring[16384]; mov.u32 $0, ring; }")
COPY = tl.constexpr(
    "{ .reg .pred p; setp.ne.b32 p, $4, 0;"
    " @p cp.async.cg.shared.global [$1], [$2], 16, $3; mov.u32 $0, 0; }"
)
COMMIT = tl.constexpr("cp.async.commit_group; mov.u32 $0, 0;")
WAIT = tl.constexpr("cp.async.wait_group 2; bar.warp.sync 0xffffffff; mov.u32 $0, 0;")
PUT_FOUR = tl.constexpr("st.shared.v4.f32 [$1], {$2, $3, $4, $5}; mov.u32 $0, 0;")
FOUR = tl.constexpr("ld.shared.v4.f32 {$0, $1, $2, $3}, [$4];")
PAIR_F32 = tl.constexpr("ld.shared.v2.f32 {$0, $1}, [$2];")
PAIR_BF16 = tl.constexpr(
    "{ .reg .b32 w; ld.shared.b32 w, [$2]; shl.b32 $0, w, 16; and.b32 $1, w, 0xffff0000; }"
)
PAIR_F16 = tl.constexpr(
    "{ .reg .b32 w; .reg .b16 a, b; ld.shared.b32 w, [$2]; mov.b32 {a, b}, w;"
    " cvt.f32.f16 $0, a; cvt.f32.f16 $1, b; }"
)


@triton.jit
def ring_address(number, BYTES: tl.constexpr):
    """At least BYTES of shared memory, up to 32768; `number` is any scalar int32."""
    if BYTES <= 2048:
        asm: tl.constexpr = RING_2K
    elif BYTES <= 4096:
        asm: tl.constexpr = RING_4K
    elif BYTES <= 8192:
        asm: tl.constexpr = RING_8K
    elif BYTES <= 16384:
        asm: tl.constexpr = RING_16K
    else:
        tl.static_assert(BYTES <= 32768)
        asm: tl.constexpr = RING_32K
    return tl.inline_asm_elementwise(asm, "=r,r", [number], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def put_states(at, even, odd, lane, N: tl.constexpr):
    """Write two tuples of N vectors to 256 N bytes of shared memory, for `channels`; each lane its
    own. In registers they would cost a third of the warps."""
    for n in tl.static_range(0, N, 2):
        tl.inline_asm_elementwise(
            PUT_FOUR, "=r,r,f,f,f,f",
            [at + n * 256 + lane * 16, even[n], odd[n], even[n + 1], odd[n + 1]],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def four_from(at):
    """Four neighbouring float32 at an address that is a multiple of 16."""
    return tl.inline_asm_elementwise(
        FOUR, "=f,=f,=f,=f,r", [at],
        dtype=(tl.float32, tl.float32, tl.float32, tl.float32), is_pure=False, pack=1,
    )  # fmt: skip


@triton.jit
def sources_of(bases, limits, SIZES: tl.constexpr, lane):
    """Addresses of the first step's 16 bytes of each lane, a tuple of (32,) int64, one for every
    512 bytes of a slot; and how many bytes are real, 16 or 0, -1 for lanes without a copy.

    `bases` are pointers to the streams' first rows, `limits` their rows' ends in bytes (zeros are
    read beyond), SIZES the bytes they take in a slot.
    """
    sources = ()
    sizes = ()
    for j in tl.static_range(0, total_bytes(SIZES), 512):
        at = lane * 16 + j
        source = at.to(tl.int64) * 0
        size = at * 0 - 1
        for s in tl.static_range(len(SIZES)):
            mine = (at >= bytes_before(SIZES, s)) & (at < bytes_before(SIZES, s + 1))
            within = at - bytes_before(SIZES, s)
            source = tl.where(mine, bases[s].to(tl.int64) + within, source)
            size = tl.where(mine, tl.where(within < limits[s], 16, 0), size)
        sources = sources + (source,)
        sizes = sizes + (size,)
    return sources, sizes


@triton.jit
def strides_of(strides, SIZES: tl.constexpr, lane):
    """What each lane's address grows by from step to step, as `sources_of`; `strides` in bytes."""
    out = ()
    for j in tl.static_range(0, total_bytes(SIZES), 512):
        at = lane * 16 + j
        stride = at.to(tl.int64) * 0
        for s in tl.static_range(len(SIZES)):
            mine = (at >= bytes_before(SIZES, s)) & (at < bytes_before(SIZES, s + 1))
            stride = tl.where(mine, strides[s].to(tl.int64), stride)
        out = out + (stride,)
    return out


@triton.constexpr_function
def bytes_before(sizes, count):
    """Bytes of the first `count` streams of a slot."""
    return sum(sizes[:count])


@triton.constexpr_function
def total_bytes(sizes):
    """Bytes that a slot holds."""
    return sum(sizes)


@triton.jit
def send(sources, sizes, strides, target, on):
    """Start the copy of one step's rows into the slot at `target`, if `on`; returns the next step's
    addresses."""
    after = ()
    for j in tl.static_range(len(sources)):
        does = (on & (sizes[j] >= 0)).to(tl.int32)
        tl.inline_asm_elementwise(
            COPY, "=r,r,l,r,r", [target + j * 512, sources[j], tl.maximum(sizes[j], 0), does],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
        after = after + (sources[j] + strides[j],)
    tl.inline_asm_elementwise(COMMIT, "=r,r", [1], dtype=tl.int32, is_pure=False, pack=1)
    return after


@triton.jit
def send_first(sources, sizes, strides, ring, lane, steps, SLOT: tl.constexpr):
    """Start the copies of the first DEPTH - 1 steps; returns the addresses of the one after."""
    for k in tl.static_range(DEPTH - 1):
        sources = send(sources, sizes, strides, ring + k * SLOT + lane * 16, k < steps)
    return sources


@triton.jit
def turn(sources, sizes, strides, ring, lane, i, steps, SLOT: tl.constexpr):
    """Wait for step i's rows and start the copy of step i + DEPTH - 1's. Returns (addresses, the
    slot that holds step i)."""
    tl.inline_asm_elementwise(WAIT, "=r,r", [1], dtype=tl.int32, is_pure=False, pack=1)
    free = ring + ((i + DEPTH - 1) & (DEPTH - 1)) * SLOT
    sources = send(sources, sizes, strides, free + lane * 16, i + DEPTH - 1 < steps)
    return sources, ring + (i & (DEPTH - 1)) * SLOT


@triton.jit
def number(held, slot, n: tl.constexpr, STAGED: tl.constexpr):
    """Number n of the row of maps that begins a slot, and what to hold for the next one.

    Kernels ask for 0, 1, 2, ... in turn and get four with one load. Not STAGED: `held` is the whole
    row.
    """
    if STAGED:
        if n % 4 == 0:
            held = four_from(slot + 4 * n)
        return held[n % 4], held
    else:
        return held[n], held


@triton.jit
def channels(held, at, lane, n: tl.constexpr, STAGED: tl.constexpr):
    """The even and the odd channels of state n of `put_states`, and what to hold for the next one;
    as `number`. Not STAGED: `held` are the two tuples."""
    if STAGED:
        if n % 2 == 0:
            held = four_from(at + n * 256 + lane * 16)
        return held[n % 2 * 2], held[n % 2 * 2 + 1], held
    else:
        return held[0][n], held[1][n], held


@triton.jit
def pair_from(at, lane, DTYPE: tl.constexpr):
    """The even and the odd channel of each lane's pair, two float32 vectors, from the row of
    channels at `at`."""
    address = at + lane * (DTYPE.primitive_bitwidth // 4)
    if tl.bfloat16 == DTYPE:
        asm: tl.constexpr = PAIR_BF16
    elif tl.float16 == DTYPE:
        asm: tl.constexpr = PAIR_F16
    else:
        asm: tl.constexpr = PAIR_F32
    return tl.inline_asm_elementwise(
        asm, "=f,=f,r", [address], dtype=(tl.float32, tl.float32), is_pure=False, pack=1
    )
