"""How many registers the kernels take at which load, and when cutting a segment pays: tables of
measured choices, one row per compute capability, precision and number of states.

The project ships a table; `lcf tune` measures this machine's GPU and writes one of its own, which
comes first. Where neither has a row, the row `FALLBACK` of the shipped table serves: the choices
follow how many warps share a quarter of a multiprocessor, which other GPUs have as well.
"""

import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch

SHIPPED = Path(__file__).with_name("tiles.json")
FALLBACK = ("9.0", "bfloat16", 16)


FORWARD_REGISTERS, BACKWARD_REGISTERS = (128, 168), (168, 232)
"""Registers per thread that are compared. 128 leave four warps to a multiprocessor's quarter, 168
three, 255 two; a warp with more of them waits less for itself, and has fewer others to hide its
waits."""


class Costs(NamedTuple):
    """What the rule that cuts long segments knows, in units of the time that a step takes where all
    quarters are full.

    Attributes:
        alone: a step of a warp that has a multiprocessor's quarter to itself.
        pair: a step of each of two that share one.
        again: what the pass over the borders adds to a step, where segments are cut.
    """

    alone: float
    pair: float
    again: float


@dataclass(frozen=True)
class Tiles:
    """The choices for one GPU, precision and number of states.

    Attributes:
        forward, backward: registers per thread for 1, 2, ... warps to a quarter; the last serves
            more, too.
        forward_costs, training_costs: without and with a backward pass.
    """

    forward: tuple[int, ...]
    backward: tuple[int, ...]
    forward_costs: Costs
    training_costs: Costs

    @classmethod
    def of(cls, row: dict) -> "Tiles":
        """From a table's row."""
        return cls(
            tuple(int(one) for one in row["forward"]),
            tuple(int(one) for one in row["backward"]),
            Costs(*row["forward_costs"]),
            Costs(*row["training_costs"]),
        )

    def row(self) -> dict:
        """As a table's row, without its key."""
        return asdict(self)


def at_load(choices: tuple[int, ...], warps: int, quarters: int) -> int:
    """The choice for `warps` on a GPU of `quarters`."""
    return choices[min(max(-(-warps // quarters), 1), len(choices)) - 1]


def user_table() -> Path:
    """`$LCF_TILES`, else `~/.cache/lcframework/tiles.json`."""
    named = os.environ.get("LCF_TILES")
    return Path(named) if named else Path.home() / ".cache" / "lcframework" / "tiles.json"


def read_table(path: Path) -> dict[tuple[str, str, int], Tiles]:
    """(capability, dtype, states) -> choices.

    Raises:
        ValueError: the file is not such a table; the message says what to do.
    """
    try:
        rows = json.loads(path.read_text())["rows"]
        return {(row["capability"], row["dtype"], row["states"]): Tiles.of(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a table of the scan's measured choices ({error!r}). Delete it, or "
            "write it anew with `lcf tune`."
        ) from None


@functools.cache
def _known() -> dict[tuple[str, str, int], Tiles]:
    own = user_table()
    return {**read_table(SHIPPED), **(read_table(own) if own.is_file() else {})}


_forced: list[Tiles] = []


@contextmanager
def forced(tiles: Tiles) -> Iterator[None]:
    """Within it `tiles` serve every call: how choices are compared."""
    _forced.append(tiles)
    try:
        yield
    finally:
        _forced.pop()


def forget() -> None:
    """Read the tables anew at the next call."""
    _known.cache_clear()
    tiles_for.cache_clear()


def current_tiles(device: torch.device, dtype: torch.dtype, states: int) -> Tiles:
    """The choices that serve a call: forced ones, else the tables'."""
    return _forced[-1] if _forced else tiles_for(device, dtype, states)


@functools.cache
def tiles_for(device: torch.device, dtype: torch.dtype, states: int) -> Tiles:
    """The tables' choices for a GPU; `states` as the kernels pad them."""
    known = _known()
    if device.type != "cuda":
        return known[FALLBACK]
    key = key_of(device, dtype, states)
    same = (key[0], *FALLBACK[1:])
    return known.get(key) or known.get(same) or known[FALLBACK]


def key_of(device: torch.device, dtype: torch.dtype, states: int) -> tuple[str, str, int]:
    """What a row of the table stands for."""
    capability = ".".join(str(one) for one in torch.cuda.get_device_capability(device))
    return capability, str(dtype).removeprefix("torch."), states
