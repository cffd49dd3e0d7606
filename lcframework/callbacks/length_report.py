"""Long proteins in a test: scores by length, loss by distance from the ends, and what context is
worth.

Sums per protein are kept on every rank, gathered at the end and scored once over all proteins; no
batch's or rank's mean is ever averaged.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch.nn import functional as F

from lcframework.callbacks.length_figures import summary, write_length_report
from lcframework.callbacks.window_queue import WindowQueue
from lcframework.data.alphabet import SPECIALS_PER_PROTEIN
from lcframework.data.batch import PackedProteins
from lcframework.data.context_windows import cut_windows
from lcframework.errors import ConfigError, DataError
from lcframework.scoring.context_pairs import paired_context_rows
from lcframework.scoring.end_distance import (
    DISTANCE_EDGES,
    end_distances,
    loss_by_distance,
    sum_by_distance,
)
from lcframework.scoring.intervals import RESAMPLES
from lcframework.scoring.length_bins import (
    LENGTH_EDGES,
    MIN_PROTEINS,
    checked_edges,
    scores_by_length,
)

log = logging.getLogger(__name__)
CONTEXTS = (512, 1024, 2048, 4096)
SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")
Columns = dict[str, NDArray[Any]]


class LengthReport(Callback):
    """Scores a test by protein length and writes tables and pictures to `folder/figures`.

    Works with any task whose `test_step` returns `logits` (M, V), `targets` (M,) and `at` (M,) and
    which has `score(batch)`, as `MaskedLMTask`, on batches of `PackedProteins`.

    Args:
        folder: the run directory.
        length_edges: borders of the length bins, in residues.
        distance_edges: borders of the bins of distance from the nearest end, in residues.
        contexts: window sizes in tokens that are compared with the whole protein; an empty list
            leaves the comparison out.
        target_residues: length of the stretches whose masked residues are compared.
        targets_per_protein: such stretches per protein, spread over it.
        window_tokens: windows are scored in packs of at most so many tokens.
        min_proteins: fewer proteins give no number.
        resamples: bootstrap resamples over proteins.
        seed: seed of the stretches' places and of the resamples; the masks are the data's own.

    Attributes:
        results: `{"metrics": {}, "tables": {"scores_by_length", "loss_by_end_distance",
            "loss_by_context"}}` after a test.

    Raises:
        ConfigError: edges or sizes that make no bins or windows.
    """

    def __init__(
        self,
        folder: str | Path,
        length_edges: Sequence[int] = LENGTH_EDGES,
        distance_edges: Sequence[int] = DISTANCE_EDGES,
        contexts: Sequence[int] = CONTEXTS,
        target_residues: int = 128,
        targets_per_protein: int = 2,
        window_tokens: int = 16_384,
        min_proteins: int = MIN_PROTEINS,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.length_edges = checked_edges(length_edges)
        self.distance_edges = checked_edges(distance_edges, "distance_edges")
        self.contexts: tuple[int, ...] = ()
        if len(contexts):
            self.contexts = checked_edges(contexts, "contexts")
        if min(target_residues, targets_per_protein, window_tokens, min_proteins, resamples) < 1:
            raise ConfigError(
                "target_residues, targets_per_protein, window_tokens, min_proteins and resamples "
                f"must be positive, got {target_residues}, {targets_per_protein}, "
                f"{window_tokens}, {min_proteins} and {resamples}."
            )
        if self.contexts and self.contexts[0] < target_residues + SPECIALS_PER_PROTEIN:
            raise ConfigError(
                f"contexts={list(self.contexts)}: a window of {self.contexts[0]} tokens cannot "
                f"hold target_residues={target_residues} and its two special tokens. Give larger "
                "contexts or a smaller target_residues."
            )
        self.target_residues = target_residues
        self.targets_per_protein = targets_per_protein
        self.window_tokens = window_tokens
        self.options = {"min_proteins": min_proteins, "resamples": resamples, "seed": seed}
        self.results: dict[str, Any] = {}
        self._parts: list[Columns] = []
        self._queue = WindowQueue(len(self.contexts), window_tokens)
        self._batch: PackedProteins | None = None

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew.

        Raises:
            ConfigError: the strategy shards the weights, so ranks cannot run windows on their own.
        """
        name = type(trainer.strategy).__name__
        if self.contexts and name in SHARDED:
            raise ConfigError(
                f"{name} shards the network, and ranks with unequal numbers of windows would wait "
                "for each other for ever. Evaluate on one device or with trainer=ddp, or set "
                "callbacks.lengths.contexts=[]."
            )
        self.results, self._parts = {}, []
        self._queue = WindowQueue(len(self.contexts), self.window_tokens)

    def on_test_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: PackedProteins,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remember the batch, to name it should memory run out."""
        self._batch = batch

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say which size was beyond memory.

        Raises:
            DataError: instead of an out-of-memory error in a test batch.
        """
        text = str(exception)
        out_of_memory = isinstance(exception, torch.OutOfMemoryError) or "not enough memory" in text
        if not out_of_memory or self._batch is None or not trainer.testing:
            return
        raise DataError(
            f"A test batch of {self._batch.num_tokens:,} tokens, its longest protein "
            f"{self._batch.max_len:,}, or the windows cut from it, {self.window_tokens:,} tokens "
            f"at a time, did not fit in the memory of {pl_module.device}. Lower "
            "data.eval_max_tokens and callbacks.lengths.window_tokens, use "
            "trainer.precision=bf16-mixed, or take the longest proteins out of data.test. "
            f"({text.splitlines()[0] if text else 'no detail'})"
        ) from exception

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: PackedProteins,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Sum the batch's scores by protein; queue windows of its long proteins."""
        logits, targets, at = (outputs[name] for name in ("logits", "targets", "at"))
        cu = batch.cu_seqlens.long()
        owner = torch.searchsorted(cu[1:], at, right=True)
        nll = F.cross_entropy(logits.float(), targets, reduction="none").double()
        right = (logits.argmax(1) == targets).cpu().numpy()
        owner_M, nll_M, cu_S = owner.cpu().numpy(), nll.cpu().numpy(), cu.cpu().numpy()
        s, lengths_S = batch.num_sequences, np.diff(cu_S) - SPECIALS_PER_PROTEIN
        positions_M = at.cpu().numpy() - cu_S[owner_M] - 1
        distances_M, ends_M = end_distances(positions_M, lengths_S[owner_M])
        far_nll, far_n = sum_by_distance(
            nll_M, distances_M, ends_M, owner_M, s, self.distance_edges
        )
        part = {
            "ids": batch.sequence_ids.cpu().numpy(),
            "lengths": lengths_S,
            "nll": np.bincount(owner_M, nll_M, s),
            "n": np.bincount(owner_M, minlength=s),
            "correct": np.bincount(owner_M[right], minlength=s),
            "distance_nll": far_nll,
            "distance_n": far_n,
            "target_nll": np.zeros(s),
            "target_n": np.zeros(s, np.int64),
        }
        if self.contexts:
            self._queue_windows(trainer, pl_module, batch, part, at.cpu().numpy(), nll_M)
        self._parts.append(part)

    def _queue_windows(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: PackedProteins,
        part: Columns,
        at_M: NDArray[np.int64],
        nll_M: NDArray[np.float64],
    ) -> None:
        """Queue a batch's windows; their residues' loss in the whole protein goes to `part`."""
        done = sum(len(one["ids"]) for one in self._parts)
        span, count = self.target_residues, self.targets_per_protein
        tokens_S = part["lengths"] + SPECIALS_PER_PROTEIN
        for protein in np.flatnonzero(tokens_S > self.contexts[0]).tolist():
            scored_T, windows = cut_windows(
                batch, protein, done + protein, self.contexts, span, count, self.options["seed"]
            )
            chosen_M = scored_T.cpu().numpy()[at_M]
            part["target_nll"][protein] = nll_M[chosen_M].sum()
            part["target_n"][protein] = chosen_M.sum()
            self._queue.add(windows, trainer, pl_module)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather all ranks' sums, score them once, write tables and pictures."""
        self._queue.flush(trainer, pl_module)
        columns = _gathered(self._columns(), trainer.world_size)
        tables = self._tables(columns)
        self.results = {"metrics": {}, "tables": tables}
        if trainer.is_global_zero:
            write_length_report(tables, self.folder / "figures")
            for line in summary(tables):
                log.info("%s", line)
            log.info("Tables and pictures by length: %s", self.folder / "figures")

    def _columns(self) -> Columns:
        if not self._parts:
            return {}
        joined = {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }
        joined["windows"] = self._queue.sums(len(joined["ids"]))
        return joined

    def _tables(self, found: Columns) -> dict[str, list[dict[str, Any]]]:
        tables = {
            "scores_by_length": scores_by_length(
                found["lengths"],
                found["nll"],
                found["n"],
                found["correct"],
                self.length_edges,
                **self.options,
            ),
            "loss_by_end_distance": loss_by_distance(
                found["distance_nll"], found["distance_n"], self.distance_edges, **self.options
            ),
        }
        if self.contexts:
            tables["loss_by_context"] = paired_context_rows(
                found["lengths"] + SPECIALS_PER_PROTEIN,
                found["windows"],
                found["target_nll"],
                found["target_n"],
                self.contexts,
                **self.options,
            )
        return tables


def _gathered(columns: Columns, world_size: int) -> Columns:
    """All ranks' proteins in the order of their ids, each once: samplers may repeat some."""
    parts: list[Any] = [columns]
    if world_size > 1:
        parts = [None] * world_size
        torch.distributed.all_gather_object(parts, columns)
    parts = [part for part in parts if part]
    if not parts:
        raise DataError("The test had no batches: nothing can be scored by length.")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _, first = np.unique(columns["ids"], return_index=True)
    return {name: values[first] for name, values in columns.items()}
