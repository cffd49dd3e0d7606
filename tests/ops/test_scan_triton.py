"""The Triton scan against the step-by-step reference: outputs, final states and every gradient.

On a GPU at full size, on a CPU in Triton's interpreter at small ones.
"""

import pytest
import torch

from lcframework.ops.bidirectional_scan import bidirectional_scan, kernel_call, work_items
from lcframework.ops.bidirectional_scan import triton as host
from lcframework.ops.bidirectional_scan.tiles import (
    BACKWARD_REGISTERS,
    FORWARD_REGISTERS,
    Costs,
    Tiles,
    forced,
)

CUDA = torch.cuda.is_available()
pytest.importorskip("triton", reason="triton has no wheels for this platform")
DEVICE = "cuda" if CUDA else "cpu"
PACKS = {
    "one-token": [0, 1],
    "two": [0, 2],
    "63": [0, 63],
    "64": [0, 64],
    "65": [0, 65],
    "ragged": [0, 1, 2, 9, 72, 73, 80],
}
LARGE = {"1000": [0, 1000], "4097": [0, 4097], "mix": [0, 1, 130, 131, 1131, 6000, 6064]}
COSTS = Costs(1.2, 1.8, 0.5)


@pytest.fixture(autouse=True)
def few_registers():
    """What serves full GPUs; small packs would take more, which has a test of its own."""
    with forced(Tiles(FORWARD_REGISTERS[:1], BACKWARD_REGISTERS[:1], COSTS, COSTS)):
        yield


def make(cu, channels, states, dtype, initial, seed=0):
    generator = torch.Generator().manual_seed(seed)
    T, S = cu[-1], len(cu) - 1

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    values = {
        "x": draw(2, T, channels).to(dtype),
        "dt": (draw(2, T, channels) - 1).to(dtype),
        "A": -torch.exp(draw(2, channels, states)),
        "B": draw(2, T, states).to(dtype),
        "C": draw(2, T, states).to(dtype),
        "D": draw(2, channels),
        "z": draw(T, channels).to(dtype),
        "dt_bias": draw(2, channels),
    }
    if initial:
        values["initial_states"] = draw(2, S, channels, states)
    return values


def run(values, cu, backend, dtype=None, softplus=True):
    cast = {
        name: (value.to(dtype) if dtype else value).to(DEVICE).requires_grad_()
        for name, value in values.items()
    }
    y, final = bidirectional_scan(
        **cast,
        dt_softplus=softplus,
        cu_seqlens=torch.tensor(cu, dtype=torch.int32, device=DEVICE),
        return_final_states=True,
        backend=backend,
    )
    generator = torch.Generator().manual_seed(9)
    weights = [torch.randn(one.shape, generator=generator).to(one.device) for one in (y, final)]
    loss = (y * weights[0].to(y.dtype)).sum() + (final * weights[1]).sum()
    grads = torch.autograd.grad(loss, list(cast.values()))
    return {"y": y, "final": final, **dict(zip(cast, grads, strict=True))}


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        scale = value.double().abs().max().clamp(min=1e-3)
        error = (found[name].double() - value.double()).abs().max() / scale
        assert error < tolerance, f"{name}: relative error {error:.2e}"


def compare(cu, channels, states, dtype, initial, tolerance, exact="reference", softplus=True):
    values = make(cu, channels, states, dtype, initial)
    if not softplus:
        values["dt"] = values["dt"].abs()
        values["dt_bias"] = values["dt_bias"].abs()
    expected = run(values, cu, exact, torch.float64, softplus)
    assert_close(run(values, cu, "triton", softplus=softplus), expected, tolerance)


@pytest.mark.parametrize("name", PACKS)
def test_equals_reference(name):
    initial = name in ("one-token", "63", "ragged")
    compare(PACKS[name], 5, 3, torch.float32, initial, 2e-5)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_channels_over_several_tiles_and_segments_over_several_items(split, monkeypatch):
    monkeypatch.setattr(kernel_call, "SPAN", 4)
    if split:
        monkeypatch.setattr(work_items, "lengths_for", lambda *_: (14, 8))
    compare([0, 20, 21, 30], 70, 3, torch.float32, True, 2e-5)


@pytest.mark.parametrize("cu", [[0, 20, 21], [0, 1], [0, 2, 5]], ids=str)
def test_directions_that_meet_on_a_token_or_between_two(cu):
    compare(cu, 66, 3, torch.float32, True, 2e-5)


def test_without_softplus():
    compare([0, 20], 3, 2, torch.float32, False, 2e-5, softplus=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    compare([0, 4, 12], 8, 16, dtype, False, 2e-2)


@pytest.mark.skipif(not CUDA, reason="full sizes need a GPU; the interpreter is too slow")
@pytest.mark.gpu
@pytest.mark.parametrize("cu", LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("channels", [64, 200])
def test_full_size(cu, channels):
    compare(cu, channels, 16, torch.float32, True, 1e-4, exact="chunked")


@pytest.mark.skipif(not CUDA, reason="asynchronous copies and tensor cores need a GPU")
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [192, 200, 36])
def test_every_precision_with_rows_that_are_aligned_or_not(dtype, channels):
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    compare(LARGE["mix"], channels, 16, dtype, True, tolerance, exact="chunked")


@pytest.mark.skipif(not CUDA, reason="compiled forms need a GPU")
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("initial", [False, True])
def test_with_more_registers(dtype, initial):
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    with forced(Tiles(FORWARD_REGISTERS[1:], BACKWARD_REGISTERS[1:], COSTS, COSTS)):
        compare(LARGE["mix"], 192, 16, dtype, initial, tolerance, exact="chunked")


@pytest.mark.skipif(not CUDA, reason="full sizes need a GPU; the interpreter is too slow")
@pytest.mark.gpu
def test_a_protein_of_33000_and_equal_bits():
    values = make([0, 33_000], 128, 16, torch.bfloat16, False)
    first, second = (run(values, [0, 33_000], "triton") for _ in range(2))
    for name, value in first.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("magnitude", [1e-6, 1e3])
def test_extreme_steps_stay_finite(magnitude):
    values = make([0, 8], 4, 16, torch.float32, False)
    values["dt"] = torch.full_like(values["dt"], magnitude)
    values["dt_bias"] = torch.zeros_like(values["dt_bias"])
    found = run(values, [0, 8], "triton", softplus=False)
    assert all(torch.isfinite(value).all() for value in found.values())


def test_float64_is_refused():
    values = make([0, 3], 2, 2, torch.float32, False)
    with pytest.raises(TypeError, match="float64"):
        run(values, [0, 3], "triton", torch.float64)


def test_where_it_cannot_run_it_says_why(monkeypatch):
    monkeypatch.setattr(host, "why_unavailable", lambda: "because of the test")
    values = make([0, 3], 2, 2, torch.float32, False)
    with pytest.raises(RuntimeError, match="cannot run here: because of the test"):
        run(values, [0, 3], "triton")
