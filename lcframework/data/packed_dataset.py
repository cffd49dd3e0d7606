"""From the indices of some proteins to a masked pack: a pure function of (epoch, indices)."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from lcframework.data.alphabet import CLS_ID, EOS_ID, SPECIALS_PER_PROTEIN
from lcframework.data.batch import PackedProteins
from lcframework.data.batching import BatchSpec, EpochBatchSampler
from lcframework.data.counter_random import Stream, stream_key
from lcframework.data.masking import MaskingRule, crop_starts, mask_pack
from lcframework.data.token_store import TokenStore


def check_max_length(max_length: int | None) -> None:
    """Refuse a length that leaves no room for a residue.

    Raises:
        ValueError: it does not.
    """
    if max_length is not None and max_length <= SPECIALS_PER_PROTEIN:
        raise ValueError(
            f"max_length counts <cls> and <eos>: it must be at least {SPECIALS_PER_PROTEIN + 1} "
            f"or None, got {max_length}"
        )


@dataclass(frozen=True)
class PackedDataset(Dataset):
    """Masked packs of a token store.

    Holds no state and no generator: workers, ranks and resumed runs give the same packs.

    Attributes:
        store: the proteins.
        rule: masking probabilities.
        seed: seed of the masks and crops.
        stream: the split's stream of masks.
        max_length: longest protein in tokens, special tokens included; a longer one is cut to a
            random window, which differs by epoch. None keeps every protein whole.
        fixed_epoch: epoch of the masks whatever the batch's epoch (evaluation), or None.
    """

    store: TokenStore
    rule: MaskingRule = field(default_factory=MaskingRule)
    seed: int = 0
    stream: Stream = Stream.TRAIN_MASK
    max_length: int | None = None
    fixed_epoch: int | None = None

    def __post_init__(self) -> None:
        check_max_length(self.max_length)

    def token_lengths(self) -> NDArray[np.int64]:
        """(n,) int64 tokens of each protein as served, special tokens included."""
        lengths = self.store.lengths + SPECIALS_PER_PROTEIN
        return lengths if self.max_length is None else np.minimum(lengths, self.max_length)

    def __len__(self) -> int:
        """Number of proteins."""
        return len(self.store)

    def __getitem__(self, spec: BatchSpec) -> PackedProteins:
        """The pack of one batch.

        Args:
            spec: the epoch, and (S,) int64 indices of proteins in the store.
        """
        epoch, ids_S = spec
        epoch = epoch if self.fixed_epoch is None else self.fixed_epoch
        residues_S = self.store.lengths[ids_S]
        first_S = np.zeros_like(residues_S)
        if self.max_length is not None:
            first_S = crop_starts(residues_S, ids_S, self.max_length, self.seed, epoch)
            residues_S = np.minimum(residues_S, self.max_length - SPECIALS_PER_PROTEIN)
        lengths_S = residues_S + SPECIALS_PER_PROTEIN
        cu_seqlens = np.zeros(len(ids_S) + 1, dtype=np.int64)
        np.cumsum(lengths_S, out=cu_seqlens[1:])
        starts_S = cu_seqlens[:-1]

        # The residue before a protein's first stands where <cls> goes, and is overwritten.
        positions_T = np.arange(cu_seqlens[-1]) + np.repeat(first_S - 1 - starts_S, lengths_S)
        source_T = positions_T + np.repeat(self.store.offsets[ids_S], lengths_S)
        tokens_T = self.store.tokens.take(source_T, mode="clip")
        tokens_T[starts_S] = CLS_ID
        tokens_T[cu_seqlens[1:] - 1] = EOS_ID
        positions_T[starts_S] = 0

        key = stream_key(self.seed, epoch, self.stream)
        masked_T, labels_T = mask_pack(tokens_T, starts_S, positions_T, ids_S, self.rule, key)
        return PackedProteins(
            tokens=torch.from_numpy(masked_T),
            labels=torch.from_numpy(labels_T),
            cu_seqlens=torch.from_numpy(cu_seqlens.astype(np.int32)),
            max_len=int(lengths_S.max()),
            sequence_ids=torch.from_numpy(ids_S.astype(np.int64)),
        )


class FixedBatches(Dataset):
    """The batches of one plan as a plain list, for `Trainer(overfit_batches=...)`.

    Lightning then insists on a sequential sampler over integers; this serves the same packs with
    the same masks again and again.
    """

    def __init__(self, dataset: PackedDataset, sampler: EpochBatchSampler) -> None:
        """Keep the plan of epoch 0."""
        self._dataset = dataset
        self._plan = sampler.plan(0)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> PackedProteins:
        return self._dataset[0, self._plan[index]]


def packed_loader(
    dataset: Dataset,
    sampler: EpochBatchSampler | None,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """A loader whose items are finished packs.

    It has its own generator, so that iterating over it consumes none of the global random state.

    Args:
        dataset: a `PackedDataset` with its sampler, or `FixedBatches` without.
        sampler: chooses the batches.
        num_workers: worker processes; they stay alive between epochs.
        pin_memory: put packs into page-locked memory.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
