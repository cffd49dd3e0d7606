"""The selective scan as it is defined, one step at a time: slow, obvious, the oracle of every
faster path.

Legend: T tokens of the pack, S segments, E channels, N states. Source: Gu & Dao 2023 (Mamba),
    equations 2 and 3 with the
discretisation B_bar = dt B; two directions as in LC-PLM (arXiv 2411.08909, section 3).
"""

import torch
from torch import Tensor


def scan_segment(
    x_LE: Tensor, dt_LE: Tensor, A_EN: Tensor, B_LN: Tensor, C_LN: Tensor, h_EN: Tensor
) -> tuple[Tensor, Tensor]:
    """Scan one segment forward in time.

    Args:
        x_LE: input.
        dt_LE: step sizes, non-negative.
        A_EN: negative decay rates.
        B_LN: input map.
        C_LN: output map.
        h_EN: state before the first step.

    Returns:
        (y (L, E), state after the last step (E, N)).
    """
    outputs = []
    for x_E, dt_E, B_N, C_N in zip(x_LE, dt_LE, B_LN, C_LN, strict=True):
        h_EN = torch.exp(dt_E[:, None] * A_EN) * h_EN + (dt_E * x_E)[:, None] * B_N
        outputs.append(h_EN @ C_N)
    return torch.stack(outputs), h_EN


def scan_reference(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    initial_states: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Both directions over packed segments; arguments as `chunked.scan_chunked`, in any floating
    dtype.

    Returns:
        (y (2, T, E), final states (2, S, E, N)).
    """
    bounds = cu_seqlens.tolist()
    state = (
        x.new_zeros(2, len(bounds) - 1, x.shape[2], A.shape[2])
        if initial_states is None
        else initial_states
    )
    outputs, finals = [], []
    for direction in (0, 1):
        parts, ends = [], []
        for segment, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            pieces = [one[direction, start:stop] for one in (x, dt, B, C)]
            if direction == 1:
                pieces = [one.flip(0) for one in pieces]
            y, h = scan_segment(
                pieces[0], pieces[1], A[direction], pieces[2], pieces[3], state[direction, segment]
            )
            parts.append(y.flip(0) if direction == 1 else y)
            ends.append(h)
        outputs.append(torch.cat(parts))
        finals.append(torch.stack(ends))
    return torch.stack(outputs), torch.stack(finals)
