"""The bidirectional selective scan on the CPU: the autograd function around the Numba kernels.

Legend: T tokens, S segments, E channels, N states, P pieces.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lcframework.ops.cpu.compile import refuse_unless_usable
from lcframework.ops.cpu.plan import TILE, Plan, applied, flat, sum_in_order, view

LOG2_E = 1.4426950408889634


class _NumbaScan(torch.autograd.Function):
    """Gated sum of both directions with their skips (T, E), and final states (2, S, E, N) or None.

    x, dt, z share one dtype; the others have the recurrence's. `keep`: whether a backward pass may
    follow.
    """

    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, bias, z, initial, cu_seqlens, softplus, finals, keep):
        from lcframework.ops.bidirectional_scan.numba_forward import BLOCK, scan

        (_, T, E), N, S = x.shape, A.shape[2], cu_seqlens.numel() - 1
        plan = Plan.of(cu_seqlens, T, E, BLOCK, 2 * N)
        summed, out = A.new_empty(T, E), x.new_empty(0, 0)
        if x.dtype != A.dtype or (z is not None and keep):
            out = x.new_empty(T, E)
        elif z is not None:
            out = summed  # gated in place: only the backward pass needs the sum again
        kept = A.new_empty((2, plan.blocks, plan.tiles, N, TILE) if keep else (0,) * 5)
        final = A.new_empty((2, S, N, E) if finals else (0,) * 4)
        given = _given(x, dt, A, B, C, D, bias, z, initial, softplus)
        plan.run(scan, given, *(view(one) for one in (summed, out, kept, final)))
        if keep:
            ungated = A.new_empty(0, 0) if z is None else summed
            ctx.save_for_backward(x, dt, A, B, C, D, bias, z, initial, ungated, kept)
            ctx.settings = (plan, softplus)
        return out if out.numel() else summed, final.transpose(2, 3) if finals else None

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out, grad_finals):  # type: ignore[override]
        from lcframework.ops.bidirectional_scan.numba_backward import Wanted, scan_gradients

        x, dt, A, B, C, D, bias, z, initial, ungated, kept = ctx.saved_tensors
        plan, softplus = ctx.settings
        (_, T, E), N = x.shape, A.shape[2]
        d_finals = A.new_empty((0,) * 4)
        if grad_finals is not None:
            d_finals = grad_finals.transpose(2, 3).contiguous()
        dx, ddt = torch.empty_like(x), torch.empty_like(dt)
        dz = x.new_empty((0, 0) if z is None else (T, E))
        dB, dC = (A.new_empty(plan.tiles, 2, T, N) for _ in range(2))
        dA = A.new_empty(plan.pieces, 2, N, E)
        d_bias, d_skip = (A.new_empty(plan.pieces, 2, E) for _ in range(2))
        d_initial = A.new_empty((0,) * 4 if initial is None else (2, initial.shape[1], N, E))
        read = (grad_out.contiguous(), ungated, kept, d_finals)
        filled = (dx, ddt, dz, dB, dC, dA, d_bias, d_skip, d_initial)
        given = _given(x, dt, A, B, C, D, bias, z, initial, softplus)
        wanted = Wanted(*(view(one) for one in filled))
        plan.run(scan_gradients, given, *(view(one) for one in read), wanted)
        dA, dB, dC, d_bias, d_skip = (sum_in_order(one) for one in (dA, dB, dC, d_bias, d_skip))
        d_z = None if z is None else dz
        d_start = None if initial is None else d_initial.transpose(2, 3)
        grads = (dx, ddt, dA.transpose(1, 2), dB, dC, d_skip, d_bias, d_z, d_start)
        return *grads, None, None, None, None


def _given(x, dt, A, B, C, D, bias, z, initial, softplus):
    """Arguments of the kernels."""
    from lcframework.ops.bidirectional_scan.numba_forward import Given

    rate = (A.transpose(1, 2) * LOG2_E).contiguous()
    start = A.new_empty((0,) * 4) if initial is None else initial.transpose(2, 3).contiguous()
    gate, stride = (view(x.new_empty(0)), -1) if z is None else flat(z)
    arrays = (view(one) for one in (x, dt, B, C, rate, bias, D))
    return Given._make([*arrays, gate, stride, view(start), softplus])


def scan_numba(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    cu_seqlens: Tensor,
    initial_states: Tensor | None,
    want_finals: bool,
) -> tuple[Tensor, Tensor | None]:
    """Both directions over packed segments; step activation, skips, sum and gate fused.

    Args:
        x, dt: (2, T, E) bfloat16, float32 or float64; float16 is computed in float32.
        A: (2, E, N) not positive; B, C: (2, T, N); D, dt_bias: (2, E) or None; z: (T, E) or None.
        dt_softplus: apply softplus to dt + dt_bias.
        cu_seqlens: (S+1,) segment borders.
        initial_states: (2, S, E, N) or None.
        want_finals: whether to return the final states.

    Returns:
        (gated sum of the directions (T, E), final states (2, S, E, N) or None).

    Raises:
        RuntimeError: the kernels cannot run here; the message says why.
        ValueError: rates or steps that are not decays.
    """
    refuse_unless_usable(x.device)
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    given = [one.dtype for one in (x, dt, z) if one is not None]
    narrow = x.dtype if set(given) in ({torch.bfloat16}, {real}) else real
    step, zeros = dt.to(narrow).contiguous(), x.new_zeros(A.shape[:2], dtype=real)
    _refuse_growth(A, step, dt_bias, dt_softplus)
    inputs = (
        x.to(narrow).contiguous(),
        step,
        A.to(real),
        B.to(real).contiguous(),
        C.to(real).contiguous(),
        zeros if D is None else D.to(real).contiguous(),
        zeros if dt_bias is None else dt_bias.to(real).contiguous(),
        None if z is None else z.to(narrow),
        None if initial_states is None else initial_states.to(real),
    )
    wanted = any(one is not None and one.requires_grad for one in inputs)
    keep = wanted and torch.is_grad_enabled()
    return applied(_NumbaScan, *inputs, cu_seqlens, dt_softplus, want_finals, keep)


def _refuse_growth(A: Tensor, dt: Tensor, dt_bias: Tensor | None, softplus: bool) -> None:
    """The kernels' exponential is one of decays: far above zero it is wrong, not infinite."""
    if bool((A > 0).any()):
        raise ValueError("A must not be positive: it holds decay rates.")
    if softplus:
        return
    step = dt if dt_bias is None else dt + dt_bias[:, None]
    if bool((step < 0).any()):
        raise ValueError("dt must not be negative where dt_softplus is False: it holds step sizes.")
