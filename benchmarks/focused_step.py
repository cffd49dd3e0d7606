"""One training step of Focused Learning: the cached step, one sequence and several at a time,
against the direct one and against a plain loop that accumulates (both views of a pair in turn,
logits of every position, no pool, so no contrastive loss), as TRL's SFTTrainer does it. Samples per
second, and on a GPU the peak memory.

Run: python benchmarks/focused_step.py --model smollm2 --tokens 2048 --pool 8 --device cuda
     --quick: a random model of a few layers and short sequences, to see that it runs
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import Row, compare, median_seconds, write_results
from transformers import LlamaConfig, LlamaForCausalLM

from lcframework.models.focused.layout import Passes
from lcframework.models.focused.lora import LoRA
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.views import View
from lcframework.models.llm.load import load_llm
from lcframework.tasks.focused_pool import Pair, Weights
from lcframework.tasks.focused_step import cached_step, direct_step

ANSWER = 16
PEERS = {
    "batched": "cached step, several sequences a pass",
    "direct": "direct step",
    "plain": "plain accumulation (as TRL), full logits, no contrast",
}


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


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(".", 1)[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--pool", type=int, default=8)
    parser.add_argument("--kept", type=float, default=0.3, help="share that the focused view keeps")
    parser.add_argument("--view", choices=("mask", "removal"), default="mask")
    parser.add_argument("--pass-tokens", type=int, default=8192, help="of the batched cached step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny random model; writes nothing")
    given = parser.parse_args()
    if given.quick:
        given.tokens, given.pool, given.repeats = 128, 4, 1
        given.pass_tokens = 2 * given.tokens
    return given


def network_of(given: argparse.Namespace, dtype: str) -> TwoViewNetwork:
    """The model with adapters, in training mode."""
    if given.quick:
        settings: dict[str, Any] = {"attn_implementation": "sdpa"}
        config = LlamaConfig(
            vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, **settings,
        )  # fmt: skip
        model: Any = LlamaForCausalLM(config)
    else:
        model, _ = load_llm(
            given.model, dtype=dtype, device=given.device, attn_implementation="sdpa"
        )
    LoRA().attach(model)
    return TwoViewNetwork(model).to(given.device).train()


def rows_of(given: argparse.Namespace, found: dict[str, Any], name: str) -> list[Row]:
    """The cached step beside every peer."""
    ours, rows = found["cached"], []
    for peer, label in PEERS.items():
        other = found[peer]
        if other is None:
            label = f"{label} (out of memory)"
            rows.append(Row(name, "throughput", "samples/s", given.pool / ours[0], label))
            continue
        speeds = given.pool / ours[0], given.pool / other[0]
        rows.append(compare(name, "throughput", "samples/s", speeds[0], label, speeds[1]))
        if given.device == "cuda":
            rows.append(compare(name, "peak memory", "GB", ours[1] / 1e9, label, other[1] / 1e9))
    return rows


def main() -> None:
    """Measure and write `results/focused_step.json`."""
    given = options()
    dtype = "bfloat16" if given.device == "cuda" else "float32"
    network = network_of(given, dtype)
    vocabulary = network.model.config.get_text_config().vocab_size
    pairs = drawn_pairs(given.pool, given.tokens, given.kept, vocabulary, given.view == "removal")

    def backward(loss: torch.Tensor) -> None:
        loss.backward()

    common = (network, pairs, Weights(), backward)
    steps = {
        "cached": lambda: cached_step(*common),
        "batched": lambda: cached_step(*common, passes=Passes(given.pass_tokens)),
        "direct": lambda: direct_step(*common),
        "plain": lambda: plain_step(network, pairs),
    }
    found = {}
    for step, one in steps.items():
        with torch.autocast(given.device, torch.bfloat16, enabled=given.device == "cuda"):
            found[step] = measured(one, network, given.device, given.repeats)
    if found["cached"] is None:
        raise SystemExit("The cached step does not fit into the memory: fewer --tokens.")
    name = f"{given.pool} pairs of {given.tokens:,} tokens, {given.view}, {dtype}"
    rows = rows_of(given, found, name)
    if given.quick:
        for row in rows:
            print(row)
        return
    write_results("focused_step", rows)


if __name__ == "__main__":
    main()
