"""One training step of Focused Learning: the cached step against the direct one and against a plain
loop that accumulates (both views of a pair in turn, logits of every position, no pool, so no
contrastive loss), as fine-tuning libraries do it. Time, and on a GPU the peak memory.

Run: python benchmarks/focused_step.py --model smollm2 --tokens 2048 --pool 8 --device cuda
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import Row, compare, median_seconds, write_results

from lcframework.models.focused.lora import LoRA
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.views import View
from lcframework.models.llm.load import load_llm
from lcframework.tasks.focused_step import Pair, Weights, cached_step, direct_step

ANSWER = 16
PEERS = {"direct": "direct step", "plain": "plain accumulation, full logits, no contrast"}


def drawn_pairs(pool: int, tokens: int, kept: float, vocabulary: int, removal: bool) -> list[Pair]:
    """Pairs of random tokens whose focused view keeps a share of the document."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(pool):
        ids = torch.randint(vocabulary, (tokens,), generator=generator)
        stays = torch.rand(tokens, generator=generator) < kept
        stays[:16] = stays[-32 - ANSWER :] = True
        places, ones = torch.arange(tokens), torch.ones_like(ids)
        whole = View(ids, places, ones, ANSWER)
        focused = View(ids.where(stays, torch.zeros_like(ids)), places, ones, ANSWER)
        if removal:
            focused = View(ids[stays], places[stays], ones[stays], ANSWER)
        found.append(Pair(whole, focused, number, number))
    return found


def plain_step(network: TwoViewNetwork, pairs: Sequence[Pair]) -> None:
    """Every view in turn through the model's own loss."""
    for pair in pairs:
        for view in (pair.original, pair.focused):
            given = view.inputs(network.device)
            labels = given["input_ids"].clone()
            labels[:, : view.prompt_tokens] = -100
            loss = network.model(**given, labels=labels, use_cache=False).loss
            (loss / (2 * len(pairs))).backward()


def measured(
    step: Callable[[], Any], network: TwoViewNetwork, device: str, repeats: int
) -> tuple[float, float] | None:
    """Seconds and peak bytes of a step; None where it does not fit into the memory."""

    def once() -> None:
        network.zero_grad(set_to_none=True)
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    try:
        once()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = median_seconds(once, repeats, warmup=1)
    except torch.OutOfMemoryError:
        return None
    finally:
        network.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.empty_cache()
    return seconds, torch.cuda.max_memory_allocated() if device == "cuda" else float("nan")


def main() -> None:
    """Measure and write `results/focused_step.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--pool", type=int, default=8)
    parser.add_argument("--kept", type=float, default=0.3, help="share that the focused view keeps")
    parser.add_argument("--view", choices=("mask", "removal"), default="mask")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    dtype = "bfloat16" if given.device == "cuda" else "float32"
    model, _ = load_llm(given.model, dtype=dtype, device=given.device, attn_implementation="sdpa")
    LoRA().attach(model)
    network = TwoViewNetwork(model).to(given.device).train()
    vocabulary = model.config.get_text_config().vocab_size
    pairs = drawn_pairs(given.pool, given.tokens, given.kept, vocabulary, given.view == "removal")

    def backward(loss: torch.Tensor) -> None:
        loss.backward()

    steps = {
        "cached": lambda: cached_step(network, pairs, Weights(), backward),
        "direct": lambda: direct_step(network, pairs, Weights(), backward),
        "plain": lambda: plain_step(network, pairs),
    }
    found = {
        name: measured(one, network, given.device, given.repeats) for name, one in steps.items()
    }
    ours = found["cached"]
    if ours is None:
        raise SystemExit("The cached step does not fit into the memory: fewer --tokens.")
    name = f"{given.pool} pairs of {given.tokens:,} tokens, {given.view}, {dtype}"
    rows = []
    for peer, label in PEERS.items():
        other = found[peer]
        if other is None:
            label = f"{label} (out of memory)"
            rows.append(Row(name, "throughput", "pairs/s", given.pool / ours[0], label))
            continue
        speeds = given.pool / ours[0], given.pool / other[0]
        rows.append(compare(name, "throughput", "pairs/s", speeds[0], label, speeds[1]))
        if given.device == "cuda":
            rows.append(compare(name, "peak memory", "GB", ours[1] / 1e9, label, other[1] / 1e9))
    write_results("focused_step", rows)


if __name__ == "__main__":
    main()
