"""A downstream task while a model trains: a linear probe on its frozen states, in closed form.

The probe has no seed and no learning rate: what changes from one look to the next is the network.
TAPE's own heads are trained by `experiment=tape/...`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from lcframework.callbacks.in_loop import InLoop, Metrics
from lcframework.callbacks.proteingym_report import model_name
from lcframework.callbacks.tape_table import Rows, result_metrics, table_rows, write_table
from lcframework.data.tape.datamodule import TRAIN, VALID, TapeDataModule
from lcframework.data.tape.proteins import TapeProtein
from lcframework.data.tape.tasks import CONTACT, RESIDUE
from lcframework.errors import ConfigError
from lcframework.scoring.intervals import Interval
from lcframework.tasks.embeddings import embeddings_of
from lcframework.tasks.tape.linear_probe import baselines, linear_probe
from lcframework.tasks.variant_effects.inference import MAX_TOKENS, Inference, evaluation_mode


class TapeProbeInLoop(InLoop):
    """Probes a fixed choice of proteins of one task while a masked language model trains.

    Proteins are shared out among the ranks. Each look writes and logs a table with the baselines,
    which are fitted once, on rank 0, and its picture.

    Args:
        folder: the run directory.
        path: folder with the task's files.
        task: a name in `data.tape.tasks.TASKS`, with classes or values.
        every_n_steps: optimizer steps between two looks; None: only at the end of training.
        max_proteins: of each split, a fixed random choice; None for all.
        official: whether the files are TAPE's own splits.
        layer: whose states are probed; -1 is the last.
        max_tokens: of a pack.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        path: str | Path | None,
        task: str = "secondary_structure",
        every_n_steps: int | None = None,
        max_proteins: int | None = 500,
        official: bool = False,
        layer: int = -1,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        if path is None:
            raise ConfigError(
                "The folder of the downstream task is not given: add callbacks.tape_probe.path=DIR."
            )
        super().__init__("tape_probe", folder, every_n_steps, max_tokens)
        self.data = TapeDataModule(path, task, official, max_proteins=max_proteins)
        if self.data.spec.kind == CONTACT:
            raise ConfigError(
                "callbacks.tape_probe probes classes and values; contacts have a head of their "
                "own: experiment=tape/contact_prediction."
            )
        self.layer = layer
        self._scores: dict[str, Interval] = {}
        self._baselines: dict[str, dict[str, Interval]] | None = None

    def prepare(self) -> None:
        """Read all splits.

        Raises:
            DataError: a file is missing or bad.
        """
        for split in (TRAIN, VALID, *self.data.test_splits()):
            self.data.proteins(split)

    def look(self, trainer: pl.Trainer, pl_module: Any, inference: Inference) -> Metrics:
        """Embed this rank's proteins, gather all, fit and score."""
        spec = self.data.spec
        tests = {split: self.data.proteins(split) for split in self.data.test_splits()}
        train, valid = self.data.proteins(TRAIN), self.data.proteins(VALID)
        every = [*train, *valid, *(one for some in tests.values() for one in some)]
        with evaluation_mode(inference.network):
            found = self._embedded(every, trainer, inference)
        states = {id(protein): one for protein, one in zip(every, found, strict=True)}

        def features(proteins: Sequence[TapeProtein]) -> Iterator[NDArray[np.floating]]:
            return (states[id(protein)] for protein in proteins)

        self._scores = linear_probe(spec, features, train, valid, tests)
        return result_metrics(f"tape_probe/{spec.name}", spec, self._scores)

    def _embedded(
        self, proteins: list[TapeProtein], trainer: pl.Trainer, inference: Inference
    ) -> list[NDArray[np.float32]]:
        """One array per protein: (L, d) for a class per residue, else (1, d)."""
        rank, world = trainer.global_rank, trainer.world_size
        per_residue = self.data.spec.kind == RESIDUE
        mine = [one.tokens for one in proteins[rank::world]]
        own: list[NDArray[np.float32]] = []
        parts = embeddings_of(inference, mine, self.layer, per_residue=per_residue)
        for first, last, rows in parts if mine else ():
            sizes = [len(one) if per_residue else 1 for one in mine[first:last]]
            own += np.split(rows, np.cumsum(sizes)[:-1])
        if world == 1:
            return own
        shared: list[Any] = [None] * world
        torch.distributed.all_gather_object(shared, own)
        return [shared[index % world][index // world] for index in range(len(proteins))]

    def report(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Rows]:
        """Write the table and the picture."""
        data = self.data
        scores: dict[str, Any] = {f"{model_name(pl_module)}, linear probe": self._scores}
        if trainer.is_global_zero:
            if self._baselines is None:
                tests = {split: data.proteins(split) for split in data.test_splits()}
                train, valid = data.proteins(TRAIN), data.proteins(VALID)
                self._baselines = baselines(data.spec, train, valid, tests)
            scores |= self._baselines
        rows = table_rows(data.spec, scores, data.note)
        if trainer.is_global_zero:
            write_table(rows, self.folder / "figures", self.name)
        return {self.name: rows}
