"""The CPU kernels of the bidirectional scan against the same recurrence in plain PyTorch.

Three peers: the loop over `unbind` that references publish, the leanest eager loop, and the chunked
form. And the short convolutions before the scan against their PyTorch form.

Run: python benchmarks/scan_cpu.py. Bars: 10x the loop at B=4, L=1024, E=512, N=16 in fp32, extra
    memory at most 0.3 GB.
"""

import ctypes
import resource
import threading
import time
from pathlib import Path

import torch
from harness import Row, compare, median_seconds, write_results
from torch import Tensor

from lcframework.ops.bidirectional_scan import bidirectional_scan
from lcframework.ops.short_conv import bidirectional_short_conv

Values = dict[str, Tensor]


def make(tokens: int, channels: int, states: int, dtype: torch.dtype) -> Values:
    """Random arguments of the scan, float32 parameters, gradients wanted."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    values = {name: draw(2, tokens, channels).to(dtype) for name in ("x", "dt")}
    values |= {name: draw(2, tokens, states).to(dtype) for name in ("B", "C")}
    values["A"] = -torch.arange(1.0, states + 1).expand(2, channels, states).contiguous()
    return {name: value.requires_grad_() for name, value in values.items()}


def _directions(values: Values, batch: int, recurrence) -> Tensor:
    """Sum of both directions' outputs (T, E), `batch` equal segments side by side."""
    total = None
    for direction in (0, 1):
        x, dt, B, C = (
            values[name][direction].float().unflatten(0, (batch, -1))
            for name in ("x", "dt", "B", "C")
        )
        if direction == 1:
            x, dt, B, C = (one.flip(1) for one in (x, dt, B, C))
        y = recurrence(x, torch.nn.functional.softplus(dt), values["A"][direction], B, C)
        y = (y.flip(1) if direction == 1 else y).flatten(0, 1)
        total = y if total is None else total + y
    assert total is not None
    return total


def plain_loop(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The form of the published references: decays and inputs of all steps first (B, L, E, N),
    then a loop over their `unbind`."""
    decay = torch.exp(torch.einsum("ble,en->blen", dt, A))
    entering = torch.einsum("ble,bln,ble->blen", dt, B, x)
    h, outputs = torch.zeros_like(decay[:, 0]), []
    for decay_t, entering_t, C_t in zip(
        decay.unbind(1), entering.unbind(1), C.unbind(1), strict=True
    ):
        h = decay_t * h + entering_t
        outputs.append(torch.einsum("ben,bn->be", h, C_t))
    return torch.stack(outputs, 1)


def lean_loop(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The best eager loop we know: nothing of size (B, L, E, N) is built before the loop."""
    h, outputs = x.new_zeros(x.shape[0], *A.shape), []
    for x_t, dt_t, B_t, C_t in zip(*(one.unbind(1) for one in (x, dt, B, C)), strict=True):
        h = torch.exp(dt_t[..., None] * A) * h + (dt_t * x_t)[..., None] * B_t[:, None]
        outputs.append((h * C_t[:, None]).sum(-1))
    return torch.stack(outputs, 1)


def step(function, values: Values) -> None:
    """Forward and backward."""
    torch.autograd.grad(function().float().sum(), list(values.values()))


def ours(values: Values, borders: list[int], backend: str = "numba"):
    cu_seqlens = torch.tensor(borders, dtype=torch.int32)
    return lambda: bidirectional_scan(
        values["x"],
        values["dt"],
        values["A"],
        values["B"],
        values["C"],
        dt_softplus=True,
        cu_seqlens=cu_seqlens,
        backend=backend,
    )


def resident_gb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9


def extra_memory_gb(function) -> float:
    """Highest resident memory during `function()` above the one before it, sampled every
    millisecond."""
    function()  # threads and code pages of a first call are not the scan's need
    ctypes.CDLL(None).malloc_trim(0)  # nor may it live on what the allocator kept of that call
    before, peak, stop = resident_gb(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.is_set():
            peak = max(peak, resident_gb())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    function()
    stop.set()
    watcher.join()
    return peak - before


def measure(dtype: torch.dtype) -> list[Row]:
    """Ours against the three peers at the size of the bar."""
    batch, length, channels, states = 4, 1024, 512, 16
    tokens = batch * length
    values = make(tokens, channels, states, dtype)
    borders = [length * i for i in range(batch + 1)]
    call = ours(values, borders)
    name = (
        f"forward+backward, both directions, B={batch} L={length} E={channels} N={states} {dtype}"
    )
    fast = tokens / median_seconds(lambda: step(call, values), repeats=7, warmup=2)
    rows = []
    for peer, recurrence, bar in (("plain loop", plain_loop, 10), ("lean loop", lean_loop, None)):
        slow = tokens / median_seconds(
            lambda form=recurrence: step(lambda: _directions(values, batch, form), values),
            repeats=2,
        )
        limit = None if bar is None else bar * slow
        rows.append(compare(name, "throughput", "tokens/s", fast, peer, slow, limit))
    chunked = ours(values, borders, "chunked")
    slow = tokens / median_seconds(lambda: step(chunked, values), repeats=5)
    rows.append(compare(name, "throughput", "tokens/s", fast, "chunked", slow))
    ours_gb = extra_memory_gb(lambda: step(call, values))
    peer_gb = extra_memory_gb(lambda: step(lambda: _directions(values, batch, plain_loop), values))
    metric = "extra memory, gradients included"
    return [*rows, compare(name, metric, "GB", ours_gb, "plain loop", peer_gb, 0.3)]


def measure_conv() -> Row:
    """The short convolutions of both directions with SiLU."""
    tokens, channels, taps = 4096, 512, 4
    generator = torch.Generator().manual_seed(0)
    shapes = [(tokens, channels), (2, channels, taps), (2, channels)]
    x, weight, bias = (torch.randn(*one, generator=generator).requires_grad_() for one in shapes)
    cu_seqlens = torch.tensor([0, 1024, 2048, 3072, tokens], dtype=torch.int32)

    def seconds(backend: str) -> float:
        def call() -> None:
            y = bidirectional_short_conv(x, weight, bias, cu_seqlens, backend=backend)
            torch.autograd.grad(y.sum(), (x, weight, bias))

        return median_seconds(call, repeats=7, warmup=2)

    name = f"short convolutions, forward+backward, {tokens} tokens, E={channels} K={taps}"
    fast, slow = (tokens / seconds(backend) for backend in ("numba", "torch"))
    return compare(name, "throughput", "tokens/s", fast, "PyTorch, tap by tap", slow)


def main() -> None:
    rows = measure(torch.float32) + measure(torch.bfloat16)
    tokens, channels, states = 4096, 256, 16
    values = make(tokens, channels, states, torch.float32)
    call = ours(values, [0, 50, 250, 1250, 1251, 3000, tokens])
    fast = tokens / median_seconds(lambda: step(call, values), repeats=5)
    name = f"forward+backward, ragged pack of {tokens} tokens, E={channels} N={states}"
    rows += [Row(name, "throughput", "tokens/s", fast), measure_conv()]
    write_results("scan_cpu", rows)


if __name__ == "__main__":
    main()
