"""Clustering a context's keys: time, and loss against 20 Lloyd iterations from k-means++ seeds.

Without a model the keys are drawn: topics that change along the text, noise, and rotary positions.
With one they are its own, and reading the text is a row of its own.

Run: python benchmarks/squeezed_clustering.py [--model DIR --text FILE]
     python benchmarks/squeezed_clustering.py --preset 128k --device cuda
Bars: preset 8k in 45 s on 2 cores, preset 128k in 60 s on an H200; loss within 1% of the peer's.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from harness import Row, compare, write_results
from torch import Tensor
from torch.nn import functional as F

from lcframework.models.squeezed.clustering import cluster_keys, nearest, segment_sums

PRESETS = {  # tokens, layers, heads, head size, clusters, seconds allowed
    "8k": (8080, 30, 3, 64, 404, 45.0),
    "128k": (131_072, 32, 8, 128, 6553, 60.0),
}
PEER = "20 Lloyd iterations from k-means++"
PEER_ITERATIONS = 20


def drawn_keys(tokens: int, heads: int, size: int, seed: int, device: str) -> Tensor:
    """(heads, tokens, size) float32 keys of one layer."""
    generator = torch.Generator(device=device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    topics = normal(heads, 64, size)
    path = torch.randint(64, (heads, tokens // 32 + 1), generator=generator, device=device)
    own = topics.gather(1, path[..., None].expand(-1, -1, size)).repeat_interleave(32, 1)
    keys = own[:, :tokens] + normal(heads, tokens, size)
    frequency = 10_000.0 ** (-torch.arange(0, 1, 2 / size, device=device))
    angle = torch.arange(tokens, device=device)[:, None] * frequency
    cos, sin, (a, b) = angle.cos(), angle.sin(), keys.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def model_keys(folder: str, text: Path, tokens: int) -> tuple[list[Tensor], float]:
    """Keys of every layer of a model over a text, sinks and window left out, and the seconds the
    model's own forward took."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lcframework.models.squeezed.build import read_document

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="squeezed")
    ids = torch.tensor(tokenizer(text.read_text()).input_ids[: tokens + 104])
    if len(ids) < tokens + 104:
        raise SystemExit(f"{text} has {len(ids)} tokens; {tokens + 104} are needed.")
    start = time.perf_counter()
    cache = read_document(model.float().eval(), ids, 100, 1024, lambda *_: None)
    seconds = time.perf_counter() - start
    layers: list[Any] = cache.layers
    return [layer.keys[0, :, 4:-100] for layer in layers], seconds


def plus_plus_seeds(unit: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """(H, K, D): k-means++ (Arthur and Vassilvitskii 2007), one seed after the other."""
    H, N, _ = unit.shape
    rows = torch.arange(H, device=unit.device)
    index = torch.randint(N, (H,), generator=generator, device=unit.device)
    seeds = [unit[rows, index]]
    far = 1 - (unit @ seeds[0][:, :, None])[..., 0]
    for _ in range(clusters - 1):
        index = torch.multinomial(far.clamp(min=1e-9), 1, generator=generator)[:, 0]
        seeds.append(unit[rows, index])
        far = torch.minimum(far, 1 - (unit @ seeds[-1][:, :, None])[..., 0])
    return torch.stack(seeds, 1)


def peer_loss(keys: Tensor, clusters: int) -> float:
    """Mean of 1 - cosine after the peer's seeding and iterations."""
    unit = F.normalize(keys.float(), dim=-1)
    generator = torch.Generator(device=keys.device).manual_seed(0)
    centres = plus_plus_seeds(unit, clusters, generator)
    ones = torch.ones(unit.shape[:2], device=keys.device)
    for _ in range(PEER_ITERATIONS):
        labels = nearest(unit, centres)[1]
        centres = F.normalize(segment_sums(unit, labels, clusters, ones), dim=-1)
    return float(1 - nearest(unit, centres)[0].mean())


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="8k")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer-layers", type=int, default=6, help="layers the peer clusters too")
    parser.add_argument("--model", help="folder of a Hugging Face model")
    parser.add_argument("--text", type=Path, help="what the model reads")
    given = parser.parse_args()
    tokens, layers, heads, size, clusters, bar = PRESETS[given.preset]
    read, rows = None, []
    if given.model:
        read, seconds = model_keys(given.model, given.text, tokens)
        layers, heads, size = len(read), read[0].shape[0], read[0].shape[2]
        rows.append(Row(f"{tokens} tokens, {layers} layers", "model's forward", "s", seconds))
    source = Path(given.model).name if given.model else "drawn"
    case = f"{source} keys, {tokens} tokens, {layers} layers, {heads} heads, d={size}, K={clusters}"
    compared = set(range(0, layers, max(1, layers // given.peer_layers)))
    ours_s, ours_here_s, peer_s, ours_loss, peer_losses, rounds = 0.0, 0.0, 0.0, [], [], []
    cluster_keys(drawn_keys(2048, heads, size, 0, given.device), 64)  # the first call's start-up
    for layer in range(layers):
        keys = read[layer] if read else drawn_keys(tokens, heads, size, layer, given.device)
        keys = keys.to(given.device)
        synchronise(given.device)
        start = time.perf_counter()
        found = cluster_keys(keys, clusters)
        synchronise(given.device)
        seconds = time.perf_counter() - start
        ours_s += seconds
        rounds.append(found.iterations)
        if layer in compared:
            ours_here_s += seconds
            ours_loss.append(float(found.loss.mean()))
            start = time.perf_counter()
            peer_losses.append(peer_loss(keys, clusters))
            peer_s += time.perf_counter() - start
    some = f"{case}; {len(compared)} layers"
    rows += [
        Row(case, "clustering", "s", ours_s, limit=bar),
        Row(case, "iterations, mean", "", sum(rounds) / layers),
        compare(some, "clustering", "s", ours_here_s, PEER, peer_s),
        compare(some, "loss (1 - cosine)", "", sum(ours_loss) / len(compared), PEER,
                sum(peer_losses) / len(compared), 1.01 * sum(peer_losses) / len(compared)),
    ]  # fmt: skip
    suffix = "" if given.preset == "8k" and not given.model else f"_{given.preset}_{source}"
    write_results(f"squeezed_clustering{suffix}", rows)


if __name__ == "__main__":
    main()
