"""What a masked LM is worth on held-out proteins: corpus scores with intervals, beside baselines of
counts.

Everything is scored on the same masked positions. Two kinds of count baselines are reported,
because BERT masking leaves a residue in sight at one in five scored positions: plain ones look at
training frequencies or at both neighbours, the `_seen` ones are told in addition what stands at the
position, as the network is.
"""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lcframework.data.alphabet import TOKENS
from lcframework.data.batch import PackedProteins
from lcframework.scoring.count_baselines import NeighbourCounts, uniform_nll, unigram_nll
from lcframework.scoring.intervals import Interval, bootstrap_ratio
from lcframework.scoring.length_bins import LENGTH_EDGES, checked_edges, scores_by_length
from lcframework.scoring.masked_lm import accuracy_per_token, score_masked_lm, sum_by_protein
from lcframework.scoring.masked_lm_metric import MaskedLMMetric

log = logging.getLogger(__name__)
BASELINES_FILE = "baselines.npz"
SPECIALS = 2  # <cls> and <eos>
HELD_OUT_EVERY = 10


class MaskedLMReport(Callback):
    """Scores the test proteins, computes the baselines, prints a table and keeps everything for
    `results.json`.

    Args:
        folder: the run directory; the training counts are kept there as `baselines.npz`.
        length_edges: borders of the length bins, in residues.
        baseline_residues: the counts are taken from a random choice of training proteins of about
            this many residues.
        proteins_per_pack: proteins counted at a time.

    Attributes:
        results: `{"metrics": {name: {"value", "low", "high", "n"}}, "tables": {name: [row, ...]}}`,
            after a test.
    """

    def __init__(
        self,
        folder: str | Path,
        length_edges: tuple[int, ...] = LENGTH_EDGES,
        baseline_residues: int = 50_000_000,
        proteins_per_pack: int = 64,
    ) -> None:
        self.folder = Path(folder)
        self.length_edges = checked_edges(length_edges)
        self.baseline_residues = baseline_residues
        self.proteins_per_pack = proteins_per_pack
        self.results: dict[str, Any] = {}
        self._metric = MaskedLMMetric()
        self._counts: NeighbourCounts | None = None
        self._nll: dict[str, list[np.ndarray]] = {}
        self._scored: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []

    def baselines_from(self, checkpoint: Path) -> None:
        """Take the training counts kept in the run directory of a checkpoint, where there are
        any."""
        path = checkpoint.parent.parent / BASELINES_FILE
        if path.is_file():
            self._counts = NeighbourCounts.load(path)
        else:
            log.info(
                "No %s beside %s: only the uniform baseline is reported.",
                BASELINES_FILE,
                checkpoint,
            )

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew; count the training data if this run has some."""
        self._metric = MaskedLMMetric(_model(pl_module).vocab_size).to(pl_module.device)
        self._nll, self._scored, self._ids = {}, [], []
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if self._counts is None and getattr(datamodule, "inputs", {}).get("train") is not None:
            self._counts = self._count(datamodule)
            if trainer.is_global_zero:
                self._counts.save(self.folder / BASELINES_FILE)

    def _count(self, datamodule: Any) -> NeighbourCounts:
        """Counts of a random choice of training proteins; every tenth pack fits the mixture
        weights."""
        dataset, store = datamodule.dataset("train"), datamodule.store("train")
        order = np.random.default_rng(0).permutation(len(store))
        mean = dataset.token_lengths().mean()
        chosen = order[: max(HELD_OUT_EVERY * 2, int(self.baseline_residues / mean))]
        pieces = max(2, len(chosen) // self.proteins_per_pack)
        counts, held_out = NeighbourCounts(), []
        for number, indices in enumerate(np.array_split(chosen, min(pieces, len(chosen)))):
            pack = dataset[(0, np.sort(indices))]
            if number % HELD_OUT_EVERY == 1:
                held_out.append((pack.tokens.numpy(), pack.labels.numpy()))
            else:
                counts.update(pack.tokens.numpy(), pack.labels.numpy())
        counts.finalize(held_out)
        return counts

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: PackedProteins,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one batch to the network's scores and to the baselines'."""
        owner = torch.searchsorted(batch.cu_seqlens[1:].long(), outputs["at"], right=True)
        lengths = batch.cu_seqlens.diff().long() - SPECIALS
        self._metric.update(
            outputs["logits"], outputs["targets"], owner, batch.sequence_ids, lengths
        )
        self._add_baselines(batch, owner, getattr(trainer.datamodule, "rule", None))  # type: ignore[attr-defined]

    def _add_baselines(self, batch: PackedProteins, owner: Tensor, rule: Any) -> None:
        tokens, labels = batch.tokens.cpu().numpy(), batch.labels.cpu().numpy()
        values = {"uniform": uniform_nll(tokens, labels)}
        if self._counts is not None:
            residues = self._counts.counts.sum((0, 1))
            values["unigram"] = unigram_nll(residues, tokens, labels)
            values["neighbour"] = self._counts.nll(tokens, labels)
            kept = 0.0 if rule is None else 1.0 - rule.mask_share - rule.random_share
            if rule is not None and kept > 0 and rule.random_share > 0:
                share = kept / (kept + rule.random_share)
                values["unigram_seen"] = unigram_nll(residues, tokens, labels, true_share=share)
                values["neighbour_seen"] = self._counts.nll(tokens, labels, true_share=share)
        proteins = batch.num_sequences
        for name, nll in values.items():
            sums, scored = sum_by_protein(nll, owner.cpu().numpy(), proteins)
            self._nll.setdefault(name, []).append(sums)
        self._scored.append(scored)
        self._ids.append(batch.sequence_ids.cpu().numpy())

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute everything once over all proteins of all ranks; log it and keep it."""
        found = self._metric.compute()
        score = score_masked_lm(found.nll_sum, found.n_scored, found.n_correct, found.lengths)
        metrics = {
            "test/loss": Interval(
                score.loss,
                float(np.log(score.perplexity.low)),
                float(np.log(score.perplexity.high)),
                score.perplexity.n,
            ),
            "test/perplexity": score.perplexity,
            "test/accuracy": score.accuracy,
        }
        for name, parts in self._nll.items():
            metrics[f"baseline/{name}_perplexity"] = self._baseline(trainer, parts)
        own = {name: value.value for name, value in metrics.items() if name.startswith("test/")}
        pl_module.log_dict(own, rank_zero_only=True)
        model = _model(pl_module)
        parameters = {part: model.num_parameters(part) for part in ("all", "blocks", "embeddings")}
        self.results = {
            "metrics": {name: value.as_dict() for name, value in metrics.items()}
            | {
                "model/parameters": {
                    "value": parameters["all"],
                    "low": None,
                    "high": None,
                    "n": None,
                }
            },
            "tables": {
                "model": [
                    {
                        "name": f"{model.architecture} {parameters['all'] / 1e6:.2f}M",
                        **parameters,
                        **model.hparams,
                    }
                ],
                "length_bins": _length_rows(found, self.length_edges),
                "amino_acids": _amino_acid_rows(found),
            },
        }
        if trainer.is_global_zero:
            _show(metrics)

    def _baseline(self, trainer: pl.Trainer, parts: list[np.ndarray]) -> Interval:
        columns = [np.concatenate(one) for one in (parts, self._scored, self._ids)]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, columns)
            columns = [np.concatenate(one) for one in zip(*gathered, strict=True)]
        # In the order of the network's own scores, each protein once: the same resamples for both.
        sums, scored, ids = columns
        _, first = np.unique(ids, return_index=True)
        return bootstrap_ratio(sums[first], scored[first], np.exp)


def _model(pl_module: pl.LightningModule) -> Any:
    return pl_module.model


def _length_rows(found: Any, edges: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = scores_by_length(found.lengths, found.nll_sum, found.n_scored, found.n_correct, edges)
    return [
        {
            "bin": row["bin"],
            "n": row["proteins"],
            "residues_scored": row["residues_scored"],
            "perplexity": row["perplexity"],
            "low": row["perplexity_low"],
            "high": row["perplexity_high"],
        }
        for row in rows
        if row["proteins"]
    ]


def _amino_acid_rows(found: Any) -> list[dict[str, Any]]:
    rows = accuracy_per_token(found.confusion, TOKENS)
    return sorted(
        ({"residue": row.pop("token"), **row} for row in rows), key=lambda row: row["residue"]
    )


def _show(metrics: dict[str, Interval]) -> None:
    for name, value in metrics.items():
        log.info(
            "%-36s %8.3f  (95%% interval %.3f to %.3f)", name, value.value, value.low, value.high
        )
