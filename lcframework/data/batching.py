"""Epoch plans: every protein exactly once, in packs under a token budget, shared among ranks.

The number of batches of an epoch is the same in every epoch and on every rank, as progress bars,
schedules and gradient synchronisation rely on it; where packing comes out with fewer packs, the
fullest ones are halved.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from lcframework.data.counter_random import Stream, permutation, stream_key
from lcframework.data.packing import (
    MIN_WINDOW_PROTEINS,
    Packs,
    merge_packs,
    packs_by_length,
    packs_in_order,
    split_packs,
)
from lcframework.errors import DataError

SPARE_PACKS = 0.002
"""Room in the number of batches for epochs that pack slightly worse than the first."""

BatchSpec = tuple[int, NDArray[np.int64]]
"""An epoch and the indices of the proteins of one batch."""


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one rank in one epoch.

    Attributes:
        indices: (n_rank,) int64 proteins, batch after batch.
        borders: (batches + 1,) int64, batch b owns `indices[borders[b]:borders[b + 1]]`.
        fill: share of the token budget used, over all ranks; a protein longer than the budget
            counts as one full batch.
    """

    indices: NDArray[np.int64]
    borders: NDArray[np.int64]
    fill: float

    def __len__(self) -> int:
        return len(self.borders) - 1

    def __getitem__(self, batch: int) -> NDArray[np.int64]:
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of a plan of {len(self)}")
        return self.indices[self.borders[batch] : self.borders[batch + 1]]


def _epoch_packs(
    lengths: NDArray[np.int64], max_tokens: int, seed: int, epoch: int, shuffle: bool
) -> Packs:
    if not shuffle:
        return packs_in_order(lengths, max_tokens)
    order = permutation(stream_key(seed, epoch, Stream.PROTEIN_ORDER), len(lengths))
    return packs_by_length(lengths, order, max_tokens)


def batches_per_epoch(
    lengths: NDArray[np.int64],
    max_tokens: int,
    seed: int = 0,
    world_size: int = 1,
    shuffle: bool = True,
) -> int:
    """Batches of all ranks together in any epoch: a multiple of `world_size`.

    Args:
        lengths: (n,) int64 tokens per protein, special tokens included.
        max_tokens: budget of a batch.
        seed: seed of the run.
        world_size: number of ranks.
        shuffle: as for `plan_epoch`.

    Raises:
        DataError: there are fewer proteins than ranks.
        ValueError: `max_tokens` or `world_size` is not positive.
    """
    if max_tokens < 1 or world_size < 1:
        raise ValueError(f"max_tokens and world_size must be positive: {max_tokens}, {world_size}")
    if len(lengths) < world_size:
        raise DataError(
            f"{len(lengths)} proteins cannot be shared among {world_size} ranks, as every rank "
            "needs at least one: use fewer devices or more data."
        )
    packs = len(_epoch_packs(lengths, max_tokens, seed, 0, shuffle)[1]) - 1
    if shuffle and len(lengths) > MIN_WINDOW_PROTEINS:
        # Within a single window every epoch has packs of the same sizes: nothing to spare for.
        packs += int(np.ceil(SPARE_PACKS * packs))
    wanted = -(-packs // world_size) * world_size
    return min(wanted, len(lengths) // world_size * world_size)


def plan_epoch(
    lengths: NDArray[np.int64],
    max_tokens: int,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool = True,
    num_batches: int | None = None,
) -> EpochPlan:
    """The batches of one rank in one epoch, a pure function of the arguments.

    Over all ranks every protein occurs exactly once. With `shuffle`, similar lengths meet within a
    random window of proteins and the order of the batches is random; without it, batches are
    consecutive proteins in the order of the store.

    Args:
        lengths: (n,) int64 tokens per protein, special tokens included.
        max_tokens: budget of a batch; a longer protein gets a batch of its own, whole.
        seed: seed of the run.
        epoch: epoch number.
        rank: this rank.
        world_size: number of ranks.
        shuffle: random batches (training) or the store's order (evaluation).
        num_batches: what `batches_per_epoch` says, if already known.

    Raises:
        DataError: there are fewer proteins than ranks.
        ValueError: a number is out of range.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not one of {world_size} ranks")
    if num_batches is None:
        num_batches = batches_per_epoch(lengths, max_tokens, seed, world_size, shuffle)
    packs = _epoch_packs(lengths, max_tokens, seed, epoch, shuffle)
    if len(packs[1]) - 1 > num_batches and epoch:
        # This epoch packs worse than the spare allows: use the first epoch's packs, in new order.
        packs = _epoch_packs(lengths, max_tokens, seed, 0, shuffle)
    if len(packs[1]) - 1 > num_batches:
        packs = merge_packs(packs, lengths, num_batches)
    indices, borders = split_packs(packs, lengths, num_batches)

    chosen = np.arange(num_batches)
    if shuffle:
        chosen = permutation(stream_key(seed, epoch, Stream.BATCH_ORDER), num_batches)
    mine = chosen[rank::world_size]
    sizes = borders[mine + 1] - borders[mine]
    own_borders = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    into = np.arange(own_borders[-1]) + np.repeat(borders[mine] - own_borders[:-1], sizes)
    tokens = np.add.reduceat(lengths[indices], borders[:-1])
    fill = float(np.minimum(tokens, max_tokens).sum() / (num_batches * max_tokens))
    return EpochPlan(indices[into], own_borders, fill)


class EpochBatchSampler(DistributedSampler):
    """Yields one rank's batches of an epoch as `(epoch, indices)`, from any position.

    A `DistributedSampler` on purpose: Lightning then neither wraps it in one of its own nor
    forgets to call `set_epoch`. Use it as the `sampler` of a `DataLoader(batch_size=None)`.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        max_tokens: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        """Plan nothing yet, but fix the number of batches.

        Args:
            lengths: (n,) int64 tokens per protein, special tokens included.
            max_tokens: budget of a batch.
            seed: seed of the run.
            rank: this rank.
            world_size: number of ranks.
            shuffle: as for `plan_epoch`.

        Raises:
            DataError: there are fewer proteins than ranks.
        """
        super().__init__(
            lengths,  # pyright: ignore[reportArgumentType]  (only its length is used)
            num_replicas=world_size,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
        )
        self.lengths = lengths
        self.max_tokens = max_tokens
        self._num_batches = batches_per_epoch(lengths, max_tokens, seed, world_size, shuffle)
        self._resume: tuple[int, int] = (0, 0)
        self._planned: tuple[int, EpochPlan] | None = None

    def plan(self, epoch: int) -> EpochPlan:
        """This rank's batches of an epoch; the last one asked for is kept."""
        if self._planned is None or self._planned[0] != epoch:
            plan = plan_epoch(
                self.lengths,
                self.max_tokens,
                seed=self.seed,
                epoch=epoch,
                rank=self.rank,
                world_size=self.num_replicas,
                shuffle=self.shuffle,
                num_batches=self._num_batches,
            )
            self._planned = (epoch, plan)
        return self._planned[1]

    def resume_at(self, epoch: int, batches_done: int) -> None:
        """Move to an epoch, of which the first `batches_done` batches are done.

        Iterating over that epoch starts after them, over any other at its first batch. The epoch
        is set at once: a loader with workers asks for its first batches before Lightning has
        called `set_epoch`.

        Args:
            epoch: epoch number.
            batches_done: batches of this rank already used, at most `len(self)`.

        Raises:
            ValueError: the position lies outside the epoch.
        """
        if epoch < 0 or not 0 <= batches_done <= len(self):
            raise ValueError(
                f"cannot resume at batch {batches_done} of epoch {epoch}: an epoch has {len(self)}"
            )
        self._resume = (epoch, batches_done)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        plan = self.plan(epoch)
        resume_epoch, batches_done = self._resume
        for batch in range(batches_done if epoch == resume_epoch else 0, len(plan)):
            yield epoch, plan[batch]

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch, also when it is resumed in the middle."""
        return self._num_batches // self.num_replicas
