"""Scoring all single substitutions of a protein, and embedding proteins: packed, against the loops
that people write.

Run: python benchmarks/variant_scoring.py [--lcplm lcplm_130m] [--esm esm2_130m]. Weights are
random: speed does not depend on them. Writes results/variant_scoring.json and .png.

Masked marginals of every single substitution of a 245-residue and a 3,423-residue target (median
and longest of ProteinGym) need one masked copy per position. Compared are
* ours: LC-PLM, or the ESM-2 of equal size, copies packed under a token budget;
* the naive loop: the same network, one forward pass per variant, which recomputes a position for
  each of its 19 substitutions; and the same loop around transformers' model;
* transformers' EsmForMaskedLM of equal size in bfloat16 with SDPA, which computes every position
  once too, in batches of equal lengths: no padding is lost here.
A loop is timed on a sample of its passes, the long target on a sample of its positions; rates are
per second, so the sample does not enter them. Embedding: real protein lengths, mean per protein,
against EsmModel over padded batches in file order.
"""

import argparse
import gzip
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from harness import RESULTS, Row, compare, write_results
from transformers import EsmForMaskedLM

from lcframework.data.alphabet import MASK_ID, STANDARD_RESIDUES, VOCAB_SIZE, encode
from lcframework.data.proteingym.mutants import parse_mutants
from lcframework.models.esm2.model import ESM2
from lcframework.models.lcplm.model import LCPLM
from lcframework.tasks.embeddings import embeddings_of
from lcframework.tasks.variant_effects import reference
from lcframework.tasks.variant_effects.inference import Inference
from lcframework.tasks.variant_effects.masked_copies import token_row
from lcframework.tasks.variant_effects.strategies import score_mutants

ROOT = Path(__file__).parents[1]
TARGETS = ((245, 245), (3423, 96))
"""(residues, positions measured)."""
PER_POSITION = len(STANDARD_RESIDUES) - 1


def preset(name: str) -> Any:
    """A network with random weights from `conf/model`."""
    node = yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text())
    kind = {"LCPLM": LCPLM, "ESM2": ESM2}[node.pop("_target_").rpartition(".")[2]]
    return kind(**node)


def hf_peer(network: ESM2, device: str) -> Any:
    """transformers' own model with the same weights, in bfloat16 on a GPU."""
    made: Any = network.network
    config = type(made.config)(**made.config.to_dict())
    config._attn_implementation = "sdpa"
    peer: Any = EsmForMaskedLM(config)
    peer.load_state_dict(made.state_dict(), strict=False)  # the contact head alone is missing
    return peer.to(device, torch.bfloat16 if device == "cuda" else torch.float32).eval()


def seconds_of(work: Callable[[], Any], device: str, repeats: int = 2) -> float:
    """Best wall time after one call that compiles and warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def singles(target: str, positions: np.ndarray) -> list[str]:
    """Every single substitution at the positions."""
    return [
        f"{target[at]}{at + 1}{letter}"
        for at in positions.tolist()
        for letter in STANDARD_RESIDUES
        if letter != target[at]
    ]


@torch.inference_mode()
def hf_marginals(model: Any, target: str, positions: np.ndarray, rows: int) -> None:
    """Log-probabilities at each position masked once, in batches of `rows` equal copies."""
    device = model.device
    row = torch.from_numpy(token_row(target)).to(device)
    for start in range(0, len(positions), rows):
        at = torch.from_numpy(positions[start : start + rows] + 1).to(device)
        copies = row.repeat(len(at), 1)
        index = torch.arange(len(at), device=device)
        copies[index, at] = MASK_ID
        logits = model(copies).logits[index, at]
        logits[:, :VOCAB_SIZE].float().log_softmax(-1).cpu()


@torch.inference_mode()
def hf_embeddings(model: Any, proteins: list[np.ndarray], rows: int) -> None:
    """Mean over residues of the last states, in padded batches in file order."""
    device = model.device
    for start in range(0, len(proteins), rows):
        some = [np.concatenate([[0], one, [2]]) for one in proteins[start : start + rows]]
        longest = max(map(len, some))
        padded = np.full((len(some), longest), 1)
        for index, one in enumerate(some):
            padded[index, : len(one)] = one
        tokens = torch.from_numpy(padded).to(device)
        mask = (tokens != 1).long()
        states = model.esm(tokens, attention_mask=mask).last_hidden_state
        inside = ((tokens > 2) & (mask == 1))[..., None]
        ((states * inside).sum(1) / inside.sum(1)).float().cpu().numpy()


class Bench:
    """The networks of one run, and what is measured with them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.budget = args.max_tokens
        autocast = (
            (lambda: torch.autocast("cuda", torch.bfloat16))
            if self.device == "cuda"
            else nullcontext
        )
        torch.manual_seed(0)
        self.lcplm, self.esm = preset(args.lcplm), preset(args.esm)
        self.ours = {
            args.lcplm: Inference(self.lcplm.to(self.device).eval(), self.budget, autocast),
            args.esm: Inference(self.esm.to(self.device).eval(), self.budget, autocast),
        }
        self.peer = hf_peer(self.esm, self.device)
        self.peer_name = f"transformers {args.esm}"

    def check(self) -> None:
        """The peer computes what our ESM-2 computes, or the comparison means nothing."""
        target = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
        row = torch.from_numpy(token_row(target)).to(self.device)
        borders = torch.tensor([0, len(row)], dtype=torch.int32, device=self.device)
        with torch.inference_mode():
            ours = self.esm(row, borders, len(row)).float()
            peers = self.peer(row[None], attention_mask=torch.ones_like(row[None])).logits[0]
        error = float((ours - peers.float()).abs().max() / ours.abs().max())
        if not error < 0.05:
            raise SystemExit(f"The peer's logits differ from ours by {error:.1%}: not comparable.")

    def marginals(self, residues: int, measured: int) -> list[Row]:
        """Rows of one target."""
        generator = np.random.default_rng(0)
        target = "".join(generator.choice(list(STANDARD_RESIDUES), residues))
        positions = np.sort(generator.choice(residues, measured, replace=False))
        names = singles(target, positions)
        mutants, _, _ = parse_mutants(names, target)
        tokens = residues + 2
        peer_rows = [max(1, budget // tokens) for budget in (self.budget, 4 * self.budget)]
        peer = min(
            seconds_of(lambda n=n: hf_marginals(self.peer, target, positions, n), self.device)
            for n in dict.fromkeys(peer_rows)
        )
        peer_alone = self._peer_naive_seconds(target, positions[: 3 if residues > 1000 else 8])
        rows: list[Row] = []
        for name, inference in self.ours.items():
            spent = seconds_of(lambda i=inference: score_mutants(i, target, mutants), self.device)
            case = f"{name}, {residues:,} residues"
            few = names[: 8 if residues > 1000 else 24]
            naive = self._naive_seconds(inference, target, few)
            rows += [
                compare(case, "variants", "variants/s", len(names) / spent,
                        "one pass per variant", 1 / naive, limit=50 / naive),
                compare(case, "variants", "variants/s", len(names) / spent,
                        f"one pass of {self.peer_name} per variant", 1 / peer_alone),
                compare(case, "positions", "positions/s", measured / spent,
                        self.peer_name, measured / peer),
                compare(case, "residues", "residues/s", measured * residues / spent,
                        self.peer_name, measured * residues / peer),
            ]  # fmt: skip
        return rows

    def _naive_seconds(self, inference: Inference, target: str, names: list[str]) -> float:
        """Seconds of one variant in the loop that scores one variant at a time."""

        def loop() -> None:
            with inference.precision():
                for name in names:
                    reference.masked_marginals(inference.network, target, name)

        return seconds_of(loop, self.device) / len(names)

    def _peer_naive_seconds(self, target: str, positions: np.ndarray) -> float:
        """Seconds of one variant in the loop that people write with transformers."""

        def loop() -> None:
            for at in range(len(positions)):
                hf_marginals(self.peer, target, positions[at : at + 1], 1)

        return seconds_of(loop, self.device) / len(positions)

    def embedding(self, proteins: list[np.ndarray]) -> list[Row]:
        """Rows of embeddings, mean per protein."""
        residues = sum(map(len, proteins))
        peer = min(
            seconds_of(lambda n=n: hf_embeddings(self.peer, proteins, n), self.device)
            for n in (8, 32)
        )
        rows = []
        for name, inference in self.ours.items():
            spent = seconds_of(lambda i=inference: list(embeddings_of(i, proteins)), self.device)
            rows.append(
                compare(f"{name}, {len(proteins):,} proteins", "embedding", "residues/s",
                        residues / spent, f"padded {self.peer_name}", residues / peer)
            )  # fmt: skip
        return rows


def sample_proteins(count: int) -> list[np.ndarray]:
    """The first proteins of the embedded sample, in file order."""
    with gzip.open(ROOT / "data" / "sample" / "train.fasta.gz", "rt") as file:
        records = file.read().split(">")[1 : count + 1]
    return [encode("".join(record.splitlines()[1:])) for record in records]


def draw(rows: list[Row], path: Path) -> None:
    """Ours beside each peer, one bar group per row, on a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.55 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    for index, row in enumerate(rows):
        axes.barh(
            index - 0.2, row.ours, 0.38, color="tab:blue", label="packed" if not index else ""
        )
        axes.barh(
            index + 0.2, row.peer or 0.0, 0.38, color="0.6", label="peer" if not index else ""
        )
        axes.text(row.ours, index - 0.2, f" {row.ratio:.1f}x", va="center", fontsize=8)
    labels = [f"{row.case}\n{row.unit}, against {row.peer_name}" for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lcplm", default="lcplm_130m", help="a name in conf/model")
    parser.add_argument("--esm", default="esm2_130m", help="the transformer of equal size")
    parser.add_argument("--max-tokens", type=int, default=32_768, help="tokens of a pack")
    parser.add_argument("--proteins", type=int, default=1000, help="embedded, at most 2,000")
    parser.add_argument("--quick", action="store_true", help="small targets, to try the script")
    args = parser.parse_args()
    bench = Bench(args)
    bench.check()
    rows: list[Row] = []
    for residues, measured in ((60, 20),) if args.quick else TARGETS:
        rows += bench.marginals(residues, measured)
    rows += bench.embedding(sample_proteins(20 if args.quick else args.proteins))
    if args.quick:
        print(*rows, sep="\n")
        return
    write_results("variant_scoring", rows)
    draw(rows, RESULTS / "variant_scoring.png")


if __name__ == "__main__":
    main()
