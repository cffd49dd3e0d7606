"""The short depthwise convolutions before the scan, causal for direction 0 and anti-causal for
direction 1, packed.

A tap that would reach over a segment's border sees zero. Legend: T tokens, E channels, K taps.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lcframework.ops.bidirectional_scan.triton import why_unavailable


def distance_to_border(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """How many tokens of the same segment lie before each token (row 0) and after it (row 1): (2,
    T) int64."""
    cu = cu_seqlens.long()
    lengths = cu.diff()
    start = torch.repeat_interleave(cu[:-1], lengths, output_size=tokens)
    last = torch.repeat_interleave(cu[1:] - 1, lengths, output_size=tokens)
    time = torch.arange(tokens, device=cu.device)
    return torch.stack([time - start, last - time])


def use_triton(x: Tensor) -> bool:
    """Whether the Triton kernels serve `x`: on a GPU, in every precision but float64."""
    return x.is_cuda and x.dtype != torch.float64 and why_unavailable() is None


def bidirectional_short_conv(
    x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, activation: str | None = "silu"
) -> Tensor:
    """Convolve each channel of each segment over time, once causally and once anti-causally.

    Args:
        x: (T, E).
        weight: (2, E, K); the last tap is the token itself, the one before it its nearest neighbour
            in the past (direction 0) or in the future (direction 1), as in a causal convolution of
            the reversed segment.
        bias: (2, E).
        cu_seqlens: (S+1,) segment borders.
        activation: "silu" or None.

    Returns:
        (2, T, E) in the dtype of `x`.

    Raises:
        ValueError: shapes or an activation that do not fit.
    """
    if (
        x.ndim != 2
        or weight.ndim != 3
        or weight.shape[:2] != (2, x.shape[1])
        or bias.shape != weight.shape[:2]
    ):
        shapes = [tuple(one.shape) for one in (x, weight, bias)]
        raise ValueError(f"x, weight, bias must be (T, E), (2, E, K), (2, E), got {shapes}")
    if activation not in ("silu", None):
        raise ValueError(f"activation must be 'silu' or None, got {activation!r}")
    if use_triton(x):
        from lcframework.ops.short_conv_triton import TritonShortConv

        return TritonShortConv.apply(x, weight, bias, cu_seqlens, activation == "silu")  # type: ignore[return-value]
    tokens, taps = x.shape[0], weight.shape[2]
    room = distance_to_border(cu_seqlens, tokens)
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
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
        outputs.append(F.silu(out) if activation == "silu" else out)
    return torch.stack(outputs)
