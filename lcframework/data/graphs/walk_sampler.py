"""Batches of walks under a token budget."""

from typing import Any

import numpy as np

from lcframework.data.batching import EpochBatchSampler, EpochPlan, plan_epoch
from lcframework.data.graphs.walk_dataset import WalkDataset

SPARE_BATCHES = 0.02
"""Room in the number of batches for epochs whose walks are longer than the first one's."""


class WalkSampler(EpochBatchSampler):
    """`EpochBatchSampler` of walks, whose lengths change by epoch."""

    def __init__(self, dataset: WalkDataset, max_tokens: int, **settings: Any) -> None:
        """See `EpochBatchSampler`; lengths are the dataset's."""
        super().__init__(dataset.token_lengths(0), max_tokens, **settings)
        self.dataset = dataset
        if self.shuffle:
            ranks = self.num_replicas
            spare = -(-int(np.ceil(self._num_batches * SPARE_BATCHES)) // ranks) * ranks
            self._num_batches = min(self._num_batches + spare, len(dataset) // ranks * ranks)

    def plan(self, epoch: int) -> EpochPlan:
        """This rank's batches of an epoch; the last one asked for is kept."""
        if self._planned is None or self._planned[0] != epoch:
            plan = plan_epoch(
                self.dataset.token_lengths(epoch), self.max_tokens, seed=self.seed, epoch=epoch,
                rank=self.rank, world_size=self.num_replicas, shuffle=self.shuffle,
                num_batches=self._num_batches,
            )  # fmt: skip
            self._planned = (epoch, plan)
        return self._planned[1]
