"""The packed convolutions against torch's own, segment by segment."""

import pytest
import torch
from torch.nn import functional as F

from lcframework.ops.short_conv import bidirectional_short_conv
from lcframework.ops.short_conv import triton as kernels

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


BOTH = pytest.mark.parametrize("backend", ["numba", "torch"])


def make(tokens, channels, taps, dtype=torch.float64):
    """x, which is half of wider rows as in a block, weight and bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(tokens, 2 * channels), (2, channels, taps), (2, channels)]
    values = [torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes]
    values[0] = values[0][:, channels:]
    return [one.to(dtype).requires_grad_() for one in values]


@BOTH
@pytest.mark.parametrize(("channels", "taps"), [(5, 1), (5, 2), (70, 4), (5, 7)])
@pytest.mark.parametrize("cu", [[0, 1], [0, 3], [0, 2, 3, 4, 11, 30], [0, 33, 97, 200]])
def test_equals_conv1d_of_each_segment_with_gradients(cu, channels, taps, backend):
    values = make(cu[-1], channels, taps)
    found = bidirectional_short_conv(*values, torch.tensor(cu, dtype=torch.int32), backend=backend)
    expected = by_segments(*values, cu)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    grads = [torch.autograd.grad((one * weights).sum(), values) for one in (found, expected)]
    torch.testing.assert_close(grads[0], grads[1])


@BOTH
def test_no_activation_and_gradcheck(backend):
    values, cu = make(9, 3, 4), torch.tensor([0, 4, 9], dtype=torch.int32)
    plain = bidirectional_short_conv(*values, cu, None, backend=backend)
    active = bidirectional_short_conv(*values, cu, backend=backend)
    torch.testing.assert_close(F.silu(plain), active)
    for activation in (None, "silu"):
        assert torch.autograd.gradcheck(
            lambda *v, a=activation: bidirectional_short_conv(*v, cu, a, backend=backend), values
        )


@BOTH
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)]
)
def test_other_precisions(dtype, tolerance, backend):
    cu = torch.tensor([0, 40, 100], dtype=torch.int32)
    values = make(100, 65, 4, dtype)
    exact = [one.detach().double().requires_grad_() for one in values]
    found = bidirectional_short_conv(*values, cu, backend=backend)
    expected = bidirectional_short_conv(*exact, cu, backend="torch")
    assert found.dtype == dtype
    pairs = [(found, expected)]
    pairs += zip(
        torch.autograd.grad(found.sum(), values),
        torch.autograd.grad(expected.sum(), exact),
        strict=True,
    )
    for one, other in pairs:
        scale = other.abs().max()
        torch.testing.assert_close(one.double() / scale, other / scale, atol=tolerance, rtol=0)


def test_number_of_threads_does_not_change_the_bits():
    values, cu = make(1500, 130, 4, torch.float32), torch.tensor([0, 700, 1500], dtype=torch.int32)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            y = bidirectional_short_conv(*values, cu, backend="numba")
            found.append([y, *torch.autograd.grad(y.square().sum(), values)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("cu", [[0, 4], [1, 3], [0, 2, 1, 3]])
def test_borders_outside_the_pack_are_refused(cu):
    with pytest.raises(ValueError, match="must rise from 0 to T=3"):
        bidirectional_short_conv(*make(3, 2, 4), torch.tensor(cu), backend="numba")


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend must be one of"):
        bidirectional_short_conv(*make(3, 2, 4), torch.tensor([0, 3]), backend="cudnn")


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
