"""The short convolutions in PyTorch, one tap after the other: any device, and the reference of the
CPU kernels."""

import torch
from torch import Tensor
from torch.nn import functional as F


def distance_to_border(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """How many tokens of the same segment lie before each token (row 0) and after it (row 1): (2,
    T) int64."""
    cu = cu_seqlens.long()
    lengths = cu.diff()
    start = torch.repeat_interleave(cu[:-1], lengths, output_size=tokens)
    last = torch.repeat_interleave(cu[1:] - 1, lengths, output_size=tokens)
    time = torch.arange(tokens, device=cu.device)
    return torch.stack([time - start, last - time])


def conv_by_taps(x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, silu: bool) -> Tensor:
    """Arguments and result as `bidirectional_short_conv`, weights in the dtype of `x`."""
    tokens, taps = x.shape[0], weight.shape[2]
    room = distance_to_border(cu_seqlens, tokens)
    outputs = []
    for direction in (0, 1):
        out = torch.addcmul(bias[direction], x, weight[direction, :, -1])
        for back in range(1, min(taps, tokens)):
            tap = weight[direction, :, taps - 1 - back]
            inside = (room[direction] >= back).unsqueeze(1)
            if direction == 0:
                part = (x[:-back] * inside[back:]) * tap
                out = out + F.pad(part, (0, 0, back, 0))
            else:
                part = (x[back:] * inside[:-back]) * tap
                out = out + F.pad(part, (0, 0, 0, back))
        outputs.append(F.silu(out) if silu else out)
    return torch.stack(outputs)
