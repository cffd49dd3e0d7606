"""Our scan, in each of its two directions, against numbers from mamba-ssm's reference."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lcframework.ops.bidirectional_scan import bidirectional_scan

GOLDEN = Path(__file__).parents[1] / "fixtures" / "selective_scan_golden.safetensors"
NAMES = {
    "u": "x",
    "delta": "dt",
    "A": "A",
    "B": "B",
    "C": "C",
    "D": "D",
    "z": "z",
    "delta_bias": "dt_bias",
}


def ours(golden, direction, backend):
    """Run one direction, the other one silenced; returns (out (B, D, L), last state, gradients by
    mamba-ssm's names)."""
    batch, _, length = golden["u"].shape
    sources = {name: golden[name].clone().requires_grad_() for name in NAMES}

    def packed(value):  # (B, X, L) -> (B L, X), time reversed for the backward direction
        value = value.flip(2) if direction == 1 else value
        return value.transpose(1, 2).flatten(0, 1)

    def both(value):  # the other direction gets zeros
        pair = [torch.zeros_like(value), torch.zeros_like(value)]
        pair[direction] = value
        return torch.stack(pair)

    arguments = {}
    for theirs, name in NAMES.items():
        value = packed(sources[theirs]) if sources[theirs].ndim == 3 else sources[theirs]
        arguments[name] = value if name == "z" else both(value)
    cu_seqlens = torch.arange(0, batch * length + 1, length, dtype=torch.int32)
    y, final = bidirectional_scan(
        **arguments,
        dt_softplus=True,
        cu_seqlens=cu_seqlens,
        return_final_states=True,
        backend=backend,
    )
    out = y.view(batch, length, -1).transpose(1, 2)
    out = out.flip(2) if direction == 1 else out
    grads = torch.autograd.grad((out * golden["weight"]).sum(), list(sources.values()))
    return out, final[direction], dict(zip(sources, grads, strict=True))


@pytest.mark.parametrize("backend", ["numba", "chunked", "reference"])
@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "reverse"])
def test_matches_mamba_ssm(direction, backend):
    golden = load_file(GOLDEN)
    out, last_state, grads = ours(golden, direction, backend)
    torch.testing.assert_close(out, golden["out"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last_state, golden["last_state"], atol=1e-5, rtol=1e-5)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, golden[f"grad_{name}"], atol=2e-5, rtol=2e-5)
