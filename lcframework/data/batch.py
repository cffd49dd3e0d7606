"""The one batch type of the protein data: whole proteins behind one another, without padding."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

IGNORE_LABEL = -100
"""Label of a position that is not scored: `cross_entropy`'s default `ignore_index`."""


@dataclass(frozen=True)
class PackedProteins:
    """S proteins in T tokens, each `<cls> residues <eos>`.

    Attributes:
        tokens: (T,) int64, the model's input, masked.
        labels: (T,) int64, the original id where the position is scored, else -100.
        cu_seqlens: (S+1,) int32, protein s owns tokens `cu_seqlens[s]:cu_seqlens[s+1]`; it starts
            at 0 and ends at T.
        max_len: tokens of the longest protein, specials included.
        sequence_ids: (S,) int64, index of each protein in its token store.
    """

    tokens: Tensor
    labels: Tensor
    cu_seqlens: Tensor
    max_len: int
    sequence_ids: Tensor

    @property
    def num_tokens(self) -> int:
        """T, specials included."""
        return self.tokens.shape[0]

    @property
    def num_sequences(self) -> int:
        """S, the number of proteins."""
        return self.sequence_ids.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PackedProteins":
        """The same pack on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PackedProteins":
        """The same pack in page-locked memory; `DataLoader(pin_memory=True)` calls this."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "PackedProteins":
        return replace(
            self,
            tokens=function(self.tokens),
            labels=function(self.labels),
            cu_seqlens=function(self.cu_seqlens),
            sequence_ids=function(self.sequence_ids),
        )
