"""What the launches of one call of the Triton scan share: its tensors in the kernels' layout, its
work items, and the settings the kernels are compiled with.

Legend as in `triton`.
"""

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.tiles import (
    FORWARD_REGISTERS,
    Tiles,
    at_load,
    current_tiles,
)
from lcframework.ops.bidirectional_scan.work_items import WorkItems, work_items

SPAN = 256
"""Steps after which the backward pass starts its running sums anew."""
TILE = 64
"""Channels of one warp."""
MAP_ROWS = 64


@functools.cache
def quarters(device: torch.device) -> int:
    """Multiprocessor quarters of a GPU, each of which issues for one warp at a time; a nominal
    number elsewhere."""
    if device.type != "cuda":
        return 16
    return 4 * torch.cuda.get_device_properties(device).multi_processor_count


@dataclass(frozen=True)
class Call:
    """What all launches of one call share.

    Attributes:
        T, E, N, NP: sizes.
        items: the work items.
        x, dt: (2, T, E).
        maps: (2, T, 2 NP) float32, B and C side by side.
        rate: (2, NP, E) float32, A transposed.
        skip, bias: (2, E) float32; the bias times log2(e).
        softplus: whether the step is activated.
        fast: whether PTX instructions can be used.
        tiles: the choices measured for this GPU.
    """

    T: int
    E: int
    N: int
    NP: int
    items: WorkItems
    x: Tensor
    dt: Tensor
    maps: Tensor
    rate: Tensor
    skip: Tensor
    bias: Tensor
    softplus: bool
    fast: bool
    tiles: Tiles

    @classmethod
    def of(cls, x, dt, A, B, C, D, bias, cu_seqlens, longest, softplus, training) -> "Call":
        """Bring the arguments of `scan_triton` into the kernels' layout; `training` says whether a
        backward pass follows, which must find the same items."""
        states = A.shape[2]
        padded = padded_states(states)
        tiles = current_tiles(x.device, x.dtype, padded)
        costs = tiles.training_costs if training else tiles.forward_costs
        return cls(
            x.shape[1],
            x.shape[2],
            states,
            padded,
            work_items(
                cu_seqlens, x.shape[1], longest, x.shape[2], quarters(x.device), SPAN, costs
            ),
            x,
            dt,
            _maps(B, C, padded),
            *_parameters(A, D, bias, padded),
            softplus,
            x.is_cuda,
            tiles,
        )

    def grid(self, directions: int = 2, rows: int | None = None) -> tuple[int, int, int]:
        """Channel tiles x work items x directions."""
        return -(-self.E // TILE), self.items.count if rows is None else rows, directions

    def states(self, count: int) -> Tensor:
        """Room for `count` states per direction: (2, count, NP, E) float32."""
        return self.x.new_empty(2, count, self.NP, self.E, dtype=torch.float32)

    def vectors(self, count: int) -> Tensor:
        """Room for `count` vectors over channels per direction: (2, count, E) float32."""
        return self.x.new_empty(2, count, self.E, dtype=torch.float32)

    @property
    def warps(self) -> int:
        """Warps of a launch over all items and both directions."""
        return 2 * self.items.count * -(-self.E // TILE)

    def border_walk(self, *others: Tensor) -> dict:
        """Keyword arguments of the kernel that finds what each item contributes; `others` are rows
        of channels that it reads beside dt."""
        return {**self._walk(FORWARD_REGISTERS[0], others, 4, 0), "num_warps": 1}

    def scan_walk(self, *others: Tensor) -> dict:
        """Keyword arguments of the kernel in which two warps take both directions; `others` are
        rows of channels that it reads beside x and dt."""
        registers = at_load(self.tiles.forward, self.warps, quarters(self.x.device))
        return {**self._walk(registers, others, 4, 0), "num_warps": 2}

    def backward_walk(self, dy: Tensor, wide: int) -> dict:
        """Keyword arguments of the two walks of the backward pass, which read `wide` bytes beside
        maps, x, dt and dy."""
        brief = self.fast and self.x.dtype == torch.bfloat16 and self.NP <= 16
        registers = at_load(self.tiles.backward, self.warps, quarters(self.x.device))
        common = self._walk(registers, (dy,), 3, wide)
        return {"SPAN": SPAN, "BRIEF": brief, **common, "num_warps": 1}

    def _walk(self, registers: int, others: Sequence[Tensor], rows: int, wide: int) -> dict:
        size = self.x.element_size()
        slot = 8 * self.NP + rows * TILE * size + wide
        return {
            "SOFTPLUS": self.softplus,
            "N": self.NP,
            "FAST": self.fast,
            "STAGED": self.fast and self._aligned(self.x, self.dt, *others),
            "SLOT": max(512, 1 << (slot - 1).bit_length()),
            **({"maxnreg": registers} if self.fast else {}),
        }

    def _aligned(self, *rows: Tensor) -> bool:
        """Whether every row begins at a multiple of the 16 bytes that are copied at a time."""
        strides = [self.E, *(one.stride(-2) for one in rows if one.shape[-2] > 1)]
        size = self.x.element_size()
        return all(one.data_ptr() % 16 == 0 for one in rows) and all(
            stride * size % 16 == 0 for stride in strides
        )


def padded_states(states: int) -> int:
    """States that the kernels compute with: a power of two, at least the four of one wide load."""
    return max(4, 1 << (states - 1).bit_length())


def _kernels() -> Any:
    """Triton's own language is imported only where Triton is."""
    return importlib.import_module("lcframework.ops.bidirectional_scan.triton_prepare")


def _maps(B: Tensor, C: Tensor, padded: int) -> Tensor:
    """(2, T, 2 NP) float32; the rows of B and C may lie apart."""
    tokens, states = B.shape[1:]
    B, C = (one if one.stride(2) == 1 else one.contiguous() for one in (B, C))
    maps = B.new_empty(2, tokens, 2 * padded, dtype=torch.float32)
    _kernels().maps_kernel[(-(-tokens // MAP_ROWS), 2)](
        B, C, maps, tokens, *B.stride()[:2], *C.stride()[:2], N=states, NP=padded, ROWS=MAP_ROWS,
        num_warps=4,
    )  # fmt: skip
    return maps


def _parameters(
    A: Tensor, D: Tensor | None, bias: Tensor | None, padded: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(rate (2, NP, E), skip (2, E), bias in units of log2 (2, E)), float32."""
    channels, states = A.shape[1:]
    rate = A.new_empty(2, padded, channels, dtype=torch.float32)
    found = rate, rate.new_empty(2, channels), rate.new_empty(2, channels)
    given = [found[1] if one is None else one.contiguous() for one in (D, bias)]
    _kernels().parameters_kernel[(-(-channels // TILE), 2)](
        A.contiguous(), *given, *found, channels, SKIP=D is not None, BIAS=bias is not None,
        N=states, NP=padded, BE=TILE, num_warps=1,
    )  # fmt: skip
    return found


def rows_of(states_2SEN: Tensor, call: Call) -> Tensor:
    """(2, S, E, N) -> (2, S, NP, E)."""
    missing = call.NP - call.N
    return torch.nn.functional.pad(states_2SEN.float(), (0, missing)).transpose(2, 3).contiguous()


def columns_of(states: Tensor, call: Call) -> Tensor:
    """(2, S, NP, E) -> (2, S, E, N)."""
    return states[:, :, : call.N].transpose(2, 3)
