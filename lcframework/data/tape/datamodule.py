"""A downstream task's splits as packed batches."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from lcframework.data.batching import EpochBatchSampler
from lcframework.data.packed_dataset import packed_loader
from lcframework.data.resume import ResumesInTheData
from lcframework.data.tape.batch import TapeDataset
from lcframework.data.tape.proteins import TapeProtein, read_split
from lcframework.data.tape.tasks import CLASS, find_split, split_note, task_spec
from lcframework.errors import ConfigError, DataError

log = logging.getLogger(__name__)
TRAIN, VALID = "train", "valid"
SUBSET_SEED = 0


class TapeDataModule(ResumesInTheData, LightningDataModule):
    """Train, valid and all test splits of a task that are there; a batch is a `TapeBatch`.

    Args:
        path: folder with TAPE's files (`<task>/<task>_<split>.lmdb`), or with files
            `<task>_<split>.jsonl` and the like; see `tape.records.SUFFIXES`.
        task: a name in `tape.tasks.TASKS`.
        official: whether the files are TAPE's own splits; if not, every table says so.
        tests: test splits; None for those of the task that are there, or valid where none is.
        max_tokens: tokens per batch and rank; a longer protein is a batch of its own.
        max_length: longest training protein in residues; longer ones are left out and counted.
        max_proteins: of each split, a fixed random choice for a quick look; None for all.
        seed: of the order of the training batches.
        num_workers: worker processes per loader.
        pin_memory: whether loaders put batches into page-locked memory.

    Raises:
        ConfigError: no folder, an unknown task, or a setting out of range.
    """

    def __init__(
        self,
        path: str | Path | None,
        task: str,
        official: bool = False,
        tests: list[str] | None = None,
        max_tokens: int = 8192,
        max_length: int | None = None,
        max_proteins: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        if path is None:
            raise ConfigError(
                "The folder of the downstream task is not given: add data.path=DIR, the folder "
                f"that holds {task}_train.lmdb, .json or .jsonl."
            )
        if max_tokens < 1 or (max_proteins is not None and max_proteins < 2):
            raise ConfigError(
                f"data.max_tokens={max_tokens} must be at least 1 and "
                f"data.max_proteins={max_proteins} at least 2."
            )
        self.path = Path(path)
        self.spec = task_spec(task)
        self.note = split_note(self.spec, official)
        self.inputs = {"train": path, "valid": path, "test": path}
        self.tests = tests
        self.max_tokens, self.max_length, self.max_proteins = max_tokens, max_length, max_proteins
        self.seed, self.num_workers, self.pin_memory = seed, num_workers, pin_memory
        self._proteins: dict[str, list[TapeProtein]] = {}
        self._files: dict[str, Path] = {}

    def proteins(self, split: str) -> list[TapeProtein]:
        """The proteins of a split, read once.

        Raises:
            DataError: its file is missing or bad.
        """
        if split not in self._proteins:
            path = find_split(self.path, self.spec, split)
            if path is None:
                raise DataError(
                    f"{self.path} holds no {self.spec.stem}_{split}.lmdb, .json or .jsonl (plain "
                    "or compressed). Name the folder of TAPE's files."
                )
            found = read_split(path, self.spec)
            if self.max_proteins is not None and len(found) > self.max_proteins:
                generator = np.random.default_rng(SUBSET_SEED)
                chosen = np.sort(generator.choice(len(found), self.max_proteins, replace=False))
                found = [found[index] for index in chosen.tolist()]
            self._files[split] = path
            self._proteins[split] = self._short(found) if split == TRAIN else found
        return self._proteins[split]

    def _short(self, proteins: list[TapeProtein]) -> list[TapeProtein]:
        if self.max_length is None:
            return proteins
        kept = [one for one in proteins if len(one.tokens) <= self.max_length]
        if not kept:
            raise DataError(f"No training protein has at most {self.max_length} residues.")
        if len(kept) < len(proteins):
            log.info(
                "%d of %d training proteins are longer than %d residues and left out.",
                *(len(proteins) - len(kept), len(proteins), self.max_length),
            )
        return kept

    def test_splits(self) -> list[str]:
        """Names of the test splits that are tested."""
        if self.tests is None:
            there = [one for one in self.spec.tests if find_split(self.path, self.spec, one)]
            if not there:
                log.info("%s: no test split of %s, valid is tested.", self.path, self.spec.name)
                self.note += "; tested on valid, which also chose the weights"
            self.tests = there or [VALID]
        return list(self.tests)

    @property
    def classes(self) -> int:
        """Outputs of the head: classes, or 1 for a value."""
        if self.spec.kind == CLASS and not self.spec.classes:
            splits = [TRAIN, VALID, *self.test_splits()]
            return 1 + max(int(one.label) for split in splits for one in self.proteins(split))
        return self.spec.classes or 1

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that a stage needs.

        Raises:
            DataError: a file is missing or bad.
        """
        self._restored = {}
        for split in (TRAIN, VALID) if stage == "fit" else self.test_splits():
            self.proteins(split)

    def _loader(self, split: str) -> DataLoader:
        dataset = TapeDataset(self.proteins(split), self.spec.kind)
        rank, world_size = self._rank()
        sampler = EpochBatchSampler(
            dataset.token_lengths(), self.max_tokens, self.seed, rank, world_size, split == TRAIN
        )
        if split == TRAIN:
            self.resume_sampler(sampler)
        return packed_loader(dataset, sampler, self.num_workers, self.pin_memory)

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def train_dataloader(self) -> DataLoader:
        """Loader of the training split; continues where a loaded checkpoint stopped."""
        return self._loader(TRAIN)

    def val_dataloader(self) -> DataLoader:
        """Loader of the valid split."""
        return self._loader(VALID)

    def test_dataloader(self) -> list[DataLoader]:
        """One loader per test split, in the order of `test_splits`."""
        return [self._loader(split) for split in self.test_splits()]

    def plan_settings(self) -> dict[str, Any]:
        """What the batches of an epoch depend on; empty before there are training data."""
        if TRAIN not in self._proteins:
            return {}
        return {
            "fingerprint": self._fingerprint(TRAIN),
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "world_size": self._rank()[1],
        }

    def _fingerprint(self, split: str) -> str:
        digest = hashlib.sha256()
        for protein in self.proteins(split):
            digest.update(protein.tokens.tobytes() + np.asarray(protein.label).tobytes())
        return digest.hexdigest()[:16]

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What `results.json` records: `path`, `fingerprint`, `n`, `split`: the note on it."""
        names = self.test_splits() if split == "test" else [split]
        return {
            "path": [str(self._files[name]) for name in names if self.proteins(name)],
            "fingerprint": "-".join(self._fingerprint(name) for name in names),
            "n": sum(len(self.proteins(name)) for name in names),
            "split": self.note,
        }
