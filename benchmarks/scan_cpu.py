"""The chunked bidirectional scan against the same recurrence as a loop over `unbind`, on the CPU.

Run: python benchmarks/scan_cpu.py. Bars: 10x the loop at B=4, L=1024, E=512, N=16 in fp32, extra
    memory at most 0.3 GB.
"""

import resource
import threading
import time
from pathlib import Path

import torch
from harness import Row, compare, median_seconds, write_results
from torch import Tensor

from lcframework.ops.bidirectional_scan import bidirectional_scan

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


def loop(values: Values, batch: int) -> Tensor:
    """Both directions, `batch` equal segments side by side, one autograd node per step and
    operation."""
    total = None
    for direction in (0, 1):
        x, dt, B, C = (
            values[name][direction].float().unflatten(0, (batch, -1))
            for name in ("x", "dt", "B", "C")
        )
        if direction == 1:
            x, dt, B, C = (one.flip(1) for one in (x, dt, B, C))
        dt = torch.nn.functional.softplus(dt)
        h = x.new_zeros(batch, x.shape[2], B.shape[2])
        outputs = []
        for x_t, dt_t, B_t, C_t in zip(*(one.unbind(1) for one in (x, dt, B, C)), strict=True):
            decay = torch.exp(dt_t[..., None] * values["A"][direction])
            h = decay * h + (dt_t * x_t)[..., None] * B_t[:, None]
            outputs.append((h * C_t[:, None]).sum(-1))
        y = torch.stack(outputs, 1)
        y = (y.flip(1) if direction == 1 else y).flatten(0, 1)
        total = y if total is None else total + y
    assert total is not None
    return total


def step(function, values: Values) -> None:
    """Forward and backward."""
    torch.autograd.grad(function().float().sum(), list(values.values()))


def ours(values: Values, borders: list[int]):
    cu_seqlens = torch.tensor(borders, dtype=torch.int32)
    return lambda: bidirectional_scan(
        values["x"],
        values["dt"],
        values["A"],
        values["B"],
        values["C"],
        dt_softplus=True,
        cu_seqlens=cu_seqlens,
    )


def resident_gb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9


def extra_memory_gb(function) -> float:
    """Highest resident memory during `function()` above the one before it, sampled every
    millisecond."""
    function()  # what the allocator keeps from a first call is not the scan's need
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


def main() -> None:
    batch, length, channels, states = 4, 1024, 512, 16
    tokens = batch * length
    borders = [length * i for i in range(batch + 1)]
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        values = make(tokens, channels, states, dtype)
        sizes = f"B={batch} L={length} E={channels} N={states} {dtype}"
        name = f"forward+backward, both directions, {sizes}"
        call = ours(values, borders)
        fast = tokens / median_seconds(lambda call=call, v=values: step(call, v), repeats=5)
        slow = tokens / median_seconds(
            lambda v=values: step(lambda: loop(v, batch), v), repeats=2, warmup=1
        )
        rows.append(
            compare(name, "throughput", "tokens/s", fast, "loop over unbind", slow, 10 * slow)
        )
        memory = extra_memory_gb(lambda call=call, v=values: step(call, v))
        rows.append(Row(name, "extra memory, gradients included", "GB", memory, limit=0.3))
    ragged = [0, 50, 250, 1250, 1251, 3000, 4096]
    values = make(tokens, 256, states, torch.float32)
    fast = tokens / median_seconds(lambda: step(ours(values, ragged), values), repeats=5)
    rows.append(
        Row(f"the same, ragged pack of {tokens} tokens, E=256", "throughput", "tokens/s", fast)
    )
    write_results("scan_cpu", rows)


if __name__ == "__main__":
    main()
