"""The adapter of mamba-ssm's kernel: what it hands over and puts together, with a stand-in for the
kernel; the kernel itself where it is installed."""

import importlib.util

import pytest
import torch
from torch.nn import functional as F

from lcframework.ops.bidirectional_scan import bidirectional_scan
from lcframework.ops.bidirectional_scan import mamba_ssm as adapter

INSTALLED = torch.cuda.is_available() and importlib.util.find_spec("selective_scan_cuda")


def stand_in(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    """The recurrence of mamba-ssm's documentation, (batch, channels, time)."""
    step = F.softplus(delta + delta_bias[:, None]) if delta_softplus else delta
    h, outputs = torch.zeros(*u.shape[:2], A.shape[1], dtype=u.dtype), []
    for t in range(u.shape[2]):
        h = torch.exp(step[:, :, t, None] * A) * h
        h = h + (step * u)[:, :, t, None] * B[:, None, :, t]
        outputs.append((h * C[:, None, :, t]).sum(-1))
    return torch.stack(outputs, -1) + D[:, None] * u


def make(device="cpu", dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2, 20, 8), "dt": (2, 20, 8), "A": (2, 8, 4), "B": (2, 20, 4), "C": (2, 20, 4)}
    shapes |= {"D": (2, 8), "z": (20, 8), "dt_bias": (2, 8)}
    values = {name: torch.randn(*s, generator=generator) for name, s in shapes.items()}
    values["A"] = -values["A"].exp()
    return {name: one.to(device, dtype).requires_grad_() for name, one in values.items()}


def both(values, tolerance, **options):
    cu = torch.tensor([0, 1, 12, 20], dtype=torch.int32, device=values["x"].device)
    found = []
    for backend in ("mamba_ssm", "chunked"):
        y = bidirectional_scan(**values, dt_softplus=True, cu_seqlens=cu, backend=backend)
        found.append([y, *torch.autograd.grad(y.sum(), list(values.values()))])
    for one, expected in zip(*found, strict=True):
        torch.testing.assert_close(one, expected, rtol=tolerance, atol=tolerance)


def test_segments_and_directions_are_handed_over_and_put_together(monkeypatch):
    monkeypatch.setattr(adapter, "selective_scan", lambda device: stand_in)
    both(make(), 1e-4)


@pytest.mark.skipif(not INSTALLED, reason="needs mamba-ssm's CUDA extension and a GPU")
@pytest.mark.gpu
def test_the_kernel_itself():
    both(make("cuda", torch.bfloat16), 5e-2)


def test_what_it_lacks_is_refused(monkeypatch):
    values = make()
    with pytest.raises(ValueError, match="neither initial nor final states"):
        bidirectional_scan(**values, backend="mamba_ssm", return_final_states=True)
    with pytest.raises(RuntimeError, match="mamba_ssm' cannot run here"):
        bidirectional_scan(**values, backend="mamba_ssm")
