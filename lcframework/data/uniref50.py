"""Protein sequences (UniRef50 or any FASTA) as masked packs, for Lightning or a plain loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from lcframework.data.batching import EpochBatchSampler
from lcframework.data.counter_random import Stream
from lcframework.data.fasta_rules import SIZES
from lcframework.data.masking import MaskingRule
from lcframework.data.packed_dataset import (
    FixedBatches,
    PackedDataset,
    check_max_length,
    packed_loader,
)
from lcframework.data.resume import ResumesInTheData
from lcframework.data.store_build import ensure_store
from lcframework.data.token_store import TokenStore
from lcframework.errors import DataError

Inputs = str | Path | Sequence[str | Path] | None
SPLITS = ("train", "valid", "test")
_STREAMS = {"train": Stream.TRAIN_MASK, "valid": Stream.VALID_MASK, "test": Stream.TEST_MASK}
_EVALUATION_SEED = 0


class UniRef50DataModule(ResumesInTheData, LightningDataModule):
    """Packed, masked proteins under a token budget.

    Training: every protein once per epoch over all ranks, in length-bucketed random batches, masked
    anew each epoch as a pure function of (seed, epoch, protein). Validation and test: whole
    proteins in file order, with masks that never change, not even with `seed`, so that models and
    seeds are compared on the same positions.

    The state saved in a checkpoint is the position in the data; a resumed run continues with the
    next batch. With gradient accumulation a checkpoint should be written after an optimizer step,
    as Lightning's `ModelCheckpoint` does: gradients in the making are not saved.
    """

    def __init__(
        self,
        train: Inputs = None,
        valid: Inputs = None,
        test: Inputs = None,
        store_dir: str | Path | None = None,
        max_tokens: int = 8192,
        max_length: int | None = None,
        eval_max_tokens: int | None = None,
        mask_probability: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Describe the data; nothing is read before `prepare_data` or `setup`.

        Args:
            train: FASTA paths or glob patterns, plain or compressed; None where not needed.
            valid: likewise.
            test: likewise.
            store_dir: parent folder of the token stores; None means `$LCF_STORES`, else
                `~/.cache/lcframework/stores`.
            max_tokens: tokens per training batch and rank, `<cls>` and `<eos>` included. A longer
                protein is a batch of its own, whole.
            max_length: longest training protein in tokens, `<cls>` and `<eos>` included; longer
                ones are cut to a random window. None trains on whole proteins.
            eval_max_tokens: tokens per evaluation batch; None means `max_tokens`.
            mask_probability: share of the standard residues that are scored.
            mask_share: share of those shown as `<mask>`.
            random_share: share of those shown as a random residue.
            seed: seed of training masks, crops and batches.
            num_workers: worker processes per loader.
            pin_memory: whether loaders put packs into page-locked memory.

        Raises:
            ValueError: a number is out of range.
        """
        super().__init__()
        if max_tokens < 1 or (eval_max_tokens is not None and eval_max_tokens < 1):
            raise ValueError(f"max_tokens must be positive: {max_tokens}, {eval_max_tokens}")
        check_max_length(max_length)
        self.inputs: dict[str, Inputs] = {"train": train, "valid": valid, "test": test}
        self.store_dir = store_dir
        self.max_tokens = max_tokens
        self.max_length = max_length
        self.eval_max_tokens = eval_max_tokens or max_tokens
        self.rule = MaskingRule(mask_probability, mask_share, random_share)
        self.seed = seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._stores: dict[str, TokenStore] = {}

    def prepare_data(self) -> None:
        """Build the token stores that are missing; Lightning calls it on one rank per node.

        Raises:
            DataError: an input is missing or malformed.
            StoreError: a store is damaged or cannot be written.
        """
        for split in SPLITS:
            if self.inputs[split] is not None:
                self.store(split)

    def setup(self, stage: str | None = None) -> None:
        """Open the stores a stage needs.

        Args:
            stage: "fit", "validate", "test", "predict" or None for all that are given.

        Raises:
            DataError: the stage needs a split that is not given.
        """
        self._restored = {}
        needed = {"fit": ["train"], "validate": ["valid"], "test": ["test"]}.get(stage or "", [])
        if stage == "fit" and self.inputs["valid"] is not None:
            needed.append("valid")
        if stage is None:
            needed = [split for split in SPLITS if self.inputs[split] is not None]
        for split in needed:
            self.store(split)

    def store(self, split: str) -> TokenStore:
        """The token store of a split, built if need be.

        Args:
            split: "train", "valid" or "test".

        Raises:
            DataError: the split has no input, or its input is missing or malformed.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
        inputs = self.inputs[split]
        if inputs is None:
            raise DataError(
                f"There are no {split} data: set data.{split} to a FASTA file or pattern."
            )
        if split not in self._stores:
            self._stores[split] = ensure_store(inputs, stores_root=self.store_dir)
        return self._stores[split]

    def dataset(self, split: str) -> PackedDataset:
        """The masked packs of a split, addressed by (epoch, protein indices)."""
        if split == "train":
            return PackedDataset(
                self.store(split), self.rule, self.seed, _STREAMS[split], self.max_length
            )
        stream = _STREAMS[split]
        return PackedDataset(self.store(split), self.rule, _EVALUATION_SEED, stream, fixed_epoch=0)

    def _sampler(self, split: str, dataset: PackedDataset) -> EpochBatchSampler:
        is_train = split == "train"
        rank, world_size = self._rank()
        return EpochBatchSampler(
            dataset.token_lengths(),
            self.max_tokens if is_train else self.eval_max_tokens,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            shuffle=is_train,
        )

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _loader(self, split: str) -> DataLoader:
        dataset = self.dataset(split)
        sampler = self._sampler(split, dataset)
        if split == "train":
            self.resume_sampler(sampler)
        overfit = getattr(self.trainer, "overfit_batches", 0)
        if overfit and split != "test":
            return packed_loader(FixedBatches(dataset, sampler), None, 0, self.pin_memory)
        return packed_loader(dataset, sampler, self.num_workers, self.pin_memory)

    def train_dataloader(self) -> DataLoader:
        """Loader of `PackedProteins`; its sampler continues where a loaded checkpoint stopped."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader | list:
        """Loader of `PackedProteins` in file order; an empty list where there are no valid data."""
        return [] if self.inputs["valid"] is None else self._loader("valid")

    def test_dataloader(self) -> DataLoader:
        """Loader of `PackedProteins` in file order."""
        return self._loader("test")

    def plan_settings(self) -> dict[str, Any]:
        """What the batches of an epoch depend on; empty before there are training data."""
        if "train" not in self._stores:
            return {}
        return {
            "fingerprint": self.store("train").fingerprint,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "max_length": self.max_length,
            "world_size": self._rank()[1],
        }

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What `results.json` records of a split: `path`, `fingerprint`, `n`, `residues`, and in
        `rules` how often a FASTA rule changed something."""
        store = self.store(split)
        return {
            "path": [entry["path"] for entry in store.meta.inputs],
            "fingerprint": store.fingerprint,
            "n": len(store),
            "residues": store.meta.num_residues,
            "rules": {rule: n for rule, n in store.meta.counts.items() if n and rule not in SIZES},
        }

    def sequence_names(self, split: str, ids: Sequence[int] | torch.Tensor) -> list[str]:
        """Identifiers of proteins given by `PackedProteins.sequence_ids`."""
        store = self.store(split)
        return [store.name(int(index)) for index in ids]
