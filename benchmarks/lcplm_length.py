"""One protein of any length through LC-PLM on a GPU: time and memory of an embedding, by length.

Run: python benchmarks/lcplm_length.py. The 96M model in bfloat16 autocast, no gradients, the whole
protein in one pass. Writes results/lcplm_length.json and results/lcplm_length.png.
"""

import time

import torch
from harness import RESULTS, Row, write_results

from lcframework.models.lcplm.model import LCPLM

LENGTHS = (1024, 2048, 4096, 8192, 16384, 35000, 65536, 131072)


def embed(model: LCPLM, length: int) -> tuple[float, float]:
    """(seconds, peak GB beside the weights)."""
    tokens = torch.randint(4, 24, (length,), device="cuda")
    borders = torch.tensor([0, length], device="cuda", dtype=torch.int32)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        model.encode(tokens, borders, length)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        hidden = model.encode(tokens, borders, length)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    if not torch.isfinite(hidden).all():
        raise SystemExit(f"The embedding of {length} residues is not finite.")
    return seconds, (torch.cuda.max_memory_allocated() - before) / 1e9


def main() -> None:
    model = LCPLM(768, 24).cuda().eval()
    rows, points = [], []
    for length in LENGTHS:
        seconds, peak = embed(model, length)
        points.append((length, seconds, peak))
        rows.append(Row(f"96M, {length:,} residues", "time", "s", seconds))
        rows.append(Row(f"96M, {length:,} residues", "peak memory", "GB", peak))
    write_results("lcplm_length", rows)
    draw(points)


def draw(points: list[tuple[int, float, float]]) -> None:
    """Memory and time by length, each beside a straight line through its last point."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lengths, times, peaks = zip(*points, strict=True)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    shown = ((peaks, "peak memory (GB)"), (times, "time (s)"))
    for axis, (values, label) in zip(axes, shown, strict=True):
        axis.plot(lengths, values, "o-")
        axis.plot(lengths, [values[-1] / lengths[-1] * n for n in lengths], ":", label="linear")
        axis.set(xlabel="residues", ylabel=label, xscale="log", yscale="log")
        axis.legend()
    figure.savefig(RESULTS / "lcplm_length.png", dpi=150)


if __name__ == "__main__":
    main()
