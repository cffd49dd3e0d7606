"""The bidirectional selective scan on the GPU: work items, launches and the autograd function.

A pack is cut into work items, pieces of one segment of at most `item_steps` tokens. Where a segment
has several items, a first launch finds what each contributes to its last state, a second one walks
over the items' borders; the main launch then starts every item from its true state. The host never
waits for the device: grids are sized by an upper bound and empty items return at once.

Legend: T tokens, S segments, E channels, N states (NP rows, a power of two), I work items.
"""

import functools
import importlib.util
import os
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 16
"""Steps between two states that the forward pass keeps for the backward pass."""
WANTED_PROGRAMS = 2048
SHORTEST_ITEM, LONGEST_ITEM = 256, 4096
FORWARD_TILE, BACKWARD_TILE = 64, 64
"""Channels of one program, one warp each."""
FORWARD_STAGES, BACKWARD_STAGES = 5, 3
"""Steps whose inputs are under way while one is computed, plus one."""


@functools.cache
def why_unavailable() -> str | None:
    """None where the kernels can run, else the reason in one sentence."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (pip install triton)"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA GPU (on a CPU the kernels run only with TRITON_INTERPRET=1)"
    if torch.cuda.get_device_capability() < (8, 0):
        return f"the GPU {torch.cuda.get_device_name()} is older than compute capability 8.0"
    return None


@dataclass(frozen=True)
class Items:
    """The work items of one pack, on its device.

    Attributes:
        count: I, an upper bound; items beyond the last are empty.
        n_blocks: upper bound of kept states per direction.
        bounds: (I, 2) int64 first token and the one after the last.
        links: (I, 2) int32, whether the segment goes on before and after the item in the pack.
        blocks: (I,) index of the item's first kept state.
        first: (S+1,) first item of each segment.
        split: whether a segment may have several items.
    """

    count: int
    n_blocks: int
    bounds: Tensor
    links: Tensor
    blocks: Tensor
    first: Tensor
    split: bool

    @classmethod
    def of(cls, cu_seqlens: Tensor, tokens: int, channels: int) -> "Items":
        """Cut segments so that about WANTED_PROGRAMS programs run, without asking the device."""
        segments = cu_seqlens.numel() - 1
        tiles = 2 * -(-channels // FORWARD_TILE)
        missing = max(1, -(-WANTED_PROGRAMS // tiles) - segments)
        steps = max(SHORTEST_ITEM, min(LONGEST_ITEM, -(-tokens // missing)))
        steps = -(-steps // BLOCK) * BLOCK
        cu = cu_seqlens.long()
        pieces = (cu.diff() + steps - 1) // steps
        first = torch.cat([pieces.new_zeros(1), pieces.cumsum(0)])
        count = tokens // steps + segments
        index = torch.arange(count, device=cu.device)
        segment = torch.searchsorted(first[1:].contiguous(), index, right=True)
        segment = segment.clamp(max=segments - 1)
        start = cu[segment] + (index - first[segment]) * steps
        end = cu[segment + 1]
        stop = torch.minimum(start + steps, end)
        start = torch.minimum(start, stop)
        links = torch.stack([start > cu[segment], stop < end], 1).int()
        kept = (stop - start + BLOCK - 1) // BLOCK
        return cls(
            count,
            tokens // BLOCK + count,
            torch.stack([start, stop], 1).contiguous(),
            links.contiguous(),
            kept.cumsum(0) - kept,
            first,
            tokens > steps,
        )


@dataclass(frozen=True)
class Sizes:
    """What every launch of one call shares."""

    T: int
    E: int
    N: int
    NP: int
    fast: bool

    @classmethod
    def of(cls, x: Tensor, A: Tensor) -> "Sizes":
        """Sizes of x (2, T, E) and A (2, E, N)."""
        states = A.shape[2]
        padded = 1 << (states - 1).bit_length()
        return cls(x.shape[1], x.shape[2], states, padded, x.is_cuda)

    def grid(self, items: int, tile: int) -> tuple[int, int, int]:
        """Work items x channel tiles x directions."""
        return items, -(-self.E // tile), 2

    def states(self, like: Tensor, count: int) -> Tensor:
        """Room for `count` states per direction: (2, count, NP, E) float32."""
        return like.new_empty(2, count, self.NP, self.E, dtype=torch.float32)


def _padded(states_2SEN: Tensor, sizes: Sizes) -> Tensor:
    """(2, S, E, N) -> (2, S, NP, E) float32."""
    rows = states_2SEN.transpose(2, 3).float()
    return torch.nn.functional.pad(rows, (0, 0, 0, sizes.NP - sizes.N)).contiguous()


def _unpadded(states: Tensor, sizes: Sizes) -> Tensor:
    """(2, S, NP, E) -> (2, S, E, N)."""
    return states[:, :, : sizes.N].transpose(2, 3)


def _rates(A: Tensor, sizes: Sizes) -> Tensor:
    """A log2(e) as (2, NP, E)."""
    return _padded(A[:, None] * 1.4426950408889634, sizes)[:, 0].contiguous()


class _TritonScan(torch.autograd.Function):
    """Sum of both directions with their skips (T, E), and final states (2, S, E, N) or None."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, bias, initial, cu_seqlens, softplus, want_finals):
        from lcframework.ops.bidirectional_scan import triton_kernels as kernels

        sizes, items = Sizes.of(x, A), Items.of(cu_seqlens, x.shape[1], x.shape[2])
        rate = _rates(A, sizes)
        start = None if initial is None else _padded(initial, sizes)
        count, dummy = items.count, rate
        last = sizes.states(x, count)
        total = x.new_empty(2, count, sizes.E, dtype=torch.float32)
        y = torch.empty_like(x)
        needs_grad = any(ctx.needs_input_grad)
        saved = sizes.states(x, items.n_blocks) if needs_grad else dummy
        enter = items.split or start is not None
        entering = sizes.states(x, count) if enter else dummy

        def scan(output: bool) -> None:
            kernels.scan_kernel[sizes.grid(count, FORWARD_TILE)](
                x, dt, bias, rate, B, C, D, y, saved, entering, last, total,
                items.bounds, items.links, items.blocks,
                sizes.T, sizes.E, sizes.N, count, items.n_blocks,
                SOFTPLUS=softplus, OUTPUT=output, ENTER=output and enter,
                SAVE=output and needs_grad, NP=sizes.NP, BE=FORWARD_TILE, BLOCK=BLOCK,
                STAGES=FORWARD_STAGES, FAST=sizes.fast, num_warps=1,  # type: ignore[call-arg]
            )  # fmt: skip

        if items.split:
            scan(output=False)
        if enter:
            _cross_borders(last, total, rate, start, entering, items, sizes, backward=False)
        scan(output=True)
        ctx.save_for_backward(x, dt, B, C, D, bias, saved, rate)
        ctx.settings = (sizes, items, softplus, initial is not None)
        summed = y[0] + y[1]
        if not want_finals:
            return summed, None
        final = torch.stack([last[0, items.first[1:] - 1], last[1, items.first[:-1]]])
        return summed, _unpadded(final, sizes)

    @staticmethod
    def backward(ctx, grad_y, grad_finals):  # type: ignore[override]
        from lcframework.ops.bidirectional_scan import triton_backward as kernels

        x, dt, B, C, D, bias, saved, rate = ctx.saved_tensors
        sizes, items, softplus, has_initial = ctx.settings
        dy = grad_y.contiguous()
        end = None if grad_finals is None else _padded(grad_finals, sizes)
        leaving = _leaving_adjoints(kernels, dt, bias, rate, C, dy, end, items, sizes, softplus)
        grid = sizes.grid(items.count, BACKWARD_TILE)
        dx, ddt = torch.empty_like(x), torch.empty_like(dt)
        shares = x.new_empty(2, grid[1], 2, sizes.T, sizes.N, dtype=torch.float32)
        d_rate, arriving = sizes.states(x, items.count), sizes.states(x, items.count)
        d_rate.zero_()  # empty items write nothing
        d_bias, d_skip = (
            x.new_zeros(2, items.count, sizes.E, dtype=torch.float32) for _ in range(2)
        )
        programs = grid[0] * grid[1] * grid[2]
        # Half-precision inputs do not need the replayed states in float32, and they fill the cache.
        kept_dtype = torch.float32 if x.dtype == torch.float32 else torch.bfloat16
        scratch = x.new_empty(programs * BLOCK, sizes.NP, BACKWARD_TILE, dtype=kept_dtype)
        kernels.gradient_kernel[grid](
            x, dt, bias, rate, B, C, D, dy, saved, rate if leaving is None else leaving, scratch,
            dx, ddt, shares[0], shares[1], d_rate, d_bias, d_skip, arriving,
            items.bounds, items.blocks, sizes.T, sizes.E, sizes.N, items.count, items.n_blocks,
            SOFTPLUS=softplus, LEAVE=leaving is not None, NP=sizes.NP, BE=BACKWARD_TILE,
            BLOCK=BLOCK, STAGES=BACKWARD_STAGES, FAST=sizes.fast, num_warps=1,  # type: ignore[call-arg]
        )  # fmt: skip
        dB, dC = shares.sum(1)  # float32, as B and C came in
        dA = d_rate.sum(1)[:, : sizes.N].transpose(1, 2)
        d_initial = None
        if has_initial:
            first, final = items.first[:-1], items.first[1:] - 1
            d_initial = _unpadded(torch.stack([arriving[0, first], arriving[1, final]]), sizes)
        grads = (dx, ddt, dA, dB, dC, d_skip.sum(1), d_bias.sum(1))
        return *grads, d_initial, None, None, None


def _leaving_adjoints(kernels, dt, bias, rate, C, dy, end, items, sizes, softplus):
    """Adjoint of the state that leaves each item (2, I, NP, E); None where it is zero."""
    if not items.split and end is None:
        return None
    own, leaving = sizes.states(dt, items.count), sizes.states(dt, items.count)
    total = dt.new_empty(2, items.count, sizes.E, dtype=torch.float32)
    if items.split:
        kernels.adjoint_kernel[sizes.grid(items.count, FORWARD_TILE)](
            dt, bias, rate, C, dy, own, total, items.bounds, items.links,
            sizes.T, sizes.E, sizes.N, items.count,
            SOFTPLUS=softplus, NP=sizes.NP, BE=FORWARD_TILE, STAGES=FORWARD_STAGES, FAST=sizes.fast,
            num_warps=1,  # type: ignore[call-arg]
        )  # fmt: skip
    _cross_borders(own, total, rate, end, leaving, items, sizes, backward=True)
    return leaving


def _cross_borders(own, total, rate, start, entering, items, sizes, backward) -> None:
    """Fill `entering` (2, I, NP, E); see `border_kernel`."""
    from lcframework.ops.bidirectional_scan import triton_kernels as kernels

    segments = items.first.numel() - 1
    kernels.border_kernel[sizes.grid(segments, FORWARD_TILE)](
        own, total, rate, rate if start is None else start, entering, items.first,
        items.count, segments, sizes.E,
        START=start is not None, BACKWARD=backward, NP=sizes.NP, BE=FORWARD_TILE,
        FAST=sizes.fast, num_warps=1,  # type: ignore[call-arg]
    )  # fmt: skip


def scan_triton(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    cu_seqlens: Tensor,
    initial_states: Tensor | None,
    want_finals: bool,
) -> tuple[Tensor, Tensor | None]:
    """Both directions over packed segments, skips and step activation fused.

    Args:
        x, dt: (2, T, E) float16, bfloat16 or float32.
        A: (2, E, N); B, C: (2, T, N); D, dt_bias: (2, E) or None.
        dt_softplus: apply softplus to dt + dt_bias.
        cu_seqlens: (S+1,) on the device of `x`.
        initial_states: (2, S, E, N) or None.
        want_finals: whether to return the final states.

    Returns:
        (sum of the directions (T, E) in the dtype of x, final states (2, S, E, N) float32 or
        None).

    Raises:
        RuntimeError: the kernels cannot run here; the message says why.
        TypeError: float64 inputs.
    """
    reason = why_unavailable()
    if reason is not None:
        raise RuntimeError(f"backend='triton' cannot run here: {reason}.")
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError(
            "backend='triton' cannot run here: the tensors are on the CPU. Move them to the GPU, "
            "or use backend='auto', which takes the CPU kernels there."
        )
    if x.dtype == torch.float64:
        raise TypeError("backend='triton' has no float64; use backend='chunked'.")
    zeros = A.new_zeros(A.shape[:2], dtype=torch.float32)
    # B and C are small: in float32 the kernels can fetch them ahead without conversions.
    inputs = (one.contiguous() for one in (x, dt, A.float(), B.float(), C.float()))
    return _TritonScan.apply(  # type: ignore[misc]
        *inputs,
        zeros if D is None else D.float().contiguous(),
        zeros if dt_bias is None else dt_bias.float().contiguous(),
        initial_states,
        cu_seqlens,
        dt_softplus,
        want_finals,
    )
