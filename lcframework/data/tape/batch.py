"""The batch of the downstream tasks: a pack of whole proteins and their labels."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lcframework.data.alphabet import CLS_ID, EOS_ID, SPECIALS_PER_PROTEIN
from lcframework.data.batch import IGNORE_LABEL, PackedProteins
from lcframework.data.batching import BatchSpec
from lcframework.data.tape.proteins import IGNORED, TapeProtein, contact_labels
from lcframework.data.tape.tasks import CONTACT, RESIDUE, VALUE


@dataclass(frozen=True)
class TapeBatch:
    """S labelled proteins in T tokens.

    Attributes:
        pack: the proteins; nothing is masked. Its labels are the classes of the residues where the
            task has them, -100 elsewhere.
        targets: (S,) int64 classes or (S,) float32 values; (sum of L^2,) int8 contact maps behind
            one another, -1 unscored; empty for classes per residue.
    """

    pack: PackedProteins
    targets: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TapeBatch":
        """The same batch on `device`."""
        return replace(
            self,
            pack=self.pack.to(device, non_blocking),
            targets=self.targets.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "TapeBatch":
        """The same batch in page-locked memory."""
        return replace(self, pack=self.pack.pin_memory(), targets=self.targets.pin_memory())


def make_batch(proteins: list[TapeProtein], ids: NDArray[np.int64], kind: str) -> TapeBatch:
    """Pack proteins.

    Args:
        proteins: at least one.
        ids: (S,) their numbers.
        kind: of the task.
    """
    tokens, labels = [], []
    for protein in proteins:
        residues = protein.tokens.astype(np.int64)
        tokens.append(np.concatenate([[CLS_ID], residues, [EOS_ID]]))
        label = np.full(len(residues) + SPECIALS_PER_PROTEIN, IGNORE_LABEL, dtype=np.int64)
        if kind == RESIDUE:
            label[1:-1] = np.where(protein.label == IGNORED, IGNORE_LABEL, protein.label)
        labels.append(label)
    lengths = np.array([len(one) for one in tokens])
    pack = PackedProteins(
        tokens=torch.from_numpy(np.concatenate(tokens)),
        labels=torch.from_numpy(np.concatenate(labels)),
        cu_seqlens=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        max_len=int(lengths.max()),
        sequence_ids=torch.from_numpy(ids.astype(np.int64)),
    )
    return TapeBatch(pack, _targets(proteins, kind))


def _targets(proteins: list[TapeProtein], kind: str) -> Tensor:
    if kind == RESIDUE:
        return torch.zeros(0, dtype=torch.int64)
    if kind == CONTACT:
        maps = [contact_labels(protein.label).reshape(-1) for protein in proteins]
        return torch.from_numpy(np.concatenate(maps))
    dtype = torch.float32 if kind == VALUE else torch.int64
    return torch.tensor([protein.label for protein in proteins], dtype=dtype)


class TapeDataset(Dataset):
    """Batches of a split, addressed by (epoch, protein indices); the epoch changes nothing.

    Args:
        proteins: the split.
        kind: of the task.
    """

    def __init__(self, proteins: list[TapeProtein], kind: str) -> None:
        self.proteins = proteins
        self.kind = kind

    def token_lengths(self) -> NDArray[np.int64]:
        """(n,) tokens of each protein, specials included."""
        lengths = [len(protein.tokens) + SPECIALS_PER_PROTEIN for protein in self.proteins]
        return np.array(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.proteins)

    def __getitem__(self, spec: BatchSpec) -> TapeBatch:
        """The batch of (epoch, (S,) indices)."""
        _, ids = spec
        return make_batch([self.proteins[index] for index in ids.tolist()], ids, self.kind)
