"""The fused branch norm against torch's, value and gradients; in Triton's interpreter on a CPU."""

import pytest
import torch
from torch.nn import functional as F

from lcframework.ops.rms_norm import branch_norm
from lcframework.ops.rms_norm.triton import TritonBranchNorm

pytest.importorskip("triton", reason="triton has no wheels for this platform")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def results(function, x, weight, pull, push):
    x, weight = (one.detach().clone().requires_grad_() for one in (x, weight))
    normed, through = function(x, weight)
    loss = (normed.float() * pull).sum()
    if push is not None:
        loss = loss + (through * push).sum()
    return normed, *torch.autograd.grad(loss, (x, weight))


@pytest.mark.parametrize("shape", [(1, 1), (3, 32), (7, 100), (65, 48)])
@pytest.mark.parametrize("both", [True, False])
def test_equals_torch(shape, both):
    torch.manual_seed(0)
    x, pull, push = (torch.randn(shape, device=DEVICE) for _ in range(3))
    weight = torch.randn(shape[1], device=DEVICE)
    eps = 1e-5

    def plain(x, weight):
        return F.rms_norm(x, weight.shape, weight, eps), x

    def fused(x, weight):
        return TritonBranchNorm.apply(x, weight, eps, torch.float32)

    given = (x, weight, pull, push if both else None)
    for found, expected in zip(results(fused, *given), results(plain, *given), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_rounds_the_norm_only():
    x = torch.randn(5, 64, device=DEVICE)
    weight = torch.rand(64, device=DEVICE)
    normed, through = TritonBranchNorm.apply(x, weight, 1e-5, torch.bfloat16)
    assert normed.dtype == torch.bfloat16
    assert torch.equal(through, x)
    torch.testing.assert_close(
        normed.float(), F.rms_norm(x, (64,), weight, 1e-5), rtol=1e-2, atol=1e-2
    )


def test_a_cpu_takes_torchs_own():
    x, weight = torch.randn(3, 8, requires_grad=True), torch.rand(8)
    normed, through = branch_norm(x, weight, 1e-5)
    assert torch.equal(normed, F.rms_norm(x, (8,), weight, 1e-5))
    assert through is x


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_autocast_sets_the_precision_on_a_gpu():
    x = torch.randn(300, 768, device="cuda", requires_grad=True)
    weight = torch.rand(768, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert branch_norm(x, weight, 1e-5)[0].dtype == torch.bfloat16
    assert branch_norm(x, weight, 1e-5)[0].dtype == torch.float32
