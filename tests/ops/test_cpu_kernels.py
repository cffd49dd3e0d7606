"""What the CPU kernels stand on: elementary functions, threads, kept machine code, refusals."""

import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lcframework.ops.bidirectional_scan import bidirectional_scan, dispatch
from lcframework.ops.cpu import compile as compiling
from lcframework.ops.cpu.threads import run_tasks

numba = pytest.importorskip("numba", reason="numba has no wheels for this platform")
CU = torch.tensor([0, 20, 50], dtype=torch.int32)


def arguments(tokens=50, channels=40, states=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    x, dt = draw(2, tokens, channels), draw(2, tokens, channels)
    return {
        "x": x,
        "dt": dt,
        "A": -draw(2, channels, states).abs(),
        "B": draw(2, tokens, states),
        "C": draw(2, tokens, states),
    }


def scan(**changes):
    options = {"dt_softplus": True, "cu_seqlens": CU, "backend": "numba", **changes}
    return bidirectional_scan(**{**arguments(), **options})


@pytest.fixture(scope="module")
def functions():
    from lcframework.ops.cpu import math

    @numba.njit
    def apply(values, power, soft, slope, logistic):
        for i in range(values.size):
            power[i] = math.exp2(values[i])
            soft[i], slope[i] = math.softplus(values[i])
            logistic[i] = math.sigmoid(values[i])

    return lambda values: (out := [np.empty_like(values) for _ in range(4)], apply(values, *out))[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementary_functions_are_accurate(functions, dtype):
    lowest = -125.9 if dtype == np.float32 else -1021.9
    values = np.linspace(lowest, 0, 300_001).astype(dtype)
    values = np.concatenate([values, np.linspace(-40, 40, 100_001).astype(dtype)])
    exact, wide = values.astype(np.longdouble), np.longdouble
    power, soft, slope, logistic = functions(values)
    unit = np.spacing(np.exp2(exact).astype(dtype))
    assert np.max(np.abs(power - np.exp2(exact)) / unit) < 2
    inside = exact > -80  # below, single precision has no normal results
    tiny = np.finfo(dtype).eps * np.maximum(1, np.abs(exact))  # of the exponential's argument
    # Above 20 softplus is the identity, as in torch.
    expected = np.where(exact > 20, exact, np.log1p(np.exp(exact)))
    assert np.all((np.abs(soft - expected) / expected / tiny)[inside] < 4)
    expected = 1 / (1 + np.exp(-exact))
    assert np.all((np.abs(logistic - expected) / expected / tiny)[inside] < 4)
    expected = np.where(exact > 20, wide(1), expected)
    assert np.all((np.abs(slope - expected) / expected / tiny)[inside] < 4)


def test_powers_of_two_at_the_ends(functions):
    values = np.array([0.0, -1.0, -126.0, -127.0, -1e9, -np.inf, np.nan], np.float32)
    power = functions(values)[0]
    np.testing.assert_array_equal(power, [1, 0.5, 2.0**-126, 0, 0, 0, np.nan])


def test_bfloat16_is_rounded_as_torch_does():
    from lcframework.ops.cpu.math import put, wide

    @numba.njit
    def double(bits, out):
        for i in range(bits.size):
            put(out, i, wide(bits[i]) * np.float32(1.1))

    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).bfloat16()
    values[:4] = torch.tensor([float("nan"), float("inf"), 3.38e38, -0.0])
    out = torch.empty_like(values)
    double(values.view(torch.uint16).numpy(), out.view(torch.uint16).numpy())
    torch.testing.assert_close(
        out, (values.float() * 1.1).bfloat16(), atol=0, rtol=0, equal_nan=True
    )


def test_inputs_with_gaps_and_optional_arguments():
    given = arguments()
    wide = torch.randn(50, 80)
    tensors = {"z": wide[:, 40:], "D": torch.rand(2, 40), "dt_bias": torch.rand(2, 40)}
    gaps = {
        name: value.transpose(1, 2).contiguous().transpose(1, 2) for name, value in given.items()
    }
    for names in ((), ("z",), ("D",), ("dt_bias",), ("z", "D", "dt_bias")):
        extra = {name: tensors[name] for name in names}
        leaves = {k: v.clone().requires_grad_() for k, v in {**gaps, **extra}.items()}
        if "z" in names:
            leaves["z"] = tensors["z"].requires_grad_()  # stays half of wider rows
        found = []
        for backend in ("numba", "reference"):
            y = scan(**leaves, backend=backend)
            found.append([y, *torch.autograd.grad(y.square().sum(), list(leaves.values()))])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


def test_nan_is_not_swallowed():
    for name in ("x", "dt", "A", "B", "C"):
        broken = arguments()[name]
        broken[..., 0] = float("nan")
        assert scan(**{name: broken}).isnan().any(), name


def test_only_final_states_have_a_gradient():
    x = arguments()["x"].requires_grad_()
    _, final = scan(x=x, return_final_states=True)
    (found,) = torch.autograd.grad(final.square().sum(), x)
    _, final = scan(x=x, return_final_states=True, backend="reference")
    (expected,) = torch.autograd.grad(final.square().sum(), x)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_no_states_are_kept_without_gradients(monkeypatch):
    from lcframework.ops.bidirectional_scan import numba_forward

    kernel, kept = numba_forward.scan, []

    def watched(*call):
        kept.append(call[-2].size)
        return kernel(*call)

    monkeypatch.setattr(numba_forward, "scan", watched)
    weight = arguments()["A"].requires_grad_()
    with torch.no_grad():
        scan(A=weight)
    scan()
    scan(A=weight)
    assert [bool(size) for size in kept] == [False, False, True]


def test_growth_is_refused():
    with pytest.raises(ValueError, match="A must not be positive"):
        scan(A=arguments()["A"].neg())
    with pytest.raises(ValueError, match="dt must not be negative"):
        scan(dt_softplus=False)
    steps = F.softplus(arguments()["dt"])
    torch.testing.assert_close(scan(dt=steps, dt_softplus=False), scan())


def test_a_second_derivative_is_refused():
    x = arguments()["x"].requires_grad_()
    (grad,) = torch.autograd.grad(scan(x=x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_tensors_elsewhere_are_refused():
    given = {name: value.to("meta") for name, value in arguments().items()}
    with pytest.raises(RuntimeError, match="the tensors are on meta"):
        bidirectional_scan(**given, backend="numba")


def test_auto_does_without_numba_and_says_so(monkeypatch):
    monkeypatch.setattr(compiling, "_looked", [])
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    x = torch.zeros(1)
    with pytest.warns(UserWarning, match="plain PyTorch is used: .* not installed"):
        assert dispatch.choose_backend("auto", x) == "chunked"
    with pytest.raises(RuntimeError, match="pip install numba"):
        scan()


def test_every_task_runs_once_and_an_error_arrives():
    done, threads = [], torch.get_num_threads()

    def work(first, last):
        done.extend(range(first, last))
        if 30 in done:
            raise MemoryError("no room")

    try:
        torch.set_num_threads(3)
        run_tasks(lambda first, last: done.extend(range(first, last)), 29)
        assert sorted(done) == list(range(29))
        with pytest.raises(MemoryError, match="no room"):
            run_tasks(work, 64)
    finally:
        torch.set_num_threads(threads)


def test_calls_from_several_threads_at_once():
    expected, threads = scan(), torch.get_num_threads()
    start = threading.Barrier(4)

    def call(_):
        torch.set_num_threads(2)
        start.wait()
        return [scan() for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        found = [y for several in pool.map(call, range(4)) for y in several]
    torch.set_num_threads(threads)
    assert all(torch.equal(y, expected) for y in found)


def test_machine_code_is_kept_where_possible(monkeypatch, tmp_path):
    def double(values):
        for i in range(values.size):
            values[i] *= 2

    values = np.ones(3)
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    with pytest.warns(UserWarning, match="Set NUMBA_CACHE_DIR"):
        compiling.kernel(double)(values)
    assert values.tolist() == [2, 2, 2]


def test_a_full_disk_costs_a_warning():
    calls = []

    def kernel(value):
        calls.append(value)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")

    with pytest.warns(UserWarning, match="No space left"):
        compiling.launch(kernel, 5)
    assert calls == [5, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiling.launch(kernel, 6)


PROCESS = """
import sys, os, torch
from lcframework.ops.bidirectional_scan import bidirectional_scan
from lcframework.models.lcplm.model import LCPLM
assert "numba" not in sys.modules and "torch._dynamo" not in sys.modules
torch.set_num_threads(2)
x = torch.randn(2, 400, 130)
def scan():
    B = x[..., :4].contiguous()
    return bidirectional_scan(x, x, -torch.ones(2, 130, 4), B, B, dt_softplus=True)
expected = scan()
from lcframework.ops.bidirectional_scan.numba_forward import scan as kernel
loaded, compiled = (sum(one.values()) for one in kernel.stats[1:])
print("loaded", loaded, "compiled", compiled)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(scan(), expected) else 3)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this platform cannot fork")
def test_another_process_loads_the_machine_code_and_may_fork():
    scan()  # compiled and kept by now
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "loaded 1 compiled 0" in done.stdout
    assert "child 0" in done.stdout
