"""Devices of this machine and the backends that compute on them, each tried on a small case."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

from lcframework.models.esm2.attention import BACKENDS as ATTENTION_BACKENDS
from lcframework.models.esm2.attention import Packing, packed_attention
from lcframework.ops.bidirectional_scan.dispatch import BACKENDS as SCAN_BACKENDS
from lcframework.ops.bidirectional_scan.dispatch import bidirectional_scan

Found = tuple[dict[str, Any], list[dict[str, str]]]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def examine_devices() -> Found:
    """CPU cores and GPUs, with a cure where a GPU is there but PyTorch cannot use it."""
    from lcframework.run.doctor import check

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        capability = f"{about.major}.{about.minor}"
        memory = round(about.total_memory / 1e9, 1)
        gpus.append({"name": about.name, "memory_gb": memory, "compute_capability": capability})
    checks = [check("CPU", "ok", f"{cores} cores, {torch.get_num_threads()} threads used")]
    for index, gpu in enumerate(gpus):
        text = f"{gpu['name']}, {gpu['memory_gb']} GB, capability {gpu['compute_capability']}"
        checks.append(check(f"GPU {index}", "ok", text))
    if not gpus:
        checks.append(_no_gpu())
    return {"cpu_cores": cores, "gpus": gpus}, checks


def _no_gpu() -> dict[str, str]:
    from lcframework.run.doctor import check

    if shutil.which("nvidia-smi") is None:
        return check("GPU", "note", "none found; use trainer=cpu")
    if torch.version.cuda is None:
        text = f"nvidia-smi is there, but torch {torch.__version__} is a build without CUDA"
        return check("GPU", "note", text, "pip install --force-reinstall torch (the CUDA build)")
    text = f"nvidia-smi is there, but torch {torch.__version__} reaches no device"
    return check("GPU", "note", text, "compare the driver's CUDA version (nvidia-smi) with torch's")


def examine_backends(devices: dict[str, Any]) -> Found:
    """Run every backend of the scan and of attention on every kind of device and precision."""
    found: dict[str, Any] = {"bidirectional_scan": [], "attention": []}
    cases = [("cpu", torch.float32)]
    if devices["gpus"]:
        cases += [("cuda", torch.float32), ("cuda", torch.bfloat16)]
    for device, dtype in cases:
        for name in SCAN_BACKENDS:
            row = _try("reference", name, device, dtype, _scan)
            found["bidirectional_scan"].append(row)
        for name in ATTENTION_BACKENDS:
            found["attention"].append(_try("sdpa", name, device, dtype, _attention))
    return found, [_line(op, rows, case) for op, rows in found.items() for case in cases]


def _line(op: str, rows: list[dict[str, Any]], case: tuple[str, torch.dtype]) -> dict[str, str]:
    from lcframework.run.doctor import check

    here = [row for row in rows if (row["device"], row["dtype"]) == (case[0], _name(case[1]))]
    works = [row["backend"] for row in here if row["works"]]
    reasons = [f"{row['backend']}: {row['why']}" for row in here if not row["works"]]
    status = "ok" if "auto" in works else "broken"
    cure = "" if status == "ok" else "report this line with the output of lcf doctor --json"
    text = f"works: {', '.join(works) or 'nothing'}" + "".join(f"; {one}" for one in reasons)
    return check(f"{op} on {case[0]}, {_name(case[1])}", status, text, cure)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _try(
    reference: str, name: str, device: str, dtype: torch.dtype, compute: Callable
) -> dict[str, Any]:
    """Whether a backend runs and agrees with the plainest one."""
    row = {"backend": name, "device": device, "dtype": _name(dtype), "works": False, "why": ""}
    # Any failure of a backend is what this examination is for, a compiler's or driver's included.
    try:
        with torch.no_grad():
            out = compute(name, device, dtype).float()
            wanted = compute(reference, device, dtype).float()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return row | {"why": lines[0].split("; ")[0] if lines else type(error).__name__}
    error_size = float((out - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))
    works = error_size <= TOLERANCE[dtype]
    return row | {
        "works": works,
        "why": "" if works else f"differs by {error_size:.2g} of the largest",
    }


def _numbers(*shape: int, device: str, dtype: torch.dtype) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1, count).sin().reshape(shape).to(device=device, dtype=dtype)


def _scan(backend: str, device: str, dtype: torch.dtype) -> torch.Tensor:
    tokens, channels, states = 7, 16, 16

    def part(*shape: int) -> torch.Tensor:
        return _numbers(*shape, device=device, dtype=dtype)

    out = bidirectional_scan(
        part(2, tokens, channels),
        part(2, tokens, channels),
        -part(2, channels, states).exp().float(),
        part(2, tokens, states),
        part(2, tokens, states),
        dt_softplus=True,
        cu_seqlens=torch.tensor([0, 3, tokens], dtype=torch.int32, device=device),
        backend=backend,
    )
    assert isinstance(out, torch.Tensor)  # a pair only when final states are asked for
    return out


def _attention(backend: str, device: str, dtype: torch.dtype) -> torch.Tensor:
    borders = torch.tensor([0, 3, 7], dtype=torch.int32, device=device)
    x = _numbers(1, 2, 7, 16, device=device, dtype=dtype)
    packing = Packing(borders, 4, backend)
    out, _ = packed_attention(torch.nn.Identity(), x, x, x, None, packing=packing)
    return out
