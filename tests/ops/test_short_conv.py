"""The packed convolutions against torch's own, segment by segment."""

import pytest
import torch
from torch.nn import functional as F

from lcframework.ops import short_conv_triton as kernels
from lcframework.ops.short_conv import bidirectional_short_conv

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def by_segments(x, weight, bias, cu):
    """Causal conv1d of each segment, and of each reversed segment."""
    taps, outputs = weight.shape[2], []
    for direction in (0, 1):
        parts = []
        for start, stop in zip(cu[:-1], cu[1:], strict=True):
            piece = x[start:stop].flip(0) if direction else x[start:stop]
            padded = F.pad(piece.T[None], (taps - 1, 0))
            out = F.conv1d(padded, weight[direction][:, None], bias[direction], groups=x.shape[1])[
                0
            ].T
            parts.append(F.silu(out.flip(0) if direction else out))
        outputs.append(torch.cat(parts))
    return torch.stack(outputs)


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("cu", [[0, 1], [0, 3], [0, 2, 3, 4, 11, 30]])
def test_equals_conv1d_of_each_segment_with_gradients(cu, taps):
    generator = torch.Generator().manual_seed(0)
    shapes = [(cu[-1], 5), (2, 5, taps), (2, 5)]
    values = [
        torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes
    ]
    found = bidirectional_short_conv(*values, torch.tensor(cu, dtype=torch.int32))
    expected = by_segments(*values, cu)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    grads = [torch.autograd.grad((one * weights).sum(), values) for one in (found, expected)]
    torch.testing.assert_close(grads[0], grads[1])


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"got \[\(3, 5\)"):
        bidirectional_short_conv(
            torch.zeros(3, 5), torch.zeros(2, 4, 4), torch.zeros(2, 4), torch.tensor([0, 3])
        )


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("cu", [[0, 1], [0, 3], [0, 2, 3, 4, 11, 30, 70]])
def test_triton_kernels_on_rows_that_lie_apart(cu, taps, monkeypatch):
    pytest.importorskip("triton", reason="triton has no wheels for this platform")
    monkeypatch.setattr(kernels, "CHUNK", 16)
    generator = torch.Generator().manual_seed(0)
    shapes = [(cu[-1], 10), (2, 5, taps), (2, 5)]
    wide, *parameters = (
        torch.randn(*s, generator=generator).to(DEVICE).requires_grad_() for s in shapes
    )
    values = [wide[:, 5:], *parameters]
    borders = torch.tensor(cu, dtype=torch.int32, device=DEVICE)
    found = kernels.TritonShortConv.apply(*values, borders, True)
    expected = by_segments(*values, cu)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(found.shape, generator=generator).to(DEVICE)
    leaves = [wide, *parameters]
    grads = [torch.autograd.grad((one * weights).sum(), leaves) for one in (found, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)
