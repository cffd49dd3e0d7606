"""The short depthwise convolutions before the scan, causal for direction 0 and anti-causal for
direction 1, packed.

A tap that would reach over a segment's border sees zero. Legend: T tokens, E channels, K taps.
"""

from torch import Tensor

from lcframework.ops.bidirectional_scan.triton import check_runnable, serves
from lcframework.ops.cpu.compile import usable
from lcframework.ops.short_conv.numba import conv_numba
from lcframework.ops.short_conv.taps import conv_by_taps
from lcframework.ops.short_conv.triton import TritonShortConv

BACKENDS = ("auto", "triton", "numba", "torch")


def bidirectional_short_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    cu_seqlens: Tensor,
    activation: str | None = "silu",
    backend: str = "auto",
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
        backend: "auto" (Triton on a GPU, Numba on the CPU, else PyTorch), "triton", "numba" or
            "torch".

    Returns:
        (2, T, E) in the dtype of `x`.

    Raises:
        ValueError: shapes, an activation or a backend that do not fit.
        RuntimeError: a backend that cannot run here.
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
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")
    if backend == "auto":
        backend = _choose(x)
    if backend == "triton":
        check_runnable(x)
        return TritonShortConv.apply(x, weight, bias, cu_seqlens, activation == "silu")  # type: ignore[return-value]
    if backend == "numba":
        return conv_numba(x, weight, bias, cu_seqlens, activation == "silu")
    return conv_by_taps(x, weight.to(x.dtype), bias.to(x.dtype), cu_seqlens, activation == "silu")


def _choose(x: Tensor) -> str:
    """The backend that "auto" means for `x`."""
    if serves(x):
        return "triton"
    return "numba" if usable(x.device) else "torch"
