"""The CPU scans against the step-by-step reference: outputs, final states and every gradient."""

import pytest
import torch

from lcframework.ops.bidirectional_scan import bidirectional_scan

FAST = pytest.mark.parametrize("backend", ["numba", "chunked"])
PACKS = {
    "one-token": [0, 1],
    "two": [0, 2],
    "odd": [0, 3],
    "63": [0, 63],
    "64": [0, 64],
    "65": [0, 65],
    "130": [0, 130],
    "ragged": [0, 1, 2, 9, 72, 73, 200, 201],
    "ends-with-one": [0, 40, 41],
}


def make(cu, channels=5, states=3, dtype=torch.float64, initial=True, seed=0):
    """Random arguments of the scan that require gradients."""
    generator = torch.Generator().manual_seed(seed)
    T, S = cu[-1], len(cu) - 1

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    values = {
        "x": draw(2, T, channels),
        "dt": draw(2, T, channels),
        "A": -torch.exp(draw(2, channels, states)),
        "B": draw(2, T, states),
        "C": draw(2, T, states),
        "D": draw(2, channels),
        "z": draw(T, channels),
        "dt_bias": draw(2, channels),
    }
    if initial:
        values["initial_states"] = draw(2, S, channels, states)
    return {name: value.to(dtype).requires_grad_() for name, value in values.items()}


def run(values, cu, backend, **options):
    """(y, final states, gradient of each argument) under fixed random output gradients."""
    borders = torch.tensor(cu, dtype=torch.int32)
    y, final = bidirectional_scan(
        **values,
        dt_softplus=True,
        cu_seqlens=borders,
        return_final_states=True,
        backend=backend,
        **options,
    )
    generator = torch.Generator().manual_seed(9)
    weights = [
        torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in (y, final)
    ]
    loss = (y.double() * weights[0]).sum() + (final.double() * weights[1]).sum()
    grads = torch.autograd.grad(loss, list(values.values()))
    return {"y": y, "final": final, **dict(zip(values, grads, strict=True))}


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        scale = value.double().abs().max().clamp(min=1.0)
        error = (found[name].double() - value.double()).abs().max() / scale
        assert error < tolerance, f"{name}: relative error {error:.2e}"


def exactly(values):
    """The same numbers in float64."""
    return {name: value.detach().double().requires_grad_() for name, value in values.items()}


@FAST
@pytest.mark.parametrize("initial", [False, True], ids=["zero", "initial"])
@pytest.mark.parametrize("cu", PACKS.values(), ids=PACKS.keys())
def test_equals_reference_in_float64(cu, initial, backend):
    values = make(cu, initial=initial)
    assert_close(run(values, cu, backend), run(values, cu, "reference"), 1e-12)


@FAST
@pytest.mark.parametrize(("channels", "states"), [(1, 1), (33, 16), (64, 7), (130, 24)])
def test_equals_reference_in_float32(channels, states, backend):
    cu = [0, 7, 150, 151]
    values = make(cu, channels, states, torch.float32)
    assert_close(run(values, cu, backend), run(exactly(values), cu, "reference"), 2e-5)


@FAST
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_equals_reference_in_half_precision(dtype, backend):
    cu = [0, 30, 100]
    values = make(cu, channels=66, dtype=dtype)
    exact = exactly(values)
    found = run(values, cu, backend)
    assert found["y"].dtype == dtype
    assert found["final"].dtype == torch.float32
    assert_close(found, run(exact, cu, "reference"), 2e-2)


@FAST
def test_gradcheck(backend):
    cu = torch.tensor([0, 4, 5, 11], dtype=torch.int32)
    values = make(cu.tolist(), channels=2, states=2)

    def call(*arguments):
        return bidirectional_scan(
            **dict(zip(values, arguments, strict=True)),
            dt_softplus=True,
            cu_seqlens=cu,
            return_final_states=True,
            backend=backend,
        )

    assert torch.autograd.gradcheck(call, tuple(values.values()))


def test_groups_of_lanes_do_not_change_the_result(monkeypatch):
    cu = [0, 100, 333]
    values = make(cu)
    whole = run(values, cu, "chunked")
    monkeypatch.setattr("lcframework.ops.bidirectional_scan.chunked.GROUP_ELEMENTS", 40)
    assert_close(run(values, cu, "chunked"), whole, 1e-12)


@FAST
def test_segments_do_not_see_each_other(backend):
    cu = [0, 20, 50]
    values = make(cu, initial=False)
    x = values["x"].detach().clone()
    x[:, 20:] = 1e6
    borders = torch.tensor(cu, dtype=torch.int32)
    options = {"dt_softplus": True, "cu_seqlens": borders, "backend": backend}
    before = bidirectional_scan(**values, **options)
    after = bidirectional_scan(**{**values, "x": x}, **options)
    assert torch.equal(before[:20], after[:20])


@FAST
def test_two_runs_give_the_same_bits(backend):
    cu = [0, 17, 300]
    values = make(cu, 16, 16, torch.float32)
    first, second = run(values, cu, backend), run(values, cu, backend)
    assert all(torch.equal(first[name], second[name]) for name in first)


@FAST
@pytest.mark.parametrize("step", [1e-6, 1e-2, 1.0, 1e3])
def test_finite_for_extreme_steps_over_a_giant_protein(step, backend):
    T, E, N = 33_000, 4, 16
    generator = torch.Generator().manual_seed(3)
    x, B, C = (torch.randn(2, T, n, generator=generator) for n in (E, N, N))
    A = -torch.arange(1.0, N + 1).expand(2, E, N).contiguous()
    dt = torch.full((2, T, E), step)
    arguments = [one.requires_grad_() for one in (x, dt, A, B, C)]
    y = bidirectional_scan(*arguments, backend=backend)
    grads = torch.autograd.grad(y.sum(), arguments)
    assert all(bool(torch.isfinite(one).all()) for one in (y, *grads))


def test_wrong_arguments_are_named():
    values = make([0, 6], initial=False)
    with pytest.raises(ValueError, match=r"B must have shape \(2, 6, 3\)"):
        bidirectional_scan(**{**values, "B": values["B"][:, :5]})
    with pytest.raises(ValueError, match="rise strictly from 0 to T=6"):
        bidirectional_scan(**values, cu_seqlens=torch.tensor([0, 4, 4, 6], dtype=torch.int32))
    with pytest.raises(ValueError, match="rise strictly"):
        bidirectional_scan(**values, cu_seqlens=torch.tensor([0, 5], dtype=torch.int32))
    with pytest.raises(ValueError, match="backend must be one of"):
        bidirectional_scan(**values, backend="cuda-magic")
    with pytest.raises(TypeError, match="dt must be a float"):
        bidirectional_scan(**{**values, "dt": torch.zeros(2, 6, 5, dtype=torch.int64)})


@FAST
@pytest.mark.parametrize("step", [1e-6, 1e3])
def test_extreme_steps_equal_the_reference(step, backend):
    values = make([0, 90, 100], channels=3, states=16, initial=False)
    values = {name: values[name] for name in ("x", "dt", "A", "B", "C")}
    values["dt"] = torch.full_like(values["dt"], step).requires_grad_()
    found = []
    for name in (backend, "reference"):
        y = bidirectional_scan(**values, backend=name)
        grads = torch.autograd.grad(y.sum(), list(values.values()))
        found.append({"y": y, **dict(zip(values, grads, strict=True))})
    assert_close(*found, 1e-12)


@FAST
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_number_of_threads_does_not_change_the_result(mode, backend):
    values, cu = make([0, 20, 50], 130), torch.tensor([0, 20, 50], dtype=torch.int32)
    outputs, threads = [], torch.get_num_threads()
    options = {"dt_softplus": True, "cu_seqlens": cu, "backend": backend}
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            with mode():
                outputs.append(bidirectional_scan(**values, **options).detach())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outputs)


@FAST
def test_gradients_with_two_threads(backend):
    values, cu, threads = make([0, 700, 1500], 130, 4), [0, 700, 1500], torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(run(values, cu, backend))
    finally:
        torch.set_num_threads(threads)
    if backend == "numba":  # torch cuts its sums by the number of threads
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert_close(*found, 1e-12)


def test_debug_mode_names_what_is_not_finite():
    values = {name: one.detach() for name, one in make([0, 6], initial=False).items()}
    values["dt"][1, 4, 2] = torch.nan
    bidirectional_scan(**values, dt_softplus=True, backend="chunked")
    with (
        torch.autograd.set_detect_anomaly(True),
        pytest.raises(ValueError, match=r"dt is not finite at \(1, 4, 2\)"),
    ):
        bidirectional_scan(**values, dt_softplus=True, backend="chunked")
