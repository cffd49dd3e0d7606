"""What binds the Triton scan on a GPU: hardware counters of its three kernels, read by Nsight
Compute, and where the time of a training step goes.

Run: python benchmarks/scan_profile.py (needs `ncu`). Shares are percent of what the unit can do
while the kernel runs; `limit` is 100. The counters come with a replay of each kernel, so the times
of the other benchmarks are not taken here."""

import argparse
import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Iterable

import torch
from bidirectional_scan import SHAPES, make
from harness import Row, write_results

from lcframework.ops.bidirectional_scan.triton import scan_triton

KERNELS = ("scan_kernel", "replay_kernel", "adjoint_kernel")
COUNTERS = {
    "smsp__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active": ("special-function unit", "%"),
    "smsp__issue_active.avg.pct_of_peak_sustained_active": ("issue slots", "%"),
    "smsp__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active": ("multiply-add pipe", "%"),
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": ("memory bandwidth", "%"),
    "smsp__warps_active.avg.per_cycle_active": ("warps per quarter", "warps"),
    "launch__registers_per_thread": ("registers per thread", "registers"),
}
GROUPS = {
    "scan": (
        "scan_kernel",
        "replay_kernel",
        "adjoint_kernel",
        "contribution",
        "border",
        "gate_",
        "maps_kernel",
        "parameters_kernel",
    ),
    "convolutions": ("conv_",),
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma"),
    "norms": ("norm_",),
    "optimizer": ("adam", "multi_tensor"),
}


def once(index: int) -> None:
    """Forward and backward pass of one shape, to be profiled."""
    _, lengths, channels = SHAPES[index]
    values, borders = make(lengths, channels)
    for value in values.values():
        value.requires_grad_()
    y, _ = scan_triton(
        **values, dt_softplus=True, cu_seqlens=borders, initial_states=None, want_finals=False,
        max_len=max(lengths),
    )  # fmt: skip
    torch.autograd.grad(y, list(values.values()), torch.randn_like(y))
    torch.cuda.synchronize()


def counters(index: int) -> list[Row]:
    """Rows of the three kernels at one shape.

    Raises:
        RuntimeError: Nsight Compute failed; its words are in the message.
    """
    command = [
        "ncu", "--clock-control", "none", "--csv", "--page", "raw",
        "-k", f"regex:{'|'.join(KERNELS)}", "--launch-count", str(len(KERNELS)),
        "--metrics", ",".join(COUNTERS),
        sys.executable, __file__, "--once", str(index),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Nsight Compute failed:\n{done.stdout}\n{done.stderr}")
    return list(counter_rows(SHAPES[index][0], done.stdout))


def counter_rows(case: str, text: str) -> Iterable[Row]:
    """Rows from Nsight Compute's CSV: a line of names, one of units, one per kernel."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    names, _, *kernels = csv.reader(io.StringIO("\n".join(lines)))
    for kernel in kernels:
        found = dict(zip(names, kernel, strict=True))
        name = next(one for one in KERNELS if one in found["Kernel Name"])
        for counter, (metric, unit) in COUNTERS.items():
            value = float(found[counter].replace(",", ""))
            limit = 100.0 if unit == "%" else None
            yield Row(f"{case}, {name}", metric, unit, value, limit=limit)


def step_rows() -> list[Row]:
    """Milliseconds of one training step at 64 x 512 and d768 x 24, by group of kernels."""
    import lcplm_training as training
    from torch.profiler import ProfilerActivity, profile

    case = training.cases()[0]
    step = training.training_step(training.ours, case)
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        step()
        torch.cuda.synchronize()
    times = dict.fromkeys([*GROUPS, "everything else"], 0.0)
    for event in found.key_averages():
        name = event.key.lower()
        group = next((g for g, parts in GROUPS.items() if any(p in name for p in parts)), None)
        times[group or "everything else"] += event.device_time_total / 1e3
    rows = [Row(f"{case.name}, training step", name, "ms", time) for name, time in times.items()]
    return [*rows, Row(f"{case.name}, training step", "all kernels", "ms", sum(times.values()))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", type=int, metavar="SHAPE", help="run one shape (for ncu)")
    once_of = parser.parse_args().once
    if once_of is not None:
        once(once_of)
        return
    if shutil.which("ncu") is None:
        raise SystemExit("ncu (Nsight Compute) is not on the PATH.")
    rows = [row for index in (0, 2) for row in counters(index)]
    write_results("scan_profile", [*rows, *step_rows()])


if __name__ == "__main__":
    main()
