"""The scan's kernels under NVIDIA's compute-sanitizer: accesses out of bounds and races, for every
choice of registers, whole and cut segments, the scan alone and in a block.

Run: python benchmarks/scan_sanitizer.py (needs `compute-sanitizer`). Sizes are small, because the
sanitizer slows every access down. `errors` must be 0."""

import argparse
import re
import shutil
import subprocess
import sys

import torch
from harness import Row, write_results

from lcframework.ops.bidirectional_scan.tiles import (
    BACKWARD_REGISTERS,
    FORWARD_REGISTERS,
    Costs,
    Tiles,
    forced,
)
from lcframework.ops.bidirectional_scan.triton import scan_triton
from lcframework.ops.bimamba_inner import bimamba_inner

CUT, WHOLE = Costs(1e9, 1e9, 0.0), Costs(0.0, 0.0, 0.0)
TOOLS = ("memcheck", "racecheck")


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, device="cuda").to(dtype).requires_grad_()


def borders(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths], device="cuda").cumsum(0).int()


def scan(lengths: list[int], channels: int, dtype: torch.dtype) -> None:
    """Forward and backward pass of the scan alone; `channels` that are no multiple of a tile."""
    tokens = sum(lengths)
    values = {
        "x": draw(2, tokens, channels, dtype=dtype),
        "dt": draw(2, tokens, channels, dtype=dtype),
        "A": (-torch.rand(2, channels, 16, device="cuda")).requires_grad_(),
        "B": draw(2, tokens, 16, dtype=dtype),
        "C": draw(2, tokens, 16, dtype=dtype),
        "D": draw(2, channels),
        "z": draw(tokens, channels, dtype=dtype),
        "dt_bias": draw(2, channels),
    }
    y, _ = scan_triton(
        **values, dt_softplus=True, cu_seqlens=borders(lengths), initial_states=None,
        want_finals=False, max_len=max(lengths),
    )  # fmt: skip
    torch.autograd.grad(y.float().sum(), list(values.values()))


def block(lengths: list[int], channels: int) -> None:
    """Forward and backward pass of what lies between a block's projections."""
    rank, states, tokens = 8, 16, sum(lengths)
    y = bimamba_inner(
        draw(tokens, 2 * channels, dtype=torch.bfloat16),
        draw(2, channels, 4), draw(2, channels), draw(2, rank + 2 * states, channels),
        draw(2, channels, rank), draw(2, channels),
        (-torch.rand(2, channels, states, device="cuda")).requires_grad_(), draw(2, channels),
        borders(lengths), max(lengths),
    )  # fmt: skip
    y.backward(torch.randn_like(y))


def workload() -> None:
    for forward, backward in (
        (FORWARD_REGISTERS[0], BACKWARD_REGISTERS[0]),
        (FORWARD_REGISTERS[-1], BACKWARD_REGISTERS[-1]),
    ):
        for costs in (WHOLE, CUT):
            with forced(Tiles((forward,), (backward,), costs, costs)):
                scan([600, 1, 33], 192, torch.bfloat16)
        with forced(Tiles((forward,), (backward,), WHOLE, WHOLE)):
            scan([70, 1, 33], 100, torch.float32)
            block([70, 1, 33], 192)
    torch.cuda.synchronize()


def errors_found(tool: str) -> int:
    """What compute-sanitizer's `tool` counts over the workload.

    Raises:
        RuntimeError: the workload did not end; what was printed is in the message.
    """
    command = ["compute-sanitizer", "--tool", tool, sys.executable, __file__, "--workload"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    found = re.search(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)", text)
    if found is None or "workload done" not in text:
        raise RuntimeError(f"compute-sanitizer --tool {tool} did not end well:\n{text[-4000:]}")
    if int(found[1]):
        print(text[-4000:])
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", action="store_true", help="what the sanitizer runs")
    if parser.parse_args().workload:
        workload()
        print("workload done")
        return
    if shutil.which("compute-sanitizer") is None:
        raise SystemExit("compute-sanitizer is not on the PATH.")
    rows = [
        Row("scan and block, small packs", tool, "errors", errors_found(tool), limit=0)
        for tool in TOOLS
    ]
    write_results("scan_sanitizer", rows)


if __name__ == "__main__":
    main()
