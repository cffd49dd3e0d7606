"""What every benchmark shares: timing, the result row, and the JSON file the docs quote.

A benchmark times ours and the peer in the same process on the same inputs; a ratio above 1 means
ours is better.
"""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
REPORTED_PACKAGES = ("torch", "triton", "numba", "transformers", "numpy", "lightning")


@dataclass(frozen=True)
class Row:
    """One measured comparison.

    Attributes:
        case: what was measured, with its sizes.
        metric: the quantity, for example "throughput" or "time".
        unit: its unit, for example "tokens/s" or "s".
        ours: our value.
        peer_name: what it is compared with; empty where there is no peer.
        peer: the peer's value, None where there is no peer.
        ratio: above 1 means ours is better; None where there is no peer.
        limit: a physical bound or a required bar in the same unit, None where none is known.
    """

    case: str
    metric: str
    unit: str
    ours: float
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    limit: float | None = None


def compare(
    case: str,
    metric: str,
    unit: str,
    ours: float,
    peer_name: str,
    peer: float,
    limit: float | None = None,
) -> Row:
    """A row with its ratio; a unit that ends in "/s" counts as higher-is-better, anything else as
    lower-is-better."""
    higher_is_better = unit.endswith("/s")
    ratio = ours / peer if higher_is_better else peer / ours
    return Row(case, metric, unit, ours, peer_name, peer, ratio, limit)


def median_seconds(function: Callable[[], Any], repeats: int = 5, warmup: int = 1) -> float:
    """Median wall time of `function()` in seconds, after `warmup` unrecorded calls."""
    for _ in range(warmup):
        function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def device_name() -> str:
    """The GPU's name where torch sees one, else the processor's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"


def _git_revision() -> str:
    named = os.environ.get("LCFRAMEWORK_REVISION")  # for a copy of the code without its history
    if named:
        return named
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in REPORTED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_results(name: str, rows: Sequence[Row]) -> Path:
    """Print the rows as a table and write `benchmarks/results/<name>.json` atomically; returns the
    path."""
    table = Table(title=name)
    for column in ("case", "metric", "unit", "ours", "peer", "ratio", "limit"):
        table.add_column(column)
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer:,.4g} ({row.peer_name})"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        limit = "" if row.limit is None else f"{row.limit:,.4g}"
        table.add_row(row.case, row.metric, row.unit, f"{row.ours:,.4g}", peer, ratio, limit)
    Console(width=160).print(table)
    record = {
        "benchmark": name,
        "device": device_name(),
        "versions": _versions(),
        "git": _git_revision(),
        "date": datetime.now(UTC).date().isoformat(),
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(temporary, path)
    return path
