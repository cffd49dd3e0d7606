"""Data modules of Focused Learning: pools of two-view pairs for training, prompts for testing."""

import hashlib
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from lcframework.data.focused.example import QAExample
from lcframework.data.focused.item import FocusedItem, PromptTemplate, make_item
from lcframework.data.focused.pools import FocusedBatch, Pools, PoolSampler
from lcframework.data.focused.qasper import read_qasper
from lcframework.data.focused.readers import read_custom, read_quality
from lcframework.data.generation import GenerationDataModule
from lcframework.data.resume import Position, position, realign
from lcframework.data.retrieval.chunkers import Chunker, Paragraphs, WordWindows
from lcframework.data.retrieval.retrievers import BM25
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import DataError

log = logging.getLogger(__name__)
Where = str | Path | None


class FocusedDataModule(GenerationDataModule):
    """Base of the data sets. Training and validation give `FocusedBatch`, testing one `FocusedItem`
    at a time.

    Args:
        retrieval: makes the focused view; None: BM25, three chunks.
        pool_size: pairs of one rank's step, at least 2.
        prompt: name or path of a Jinja template; None: the data set's own.
        max_items: only the first so many test items of each task; None: all.
        chat: whether the prompt is put into the model's chat template.
        seed: of the order of training.

    Attributes:
        items: of the test.
        counts: what retrieval found, by split; see `Retrieval`.

    Raises:
        ValueError: a pool of one: its contrastive loss is 0.
    """

    suite = "custom"

    def __init__(
        self, retrieval: Retrieval | None = None, pool_size: int = 8, prompt: str | None = None,
        max_items: int | None = None, chat: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(None, max_items)
        if pool_size < 2:
            raise ValueError(
                f"pool_size={pool_size}: with one pair there is no negative and the contrastive "
                "loss is 0 with no gradient; give 2 or more"
            )
        self.retrieval = retrieval or Retrieval(BM25())
        self.pool_size, self.seed, self.chat = pool_size, seed, chat
        self.prompt = prompt or self.suite
        self.counts: dict[str, dict[str, Any]] = {}
        self._splits: dict[str, list[FocusedItem]] = {}
        self._restored: dict[str, Any] = {}

    def examples(self, split: str) -> list[QAExample]:
        """The examples of "train", "valid" or "test".

        Raises:
            DataError: bad files.
        """
        raise NotImplementedError

    def split(self, name: str) -> list[FocusedItem]:
        """The items of a split, made once.

        Raises:
            DataError: bad files, no example, two of one key, no pair left to contrast.
        """
        if name in self._splits:
            return self._splits[name]
        examples = self.examples(name)
        if not examples:
            raise DataError(f"{self.inputs.get(name)}: the {name} split has no question.")
        kept, self.counts[name] = self.retrieval(examples)
        counts = self.counts[name]
        log.info("%s: %s", name, ", ".join(
            f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
            for key, value in counts.items()
        ))  # fmt: skip
        if 0 < counts["with_evidence"] == counts["missed"] and self.retrieval.on_miss == "keep":
            log.warning(
                "%s: not one of %d questions has all its evidence among the %d chunks that "
                "retrieval keeps: the focused view teaches to do without. Cures: a larger "
                "data.retrieval.top_k, another retriever, data.retrieval.on_miss=union or drop.",
                name, counts["missed"], self.retrieval.top_k,
            )  # fmt: skip
        if name == "train" and counts["dropped"] == len(examples):
            raise DataError(
                f"{self.inputs.get(name)}: no pair of views is left to contrast: {counts['short']} "
                f"of {len(examples)} documents have {self.retrieval.top_k} chunks or fewer, so "
                f"that both views are equal, and of {counts['missed']} not all evidence was "
                "retrieved. Choose a smaller data.retrieval.top_k or chunk size, another retriever "
                "or another data.retrieval.on_miss."
            )
        template, places = PromptTemplate(self.prompt), dict[str, int]()
        items = []
        for one, what in zip(examples, kept, strict=True):
            number = places[one.task] = places.get(one.task, -1) + 1
            items.append(make_item(one, what, template, self.suite, number, chat=self.chat))
        self._splits[name] = items
        return items

    def read(self) -> list[FocusedItem]:  # type: ignore[override]
        """The test's items."""
        return self.split("test")

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that the stage needs.

        Raises:
            DataError: bad files, a split that is not given.
        """
        if stage in (None, "fit"):
            if self.inputs.get("train") is None:
                raise DataError("There is nothing to train on: set data.train.")
            self.split("train")
            if self.inputs.get("valid") is not None:
                self.split("valid")
        if stage in (None, "test", "predict") and self.inputs.get("test") is not None:
            super().setup(stage)

    def _pools(self, split: str, shuffle: bool) -> DataLoader:
        items, trainer = self.split(split), self.trainer
        ranks, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        size = self.pool_size if shuffle else min(self.pool_size, max(1, len(items) // ranks))
        sampler = PoolSampler(len(items), size, self.seed, rank, ranks, shuffle)
        if shuffle:
            self._continue(sampler)
        return DataLoader(Pools(items), batch_size=None, sampler=sampler)

    def train_dataloader(self) -> DataLoader:
        """Loader of `FocusedBatch`."""
        return self._pools("train", shuffle=True)

    def val_dataloader(self) -> DataLoader | list[FocusedBatch]:
        """Loader of `FocusedBatch` in order; empty without a validation split."""
        return [] if self.inputs.get("valid") is None else self._pools("valid", shuffle=False)

    def _plan(self) -> dict[str, Any]:
        digest = self.fingerprint("train")["fingerprint"]
        ranks = 1 if self.trainer is None else self.trainer.world_size
        return {"data": digest, "pool_size": self.pool_size, "seed": self.seed, "ranks": ranks}

    def state_dict(self) -> dict[str, Any]:
        """Position in the training data; empty without a trainer that has trained."""
        if self.trainer is None or "train" not in self._splits:
            return {}
        return {**asdict(position(self.trainer)), "plan": self._plan()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Remember a position; the next train loader continues there."""
        self._restored = dict(state_dict)

    def _continue(self, sampler: PoolSampler) -> None:
        if not self._restored:
            return
        place = Position(self._restored["epoch"], self._restored["batches_done"])
        before, now = self._restored["plan"], self._plan()
        differing = [name for name in now if now[name] != before.get(name)]
        if differing:
            raise DataError(
                f"The checkpoint stands in other training data than this run's ({differing[0]} was "
                f"{before.get(differing[0])!r}, is {now[differing[0]]!r}): restore it, or train "
                "anew under another run_id."
            )
        sampler.resume_at(place.epoch, place.batches_done)
        if self.trainer is not None:
            realign(self.trainer, place)
            warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What `results.json` records: `path`, `fingerprint` of all items, `n` items, and what
        retrieval found."""
        items = self.split(split)
        digest = hashlib.sha256("".join(item.digest for item in items).encode()).hexdigest()
        path = self.inputs.get(split)
        return {
            "path": None if path is None else str(path),
            "fingerprint": digest,
            "n": len(items),
            "retrieval": self.counts[split],
        }


class _FilesDataModule(FocusedDataModule):
    """A data set with a file for each split.

    Args:
        train: training file; None: there is no training.
        valid: validation file; None: no validation.
        test: test file; None: no test.
        chunker: cuts the documents; None: the data set's own.
        **common: see `FocusedDataModule`.
    """

    def __init__(
        self, train: Where = None, valid: Where = None, test: Where = None,
        chunker: Chunker | None = None, **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(**common)
        self.inputs = {"train": train, "valid": valid, "test": test}
        self.chunker = chunker


class CustomDataModule(_FilesDataModule):
    """JSON lines of `{document | documents, question, answers}`, see `readers.read_custom`."""

    suite = "custom"

    def examples(self, split: str) -> list[QAExample]:
        """The split's questions."""
        return read_custom(self.inputs[split], self.chunker or Paragraphs(50, max_words=200))


class QualityDataModule(_FilesDataModule):
    """QuALITY, see `readers.read_quality`.

    Args:
        answer: "letter", or "text": the right option word for word, scored by exact match, as in
            SCROLLS.
        **common: see `FocusedDataModule`, and the files.

    Raises:
        ValueError: another kind of answer.
    """

    def __init__(self, answer: str = "letter", **common: Any) -> None:
        if answer not in ("letter", "text"):
            raise ValueError(f"answer={answer!r} is unknown: choose letter or text")
        self.answer = answer
        self.suite = "quality" if answer == "letter" else "quality_text"
        super().__init__(**common)

    def examples(self, split: str) -> list[QAExample]:
        """The split's questions."""
        chunker = self.chunker or WordWindows(100)
        return read_quality(self.inputs[split], chunker, self.answer)


class QasperDataModule(_FilesDataModule):
    """Qasper, see `readers.read_qasper`."""

    suite = "qasper"

    def examples(self, split: str) -> list[QAExample]:
        """One per reference in training, one per question in validation and test."""
        return read_qasper(self.inputs[split], split == "train", self.chunker, split)
