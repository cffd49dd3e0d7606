"""`lcf tune`: measure the scan's choices on this machine's GPU and keep them."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lcframework.errors import ConfigError

DTYPES = ("bfloat16", "float16", "float32")


def register(commands: Any) -> None:
    """Add `lcf tune` to the subcommands."""
    parser = commands.add_parser(
        "tune",
        help="fit the GPU kernels of the scan to this GPU",
        description="Measure how many registers suit the bidirectional scan at which load "
        "and when cutting long proteins pays; later processes use it. A table for compute "
        "capability 9.0 comes with the package and serves other GPUs until they are measured.",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="precision of inputs")
    parser.add_argument("--states", type=int, default=16, help="states per channel (default: 16)")
    parser.add_argument(
        "--to", help="table to write (default: $LCF_TILES, else ~/.cache/lcframework/tiles.json)"
    )
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    import torch

    from lcframework.ops.bidirectional_scan import tiles, triton, tune
    from lcframework.ops.bidirectional_scan.kernel_call import padded_states

    reason = triton.why_unavailable()
    if reason is not None or not torch.cuda.is_available():
        raise ConfigError(f"There is nothing to tune here: {reason or 'PyTorch sees no CUDA GPU'}.")
    if not 1 <= arguments.states <= triton.MOST_STATES:
        raise ConfigError(f"--states must lie in 1 ... {triton.MOST_STATES}.")
    path = Path(arguments.to) if arguments.to else tiles.user_table()
    try:
        known = tiles.read_table(path) if path.is_file() else {}
    except ValueError as error:
        raise ConfigError(str(error)) from None
    device = torch.device("cuda", torch.cuda.current_device())
    dtype = getattr(torch, arguments.dtype)
    timer = tune.gpu_timer(dtype, arguments.states, device)
    found = tune.tune(timer, print)
    key = tiles.key_of(device, dtype, padded_states(arguments.states))
    written = keep(path, {**known, key: found})
    sys.stdout.write(f"{torch.cuda.get_device_name(device)}: {json.dumps(found.row())}\n")
    sys.stdout.write(f"Written: {written}\n")


def keep(path: Path, known: dict) -> Path:
    """Write the table `known` (as `tiles.read_table` returns it), whole or not at all."""
    from lcframework.files import write_json

    rows = [
        {"capability": capability, "dtype": dtype, "states": states, **found.row()}
        for (capability, dtype, states), found in sorted(known.items())
    ]
    write_json(path, {"rows": rows})
    return path
