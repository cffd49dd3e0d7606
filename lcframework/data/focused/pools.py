"""Batches of a fixed number of pairs: the pool in which every pair has the others as negatives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, DistributedSampler

from lcframework.data.counter_random import Stream, permutation, stream_key
from lcframework.data.focused.item import FocusedItem
from lcframework.errors import DataError


@dataclass(frozen=True)
class FocusedBatch:
    """One rank's pairs of one step. No tensors: the task makes tokens of them.

    Attributes:
        items: the pairs.
    """

    items: tuple[FocusedItem, ...]

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "FocusedBatch":
        """The same; Lightning asks every batch to move."""
        return self


class Pools(Dataset[FocusedBatch]):
    """Items by lists of indices.

    Args:
        items: of the split.
    """

    def __init__(self, items: Sequence[FocusedItem]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, indices: list[int]) -> FocusedBatch:
        return FocusedBatch(tuple(self.items[one] for one in indices))


class PoolSampler(DistributedSampler):
    """Yields one rank's pools of an epoch as lists of indices, from any position. The rest that
    fills no pool is left out, other items each epoch.

    A `DistributedSampler` on purpose: Lightning leaves it as it is and calls `set_epoch`. Use it as
    the `sampler` of a `DataLoader(batch_size=None)`.

    Args:
        n: items.
        pool_size: pairs of one rank's step.
        seed: seed of the run.
        rank: this rank.
        ranks: number of ranks.
        shuffle: a new order each epoch.

    Raises:
        DataError: too few items for one pool on each rank.
    """

    def __init__(
        self, n: int, pool_size: int, seed: int = 0, rank: int = 0, ranks: int = 1,
        shuffle: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(range(n), num_replicas=ranks, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.n, self.pool_size = n, pool_size
        self._resume = (0, 0)
        if len(self) < 1:
            raise DataError(
                f"{n} training items do not fill one pool of {pool_size} on each of {ranks} ranks: "
                "give more data or a smaller data.pool_size."
            )

    def resume_at(self, epoch: int, batches_done: int) -> None:
        """Move to an epoch, of which the first `batches_done` pools are done.

        Raises:
            ValueError: the position lies outside the epoch.
        """
        if epoch < 0 or not 0 <= batches_done <= len(self):
            raise ValueError(
                f"cannot resume at pool {batches_done} of epoch {epoch}: an epoch has {len(self)}"
            )
        self._resume = (epoch, batches_done)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        order: Any = range(self.n)
        if self.shuffle:
            order = permutation(stream_key(self.seed, self.epoch, Stream.BATCH_ORDER), self.n)
        first_epoch, done = self._resume
        for batch in range(done if self.epoch == first_epoch else 0, len(self)):
            start = (batch * self.num_replicas + self.rank) * self.pool_size
            yield [int(one) for one in order[start : start + self.pool_size]]

    def __len__(self) -> int:
        """Pools of this rank in a whole epoch, also when it is resumed in the middle."""
        return self.n // (self.pool_size * self.num_replicas)
