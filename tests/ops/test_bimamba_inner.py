"""The fused middle of a BiMamba-S block against the same block op by op: outputs and every
gradient."""

import pytest
import torch

from lcframework.models.lcplm.block import BiMambaS

CUDA = torch.cuda.is_available()
pytest.importorskip("triton", reason="triton has no wheels for this platform")
DEVICE = "cuda" if CUDA else "cpu"


def gradients(backend, cu, d_model, dtype=torch.float32, amp=False):
    torch.manual_seed(0)
    mixer = BiMambaS(d_model, 4 if not CUDA else 16, 4, 2, 3, 1, backend).to(DEVICE, dtype)
    u, weight = (torch.randn(cu[-1], d_model).to(DEVICE, dtype) for _ in range(2))
    u.requires_grad_()
    borders = torch.tensor(cu, dtype=torch.int32, device=DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=amp):
        y = mixer(u, borders)
    (y * weight).sum().backward()
    found = {"y": y.detach(), "u": u.grad}
    return found | {name: one.grad for name, one in mixer.named_parameters()}


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        error = (found[name].double() - value.double()).norm() / value.double().norm()
        assert error < tolerance, f"{name}: relative error {error:.2e}"


def test_equals_op_by_op():
    cu = [0, 1, 12, 20]
    assert_close(gradients("triton", cu, 6), gradients("chunked", cu, 6, torch.float64), 1e-4)


@pytest.mark.skipif(not CUDA, reason="full sizes need a GPU; the interpreter is too slow")
@pytest.mark.gpu
@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "bf16-mixed"])
@pytest.mark.parametrize("cu", [[0, 5000], [0, 1, 130, 131, 1131, 6000, 6064]])
def test_full_size(cu, amp):
    exact = gradients("chunked", cu, 96, torch.float64)
    assert_close(gradients("triton", cu, 96, amp=amp), exact, 4e-2 if amp else 1e-3)


def test_torch_compile_takes_the_operator_whole():
    torch.manual_seed(0)
    mixer = BiMambaS(6, 4, 4, 2, 3, 1, "triton").to(DEVICE)
    u = torch.randn(20, 6, device=DEVICE)
    cu = torch.tensor([0, 7, 20], dtype=torch.int32, device=DEVICE)
    compiled = torch.compile(mixer, fullgraph=True, backend="inductor" if CUDA else "aot_eager")
    found, expected = (one(u, cu) for one in (compiled, mixer))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    parameters = list(mixer.parameters())
    grads = [torch.autograd.grad(one.sum(), parameters) for one in (found, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)


def test_wrong_borders_are_refused():
    mixer = BiMambaS(6, 4, 4, 2, 3, 1, "triton").to(DEVICE)
    u = torch.randn(20, 6, device=DEVICE)
    for borders in ([0, 7, 19], [0, 7, 7, 20], [1, 20]):
        with pytest.raises(ValueError, match="rise strictly from 0 to T=20"):
            mixer(u, torch.tensor(borders, dtype=torch.int32, device=DEVICE))
