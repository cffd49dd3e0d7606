"""Training steps of LC-PLM on a GPU against the published form of BiMamba-S and a transformer of
equal size.

A step is forward, cross-entropy over all tokens, backward and fused AdamW, bfloat16 autocast,
float32 parameters. Run: python benchmarks/lcplm_training.py [--models 'ours;published']
[--cases 96M] [--steps 8]. Peers that are not installed are left out, and said so. `mix` packs real
protein lengths; there the peers get their best batch of equal lengths (at most a tenth of padding),
`ours, padded` takes proteins of that mix as they come, padded to the longest, and real residues are
counted."""

import argparse
import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from harness import Row, compare, write_results
from torch import Tensor, nn
from torch.nn import functional as F

from lcframework.models.lcplm.model import LCPLM

VOCABULARY = 128
SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "train.fasta.gz"


@dataclass(frozen=True)
class Case:
    """One shape: name, width, layers, layers of the transformer of equal size, lengths of the
    sequences."""

    name: str
    d_model: int
    layers: int
    transformer_layers: int
    lengths: tuple[int, ...]
    residues: int = 0


def sample_lengths(tokens: int) -> list[int]:
    """Lengths of the embedded sample's proteins, specials included, shuffled, up to `tokens` in
    all."""
    lengths: list[int] = []
    with gzip.open(SAMPLE, "rt") as file:
        records = file.read().split(">")[1:]
    for record in records:
        lengths.append(len("".join(record.splitlines()[1:])) + 2)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
    taken, total = [], 0
    for index in order:
        if total + lengths[index] <= tokens:
            taken.append(lengths[index])
            total += lengths[index]
    return taken


def padded_like(lengths: list[int], waste: float = 0.1) -> tuple[int, int, int]:
    """(B, L, residues) of the best batch of equal lengths: proteins around the median, at most
    `waste` padding."""
    ordered = sorted(lengths)
    end = len(ordered) * 3 // 4
    longest, taken = ordered[end - 1], []
    for length in reversed(ordered[:end]):
        if sum(taken) + length < (1 - waste) * longest * (len(taken) + 1):
            break
        taken.append(length)
    rows = max(1, round(sum(lengths) / longest))
    return rows, longest, round(rows * sum(taken) / len(taken))


def cases() -> list[Case]:
    shapes = [(64, 512), (16, 2048), (4, 8192), (1, 32768)]
    found = [Case(f"96M {b} x {length}", 768, 24, 13, (length,) * b) for b, length in shapes]
    mix = sample_lengths(32768)
    found.append(Case("96M mix", 768, 24, 13, tuple(mix), sum(mix)))
    found.append(Case("753M 4 x 2048", 1536, 48, 26, (2048,) * 4))
    return found


def ours(case: Case) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    model = LCPLM(case.d_model, case.layers, pad_vocab_to=VOCABULARY).cuda()
    borders = torch.tensor([0, *case.lengths]).cumsum(0).int().cuda()
    tokens = torch.randint(4, 24, (int(borders[-1]),), device="cuda")
    return model, lambda m: F.cross_entropy(m(tokens, borders, max(case.lengths)).float(), tokens)


PADDED_ROWS = 16
"""Proteins of the padded batch, about as many positions as the pack has."""


def ours_padded(case: Case):
    if not case.residues:
        raise NotPaddedError
    lengths = case.lengths[:PADDED_ROWS]
    equal = (max(lengths),) * len(lengths)
    return ours(Case(case.name, case.d_model, case.layers, case.transformer_layers, equal))


class NotPaddedError(Exception):
    """Equal lengths need no padding."""


def rectangle(case: Case) -> tuple[int, int, int]:
    if not case.residues:
        return len(case.lengths), case.lengths[0], sum(case.lengths)
    return padded_like(list(case.lengths))


def padded_peer(model: nn.Module, case: Case) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    rows, length, _ = rectangle(case)
    tokens = torch.randint(4, 24, (rows, length), device="cuda")
    return model.cuda(), lambda m: F.cross_entropy(
        m(tokens).flatten(0, 1).float(), tokens.flatten()
    )


def published(case: Case):
    from peers import PublishedBiMamba

    return padded_peer(PublishedBiMamba(case.d_model, case.layers, VOCABULARY), case)


def transformer(case: Case):
    from peers import Transformer

    model, loss = padded_peer(Transformer(case.d_model, case.transformer_layers, VOCABULARY), case)
    model.compile()
    return model, loss


def training_step(build, case: Case) -> Callable[[], None]:
    """One step of a new model of the case: forward, loss, backward, fused AdamW."""
    torch.manual_seed(0)
    model, loss_of = build(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(build, case: Case, steps: int) -> tuple[float, float]:
    """(seconds of a step, peak GB)."""
    step = training_step(build, case)
    for _ in range(4):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2], torch.cuda.max_memory_allocated() / 1e9


def compare_case(case: Case, models: list[str], steps: int) -> list[Row]:
    builders = {
        "ours": ours,
        "ours, padded": ours_padded,
        "published": published,
        "transformer": transformer,
    }
    found: dict[str, tuple[float, float]] = {}
    for name in models:
        try:
            seconds, peak = measure(builders[name], case, steps)
        except ImportError as error:
            print(f"{case.name}: {name} left out: {error}", flush=True)
            continue
        except NotPaddedError:
            continue
        tokens = rectangle(case)[2]
        if name == "ours":
            tokens = sum(case.lengths)
        elif name == "ours, padded":
            tokens = sum(case.lengths[:PADDED_ROWS])
        found[name] = tokens / seconds, peak
        print(f"{case.name}: {name} {tokens / seconds:,.0f} tokens/s, {peak:.1f} GB", flush=True)
        torch.cuda.empty_cache()
    rows = []
    if "ours" in found:
        speed, peak = found.pop("ours")
        for name, (other_speed, other_peak) in found.items():
            rows.append(
                compare(
                    f"{case.name}, training", "throughput", "tokens/s", speed, name, other_speed
                )
            )
            rows.append(
                compare(f"{case.name}, training", "peak memory", "GB", peak, name, other_peak)
            )
        if not found:
            rows.append(Row(f"{case.name}, training", "throughput", "tokens/s", speed))
            rows.append(Row(f"{case.name}, training", "peak memory", "GB", peak))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="ours;ours, padded;published;transformer")
    parser.add_argument("--cases", default="", help="only cases whose name holds one of these")
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    wanted = arguments.cases.split(",")
    rows: list[Row] = []
    for case in cases():
        if any(one in case.name for one in wanted):
            rows += compare_case(case, arguments.models.split(";"), arguments.steps)
            write_results("lcplm_training", rows)


if __name__ == "__main__":
    main()
