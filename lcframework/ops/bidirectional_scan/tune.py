"""Measure on this GPU how many registers serve which load, and what cutting a segment costs
(`tiles` says how the answers are used).

A load of n means that n warps share each quarter of a multiprocessor: one segment whose channels
are as many as that takes.
"""

import dataclasses
from collections.abc import Callable
from typing import cast

import torch

from lcframework.ops.bidirectional_scan.kernel_call import TILE, quarters
from lcframework.ops.bidirectional_scan.tiles import (
    BACKWARD_REGISTERS,
    FORWARD_REGISTERS,
    Costs,
    Tiles,
    forced,
)

FORWARD_LOADS, BACKWARD_LOADS = 4, 3
"""Loads with a choice of their own: as many warps as the fewest registers leave to a quarter."""
TOKENS, CUT_TOKENS = 4096, 8192
"""Many, so that the GPU and not the host's launches take the time."""
UNCUT, CUT = Costs(0.0, 0.0, 0.0), Costs(1e9, 1e9, 0.0)
Timer = Callable[[Tiles, int, int, bool], float]
"""(choices, load, tokens, whether a backward pass follows) -> seconds."""


def gpu_timer(dtype: torch.dtype, states: int, device: torch.device) -> Timer:
    """Times on the GPU `device`; the first call with a number of registers compiles."""
    from triton.testing import do_bench

    from lcframework.ops.bidirectional_scan.triton import scan_triton

    def seconds(tiles: Tiles, load: int, tokens: int, training: bool) -> float:
        channels = TILE * (quarters(device) * load // 2)
        values = _inputs(tokens, channels, states, dtype, device, training)
        ends = torch.tensor([0, tokens], dtype=torch.int32, device=device)

        def run() -> None:
            y, _ = scan_triton(
                **values, D=None, dt_bias=None, dt_softplus=True, cu_seqlens=ends,
                initial_states=None, want_finals=False, max_len=tokens,
            )  # fmt: skip
            if training:
                torch.autograd.grad(y, list(values.values()), y.detach())

        with forced(tiles), torch.set_grad_enabled(training):
            return cast(float, do_bench(run, warmup=50, rep=150, return_mode="median")) / 1e3

    return seconds


def _inputs(tokens, channels, states, dtype, device, training) -> dict[str, torch.Tensor]:
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, generator=generator).to(dtype)

    rates = -torch.arange(1.0, states + 1, device=device)
    values = {
        "x": draw(2, tokens, channels),
        "dt": draw(2, tokens, channels) - 3,
        "A": rates.expand(2, channels, states).contiguous(),
        "B": draw(2, tokens, states),
        "C": draw(2, tokens, states),
        "z": draw(tokens, channels),
    }
    return {name: value.requires_grad_(training) for name, value in values.items()}


def tune(seconds: Timer, say: Callable[[str], None] = lambda _: None) -> Tiles:
    """The best number of registers at each load, and the costs that follow from their times."""
    best = Tiles((FORWARD_REGISTERS[0],), (BACKWARD_REGISTERS[0],), UNCUT, UNCUT)
    forward = _registers(seconds, best, "forward", FORWARD_REGISTERS, FORWARD_LOADS, say)
    best = dataclasses.replace(best, forward=forward)
    backward = _registers(seconds, best, "backward", BACKWARD_REGISTERS, BACKWARD_LOADS, say)
    best = dataclasses.replace(best, backward=backward)
    return dataclasses.replace(
        best,
        forward_costs=_costs(seconds, best, FORWARD_LOADS, False),
        training_costs=_costs(seconds, best, BACKWARD_LOADS, True),
    )


def _registers(seconds, base, name, candidates, loads, say) -> tuple[int, ...]:
    chosen = []
    for load in range(1, loads + 1):
        found = {
            one: seconds(
                dataclasses.replace(base, **{name: (one,)}), load, TOKENS, name == "backward"
            )
            for one in candidates
        }
        chosen.append(min(found, key=lambda one: found[one]))
        shown = ", ".join(f"{one} registers {found[one] * 1e3:.3f} ms" for one in candidates)
        say(f"{name}, {load} warps to a quarter: {shown}")
    return tuple(chosen)


def _costs(seconds: Timer, best: Tiles, full: int, training: bool) -> Costs:
    """See `Costs`; twice as many warps as a quarter holds give the unit."""
    unit = seconds(best, 2 * full, TOKENS, training) / (2 * full * TOKENS)
    alone, pair = (seconds(best, load, TOKENS, training) / (TOKENS * unit) for load in (1, 2))
    cutting = dataclasses.replace(best, forward_costs=CUT, training_costs=CUT)
    again = seconds(cutting, 1, CUT_TOKENS, training) / (CUT_TOKENS * unit) - 1
    return Costs(*(round(one, 2) for one in (alone, pair, max(again, 0.0))))
