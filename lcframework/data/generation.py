"""One prompt with its references: the item of every benchmark in which a model writes an answer."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lcframework.errors import DataError


@dataclass(frozen=True)
class GenerationItem:
    """One prompt. No tensors: the task makes tokens of it.

    Attributes:
        suite: the benchmark, which says how answers are scored.
        task: the part of the benchmark that it is reported under.
        key: name of the item, unique within the suite.
        number: its place within the task, from 0.
        document: items of one document have the same; a bootstrap draws whole documents.
        fixed: the prompt up to the question, the same for every question about the document.
        question: the rest of the prompt.
        references: accepted answers.
        max_new_tokens: tokens generated at most.
        chat: whether the benchmark wants the model's chat template around the prompt.
        one_line: whether a line end ends the answer, after one token at least.
        all_classes: classes of a classification.
        length: the benchmark's own measure of the item's length, if it has one.
    """

    suite: str
    task: str
    key: str
    number: int
    document: str
    fixed: str
    question: str
    references: tuple[str, ...]
    max_new_tokens: int
    chat: bool = True
    one_line: bool = False
    all_classes: tuple[str, ...] | None = None
    length: int | None = None

    @property
    def prompt(self) -> str:
        """The whole prompt, without a chat template."""
        return self.fixed + self.question

    @property
    def digest(self) -> str:
        """Hash of everything that an answer or its score depends on."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:16]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "GenerationItem":
        """The same; Lightning asks every batch to move."""
        return self


class _Items(Dataset[GenerationItem]):
    def __init__(self, items: Sequence[GenerationItem]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> GenerationItem:
        return self.items[index]


class EachOnce(DistributedSampler[GenerationItem]):
    """Every rank its share, no item twice: item i goes to rank i modulo ranks. Lightning leaves a
    DistributedSampler as it is, where its own would repeat items to make the shares equal."""

    def __init__(self, items: Dataset[GenerationItem], ranks: int, rank: int) -> None:
        super().__init__(items, num_replicas=ranks, rank=rank, shuffle=False)
        self._indices = range(rank, len(items), ranks)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


class GenerationDataModule(LightningDataModule):
    """Base of the benchmarks' data modules: one item per batch, in order, shared out over ranks.

    Args:
        path: where the items are read from; None: the suite makes its own.
        max_items: only the first so many of each task; None: all.

    Attributes:
        items: all items, after `setup`.

    Raises:
        ValueError: `max_items` below 1.
    """

    def __init__(self, path: Any = None, max_items: int | None = None) -> None:
        super().__init__()
        if max_items is not None and max_items < 1:
            raise ValueError(f"max_items must be at least 1, got {max_items}")
        self.path, self.max_items = path, max_items
        self.inputs: dict[str, Any] = {"test": path}
        self.items: list[GenerationItem] = []

    def read(self) -> list[GenerationItem]:
        """All items, `max_items` aside."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Read or make the items.

        Raises:
            DataError: bad files; no item; two items of one key.
        """
        kept: list[GenerationItem] = []
        counted: dict[str, int] = {}
        keys: set[str] = set()
        for item in self.read():
            if item.key in keys:
                raise DataError(f"{self.path}: the item {item.key!r} occurs twice.")
            keys.add(item.key)
            counted[item.task] = counted.get(item.task, 0) + 1
            if self.max_items is None or counted[item.task] <= self.max_items:
                kept.append(item)
        if not kept:
            raise DataError(f"{self.path}: there is no item to answer.")
        self.items = kept

    def test_dataloader(self) -> DataLoader:
        """Loader of one `GenerationItem` at a time."""
        trainer = self.trainer
        ranks, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        items = _Items(self.items)
        return DataLoader(
            items, batch_size=1, collate_fn=_the_only_one, sampler=EachOnce(items, ranks, rank)
        )

    def predict_dataloader(self) -> DataLoader:
        """The same as for testing."""
        return self.test_dataloader()

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What `results.json` records: `path`, `fingerprint` of all items, `n` items."""
        digest = hashlib.sha256("".join(item.digest for item in self.items).encode())
        return {
            "path": None if self.path is None else str(self.path),
            "fingerprint": digest.hexdigest(),
            "n": len(self.items),
        }


def _the_only_one(items: list[GenerationItem]) -> GenerationItem:
    return items[0]
