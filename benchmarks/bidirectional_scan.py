"""The Triton scan against the published form on a GPU: two runs of mamba-ssm's CUDA kernel, one of
them on flipped copies, gated and added.

Run: python benchmarks/bidirectional_scan.py. The peer is the module `selective_scan_cuda` of
mamba-ssm; without it only our times are written. `mix` packs real protein lengths; there the peer
gets its best batch of equal lengths (at most a tenth of padding), and its time is given for as many
real residues. `exponentials` counts those of the recurrence's forward pass, against the
special-function units' 16 per clock and multiprocessor."""

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from harness import Row, compare, write_results
from lcplm_training import padded_like, sample_lengths
from torch import Tensor

from lcframework.ops.bidirectional_scan import bidirectional_scan

SHAPES = (
    ("64 x 512, E=1536", [512] * 64, 1536),
    ("8 x 2048, E=2048", [2048] * 8, 2048),
    ("8 x 8192, E=2048", [8192] * 8, 2048),
    ("4 x 8192, E=3584", [8192] * 4, 3584),
    ("1 x 65536, E=3072", [65536], 3072),
    ("mix, E=1536", sample_lengths(32768), 1536),
)
STATES = 16
Values = dict[str, Tensor]


def make(lengths: list[int], channels: int) -> tuple[Values, Tensor]:
    """Random arguments with Mamba's own decay rates, bfloat16, on the GPU."""
    tokens = sum(lengths)
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", generator=generator).bfloat16()

    rates = -torch.arange(1.0, STATES + 1, device="cuda")
    values = {
        "x": draw(2, tokens, channels),
        "dt": draw(2, tokens, channels) - 3,
        "A": rates.expand(2, channels, STATES).contiguous(),
        "B": draw(2, tokens, STATES),
        "C": draw(2, tokens, STATES),
        "D": torch.ones(2, channels, device="cuda"),
        "z": draw(tokens, channels),
        "dt_bias": torch.zeros(2, channels, device="cuda"),
    }
    borders = torch.tensor([0, *lengths], device="cuda").cumsum(0).int()
    return values, borders


@dataclass
class Official:
    """The published form on equal segments: (B, E, L) tensors, flips, two kernels, one addition."""

    values: Values
    batch: int

    def __post_init__(self) -> None:
        import selective_scan_cuda  # type: ignore[import-not-found]

        self.kernel = selective_scan_cuda
        v = self.values
        rows = {k: v[k].unflatten(1, (self.batch, -1)).transpose(2, 3) for k in ("x", "dt")}
        maps = {
            k: v[k].unflatten(1, (self.batch, -1)).transpose(2, 3)[:, :, None] for k in ("B", "C")
        }
        z = v["z"].unflatten(0, (self.batch, -1)).transpose(1, 2).contiguous()
        # The published form has one order of time in memory: both directions are given forward.
        self.inputs = [
            [part[d].contiguous() for part in (rows["x"], rows["dt"])]
            + [v["A"][d]]
            + [part[d].contiguous() for part in (maps["B"], maps["C"])]
            + [v["D"][d], z, v["dt_bias"][d]]
            for d in (0, 1)
        ]

    def _flipped(self, inputs: list[Tensor]) -> list[Tensor]:
        return [one.flip(-1) if i in (0, 1, 3, 4, 6) else one for i, one in enumerate(inputs)]

    def forward(self) -> tuple[Tensor, list]:
        kept, outputs = [], []
        for direction, inputs in enumerate(self.inputs):
            given = self._flipped(inputs) if direction else inputs
            out, states, gated = self.kernel.fwd(*given, True)
            kept.append((given, out, states))
            outputs.append(gated.flip(-1) if direction else gated)
        return outputs[0] + outputs[1], kept

    def step(self, grad: Tensor) -> None:
        """Forward and backward."""
        _, kept = self.forward()
        for direction, (given, out, states) in enumerate(kept):
            d_out = grad.flip(-1) if direction else grad
            grads = self.kernel.bwd(*given, d_out, states, out, None, True, False)
            if direction:
                for i in (0, 1, 3, 4):
                    grads[i].flip(-1)


def measure(name: str, lengths: list[int], channels: int) -> list[Row]:
    import triton
    from triton.testing import do_bench

    def milliseconds(function) -> float:
        return float(do_bench(function, warmup=30, rep=200))  # type: ignore[arg-type]

    values, borders = make(lengths, channels)

    def forward() -> Tensor:
        options: dict[str, Any] = {"dt_softplus": True, "cu_seqlens": borders, "backend": "triton"}
        options["max_len"] = max(lengths)
        y = bidirectional_scan(**values, **options)
        assert isinstance(y, Tensor)
        return y

    times: dict[str, list[float]] = {}
    with torch.no_grad():
        times["ours"] = [milliseconds(forward)]
    for value in values.values():
        value.requires_grad_()
    grad = torch.randn_like(forward())
    arguments = list(values.values())
    times["ours"].append(milliseconds(lambda: torch.autograd.grad(forward(), arguments, grad)))
    if importlib.util.find_spec("selective_scan_cuda"):
        rows, length, residues = len(lengths), lengths[0], sum(lengths)
        if (
            len(set(lengths)) > 1
        ):  # the published form takes equal lengths: its best batch, by real residues
            rows, length, residues = padded_like(lengths)
            values, _ = make([length] * rows, channels)
        official = Official({key: value.detach() for key, value in values.items()}, rows)
        g = torch.randn(rows, channels, length, device="cuda").bfloat16()
        scale = sum(lengths) / residues
        times["peer"] = [
            milliseconds(official.forward) * scale,
            milliseconds(lambda: official.step(g)) * scale,
        ]
    found: list[Row] = []
    exponentials = sum(lengths) * channels * STATES * 2
    driver: Any = triton.runtime.driver.active
    properties = driver.utils.get_device_properties(0)
    limit = properties["multiprocessor_count"] * 16 * properties["sm_clock_rate"] * 1e3
    for index, case in enumerate(("forward", "forward + backward")):
        ours = times["ours"][index]
        if "peer" in times:
            peer = times["peer"][index]
            found.append(compare(f"{name}, {case}", "time", "ms", ours, "mamba-ssm", peer))
        else:
            found.append(Row(f"{name}, {case}", "time", "ms", ours))
    rate = exponentials / times["ours"][0] * 1e3
    found.append(Row(f"{name}, forward", "exponentials", "1/s", rate, limit=limit))
    return found


def main() -> None:
    rows = [row for shape in SHAPES for row in measure(*shape)]
    write_results("bidirectional_scan", rows)


if __name__ == "__main__":
    main()
