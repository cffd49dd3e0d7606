"""The masked LM scores as a torchmetrics metric: gathers per-protein sums from all ranks.

Shape letters: S proteins of a batch, M scored residues of a batch, V tokens of the vocabulary.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from lcframework.scoring.masked_lm import ProteinScores

_STATES = {
    "sequence_ids": torch.int64,
    "lengths": torch.int64,
    "nll_sum": torch.float64,
    "n_scored": torch.int64,
    "pairs": torch.int32,
}


class MaskedLMMetric(Metric):
    """Accumulates what `score_masked_lm`, `accuracy_per_token` and `scores_by_length` need.

    A protein seen twice counts once, also in the confusion counts: padding samplers repeat
    proteins so that all ranks get equally many. That is why the (true, predicted) pair of every
    scored residue is kept, 4 bytes each, and not a sum over proteins. An id therefore stands for
    one whole protein, never for one of several pieces.

    Args:
        vocab_size: V; wider logits are cut to it.
        **kwargs: what `torchmetrics.Metric` takes.
    """

    full_state_update = False
    sequence_ids: list[Tensor]
    lengths: list[Tensor]
    nll_sum: list[Tensor]
    n_scored: list[Tensor]
    pairs: list[Tensor]

    def __init__(self, vocab_size: int = 33, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        for name in _STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        logits: Tensor,
        targets: Tensor,
        segment_of: Tensor,
        sequence_ids: Tensor,
        lengths: Tensor,
    ) -> None:
        """Add one batch.

        Args:
            logits: (M, V or wider) at the scored residues, any float dtype.
            targets: (M,) int64 true tokens, below V.
            segment_of: (M,) int64 which protein of the batch each residue belongs to.
            sequence_ids: (S,) int64 identities of the proteins.
            lengths: (S,) int64 residues of each protein, specials not counted.

        Raises:
            ValueError: shapes do not fit together.
        """
        m, s = targets.shape[0], sequence_ids.shape[0]
        if logits.shape[:1] != (m,) or segment_of.shape != (m,) or lengths.shape != (s,):
            raise ValueError(
                "expected logits (M, V), targets (M,), segment_of (M,), sequence_ids (S,), lengths "
                f"(S,); got {tuple(logits.shape)}, {tuple(targets.shape)}, "
                f"{tuple(segment_of.shape)}, {tuple(sequence_ids.shape)}, {tuple(lengths.shape)}"
            )
        # Residues of one protein must lie together: the counts alone tell whose each pair is.
        order = torch.argsort(segment_of, stable=True)
        targets, segment_of = targets[order], segment_of[order]
        real = logits.detach()[order, : self.vocab_size].float()
        nll = F.cross_entropy(real, targets, reduction="none").double()
        nll_sum = torch.zeros(s, dtype=torch.float64, device=nll.device)
        self.nll_sum.append(nll_sum.index_add(0, segment_of, nll))
        self.n_scored.append(torch.bincount(segment_of, minlength=s))
        self.pairs.append((targets * self.vocab_size + real.argmax(dim=1)).int())
        self.sequence_ids.append(sequence_ids.long())
        self.lengths.append(lengths.long())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states from all ranks; torchmetrics calls this before `compute`."""
        # A rank without a batch must still join in with the right dtypes: torchmetrics would send
        # an empty float tensor where the other ranks send and expect integers.
        for name, dtype in _STATES.items():
            state = getattr(self, name)
            if isinstance(state, list) and not state:
                state.append(torch.empty(0, dtype=dtype, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> ProteinScores:
        """Per-protein sums over all ranks, each protein once, ordered by id; numpy arrays."""
        ids, lengths, nll_sum, n_scored, pairs = (self._gathered(name) for name in _STATES)
        unique_ids, first = np.unique(ids, return_index=True)
        owner_of_pair = np.repeat(np.arange(len(ids)), n_scored)
        rank_of_row = np.full(len(ids), -1)
        rank_of_row[first] = np.arange(len(first))
        protein_of_pair = rank_of_row[owner_of_pair]
        kept = protein_of_pair >= 0  # the others belong to a protein's second appearance
        pairs, protein_of_pair = pairs[kept], protein_of_pair[kept]
        v = self.vocab_size
        right = pairs // v == pairs % v
        return ProteinScores(
            sequence_ids=unique_ids,
            lengths=lengths[first],
            nll_sum=nll_sum[first],
            n_scored=n_scored[first],
            n_correct=np.bincount(protein_of_pair[right], minlength=len(first)),
            confusion=np.bincount(pairs, minlength=v * v).reshape(v, v),
        )

    def _gathered(self, name: str) -> NDArray:
        state = getattr(self, name)  # a list of batches, or one tensor after a sync
        if isinstance(state, list):
            state = torch.cat([torch.empty(0, dtype=_STATES[name], device=self.device), *state])
        return state.cpu().numpy()
