"""Walks over a protein interaction graph as masked packs, for the second stage of LC-PLM-G
(arXiv 2411.08909)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from lcframework.data.counter_random import Stream
from lcframework.data.graphs.csr import Graph
from lcframework.data.graphs.layout import GRAPH_VOCAB_SIZE
from lcframework.data.graphs.protein_graph import ProteinGraph, read_protein_graph
from lcframework.data.graphs.splits import fingerprint_of, split_by_sequence
from lcframework.data.graphs.walk_dataset import WalkDataset, WalkRule
from lcframework.data.graphs.walk_sampler import WalkSampler
from lcframework.data.masking import MaskingRule
from lcframework.data.packed_dataset import packed_loader
from lcframework.data.resume import ResumesInTheData
from lcframework.errors import DataError

SPLITS = ("train", "valid", "test")
CONTROLS = ("real", "shuffled", "singles")
_STREAMS = {"train": Stream.TRAIN_MASK, "valid": Stream.VALID_MASK, "test": Stream.TEST_MASK}
_EVALUATION_SEED = 0
Inputs = str | Path | Sequence[str | Path] | None


class PPIGraphDataModule(ResumesInTheData, LightningDataModule):
    """Random walks over a protein interaction graph, masked and packed under a token budget.

    Proteins are split by their sequences. Training walks keep to edges among training proteins.
    Validation and test walks begin at held-out proteins and may visit any; residues of held-out
    proteins alone are scored, the others are context. Batches are `PackedProteins` with one segment
    per walk, so a network's state is carried from node to node and reset between walks.
    """

    def __init__(
        self,
        graph: str | Path | None = None,
        sequences: Inputs = None,
        edges: Inputs = None,
        min_score: float | None = None,
        drop_unknown: bool = False,
        walk: WalkRule | None = None,
        control: str = "real",
        valid_share: float = 0.05,
        test_share: float = 0.05,
        split_seed: int = 0,
        max_tokens: int = 8192,
        eval_max_tokens: int | None = None,
        mask_probability: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Describe the data; nothing is read before `setup`.

        Args:
            graph: beginning of file names: `ppi/human` reads `ppi/human*.fasta*` and
                `ppi/human*_edges.*`. Or name the files:
            sequences: FASTA files or patterns.
            edges: edge lists or patterns; see `edge_lists.read_edges`.
            min_score: edges with a lower score are left out.
            drop_unknown: leave out edges that name a protein without a sequence.
            walk: how walks are drawn.
            control: "real" edges; "shuffled": the same proteins and degrees, other edges;
                "singles": every protein alone. What the real graph adds shows only beside these.
            valid_share, test_share: shares of the proteins held out, chosen by sequence.
            split_seed: which proteins.
            max_tokens: tokens of a training batch per rank; a walk longer than that is a batch of
                its own (`walk.max_tokens` cuts walks).
            eval_max_tokens: tokens per evaluation batch; None means `max_tokens`.
            mask_probability, mask_share, random_share: see `MaskingRule`.
            seed: of training walks, masks and batches.
            num_workers: worker processes per loader.
            pin_memory: whether loaders put packs into page-locked memory.

        Raises:
            ValueError: a number is out of range, or an unknown control.
        """
        super().__init__()
        if control not in CONTROLS:
            raise ValueError(f"data.control must be one of {', '.join(CONTROLS)}, got {control!r}")
        if min(valid_share, test_share) < 0 or valid_share + test_share >= 1:
            raise ValueError(
                "data.valid_share and data.test_share must not be negative and leave something to "
                f"train on, got {valid_share} and {test_share}"
            )
        self.files = _files(graph, sequences, edges)
        self.min_score, self.drop_unknown = min_score, drop_unknown
        self.rule = walk or WalkRule()
        self.control = control
        self.shares, self.split_seed = {"valid": valid_share, "test": test_share}, split_seed
        held_out = (split for split, share in self.shares.items() if share)
        self.inputs = dict.fromkeys(["train", *held_out], self.files)
        self.max_tokens, self.eval_max_tokens = max_tokens, eval_max_tokens or max_tokens
        self.masking = MaskingRule(mask_probability, mask_share, random_share)
        self.seed, self.num_workers, self.pin_memory = seed, num_workers, pin_memory
        self._proteins: ProteinGraph | None = None
        self._graphs: dict[str, Graph] = {}

    @property
    def proteins(self) -> ProteinGraph:
        """Sequences and interactions, read at the first use."""
        if self._proteins is None:
            sequences, edges = self.files
            self._proteins = read_protein_graph(sequences, edges, self.min_score, self.drop_unknown)
            self.members = split_by_sequence(self._proteins, self.shares, self.split_seed)
            for split, members in self.members.items():
                if not members.any() and (split == "train" or self.shares[split]):
                    raise DataError(
                        f"No protein of {self._proteins.graph.nodes} falls to {split}: raise "
                        f"data.{split}_share or give a larger graph."
                    )
        return self._proteins

    @property
    def token_ids(self) -> int:
        """How many token ids batches use: a network needs as many rows in its embedding."""
        return GRAPH_VOCAB_SIZE

    def setup(self, stage: str | None = None) -> None:
        """Read the graph."""
        self._restored = {}
        _ = self.proteins

    def graph(self, split: str) -> Graph:
        """What the walks of a split keep to: edges among training proteins, or all edges."""
        if split not in self._graphs:
            found = self.proteins.graph
            if split == "train":
                found = found.within(self.members["train"])
            if self.control == "shuffled":
                found = found.shuffled(self.split_seed)
            self._graphs[split] = found
        return self._graphs[split]

    def dataset(self, split: str) -> WalkDataset:
        """The masked walks of a split, addressed by (epoch, numbers of walks)."""
        is_train = split == "train"
        proteins = self.proteins
        rule = self.rule
        if self.control == "singles":
            # As many tokens on average: every node of a walk begins one of its own.
            rule = WalkRule(1, rule.per_node * rule.length, max_tokens=rule.max_tokens)
        nodes = np.flatnonzero(self.members[split])
        if is_train:
            return WalkDataset(
                proteins, self.graph(split), nodes, rule, self.masking, self.seed, _STREAMS[split]
            )
        held_out = ~self.members["train"]
        return WalkDataset(
            proteins, self.graph(split), nodes, rule, self.masking, _EVALUATION_SEED,
            _STREAMS[split], held_out, fixed_epoch=0,
        )  # fmt: skip

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        return 0, 1

    def _loader(self, split: str) -> DataLoader:
        rank, world_size = self._rank()
        is_train = split == "train"
        dataset = self.dataset(split)
        sampler = WalkSampler(
            dataset, self.max_tokens if is_train else self.eval_max_tokens, seed=self.seed,
            rank=rank, world_size=world_size, shuffle=is_train,
        )  # fmt: skip
        if is_train:
            self.resume_sampler(sampler)
        return packed_loader(dataset, sampler, self.num_workers, self.pin_memory)

    def train_dataloader(self) -> DataLoader:
        """Loader of `PackedProteins`; its sampler continues where a loaded checkpoint stopped."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader | list:
        """Loader of walks from held-out proteins; an empty list where none are held out."""
        return self._loader("valid") if self.shares["valid"] else []

    def test_dataloader(self) -> DataLoader:
        """Loader of walks from test proteins.

        Raises:
            DataError: none are held out.
        """
        if not self.shares["test"]:
            raise DataError("No protein is held out for a test: set data.test_share.")
        return self._loader("test")

    def plan_settings(self) -> dict[str, Any]:
        """What the batches of an epoch depend on."""
        return {
            **self.fingerprint("train"),
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "world_size": self._rank()[1],
        }

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What `results.json` records of a split: the files, what was read of them and left out,
        the split's proteins and edges, and the rule of its walks."""
        sequences, edges = self.files
        proteins = self.proteins
        return {
            "path": [str(one) for one in (sequences, edges)],
            "fingerprint": fingerprint_of(proteins),
            "n": int(self.members[split].sum()),
            "walked_edges": self.graph(split).edges,
            "control": self.control,
            "walk": {name: getattr(self.rule, name) for name in self.rule.__dataclass_fields__},
            **proteins.report(),
        }

    def sequence_names(self, split: str, ids: Sequence[int] | torch.Tensor) -> list[str]:
        """The protein at which each of these walks begins."""
        dataset = self.dataset(split)
        per_node = dataset.rule.per_node
        return [self.proteins.names[int(dataset.nodes[int(one) // per_node])] for one in ids]


def _files(graph: str | Path | None, sequences: Inputs, edges: Inputs) -> tuple[Any, Any]:
    if graph is not None:
        if sequences is not None or edges is not None:
            raise ValueError("Give data.graph, or data.sequences and data.edges, not both.")
        return f"{graph}*.fasta*", f"{graph}*_edges.*"
    if sequences is None or edges is None:
        raise DataError(
            "There is no graph: set data.graph to the beginning of its files' names, or "
            "data.sequences and data.edges to FASTA files and edge lists."
        )
    return sequences, edges
