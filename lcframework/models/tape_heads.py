"""TAPE's heads (songlab-cal/tape, `modeling_utils.py`) on packed proteins.

* per residue: BatchNorm, weight-normed convolution of width 5 to 512 channels, ReLU, dropout,
  weight-normed convolution of width 3 to the classes;
* per protein: weight-normed linear map to 512, ReLU, dropout, weight-normed linear map;
* contacts: a linear map of [h_i * h_j, h_i - h_j] to two logits, symmetrised.

Different from TAPE: nothing is padded, so neither the batch norm's statistics nor a convolution
ever sees padding, and a protein gets what it gets alone; a protein's vector is the mean over its
residues (TAPE's models each have a pooler of their own).

Legend: T tokens of the pack, S proteins, L residues of one protein, d width, C outputs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

HIDDEN = 512
GAP = 2
"""Columns of zeros between proteins: half the width of the wider convolution, as its padding."""


class SimpleConv(nn.Module):
    """A class for every token.

    Args:
        width: d.
        outputs: C.
        dropout: behind the first convolution; 0 in TAPE.
    """

    def __init__(self, width: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.first = weight_norm(nn.Conv1d(width, HIDDEN, 5, padding=2), dim=None)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(dropout)
        self.second = weight_norm(nn.Conv1d(HIDDEN, outputs, 3, padding=1), dim=None)  # type: ignore[arg-type]

    def forward(self, states_Td: Tensor, cu_seqlens: Tensor) -> Tensor:
        """(T, C) logits; `<cls>` and `<eos>` take part as in TAPE."""
        places_T = gapped_places(cu_seqlens, states_Td.shape[0])
        total = states_Td.shape[0] + GAP * (cu_seqlens.shape[0] - 1)
        wide = states_Td.new_zeros(total, states_Td.shape[1])
        wide = wide.index_copy(0, places_T, self.norm(states_Td))
        hidden = self.dropout(F.relu(self.first(wide.T[None])))[0].T
        # The gaps are padding to the second convolution too.
        clean = torch.zeros_like(hidden).index_copy(0, places_T, hidden[places_T])
        return self.second(clean.T[None])[0].T[places_T]


def gapped_places(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """(T,) places of the tokens where `GAP` columns follow each protein."""
    lengths = cu_seqlens.long().diff()
    owner = torch.repeat_interleave(lengths, output_size=tokens)
    return torch.arange(tokens, device=cu_seqlens.device) + GAP * owner


class SimpleMLP(nn.Module):
    """Logits or a value for every protein.

    Args:
        width: d.
        outputs: C.
        dropout: behind the hidden layer; 0 in TAPE.
    """

    def __init__(self, width: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.main = nn.Sequential(
            weight_norm(nn.Linear(width, HIDDEN), dim=None),  # type: ignore[arg-type]
            nn.ReLU(),
            nn.Dropout(dropout),
            weight_norm(nn.Linear(HIDDEN, outputs), dim=None),  # type: ignore[arg-type]
        )

    def forward(self, states_Td: Tensor, cu_seqlens: Tensor) -> Tensor:
        """(S, C)."""
        return self.main(mean_over_residues(states_Td, cu_seqlens))


def mean_over_residues(states_Td: Tensor, cu_seqlens: Tensor) -> Tensor:
    """(S, d) float32 means, `<cls>` and `<eos>` left out."""
    lengths = cu_seqlens.long().diff()
    owner = torch.repeat_interleave(lengths, output_size=states_Td.shape[0])
    inside = torch.ones(states_Td.shape[0], 1, device=states_Td.device)
    inside[cu_seqlens[:-1].long()] = 0.0
    inside[cu_seqlens[1:].long() - 1] = 0.0
    sums = torch.zeros(len(lengths), states_Td.shape[1], device=states_Td.device)
    sums = sums.index_add(0, owner, states_Td.float() * inside)
    return sums / (lengths - 2).clamp(min=1)[:, None]


class PairwiseContacts(nn.Module):
    """Two logits, no contact and contact, for every pair of residues.

    Args:
        width: d.
        dropout: on the pair's features, 0.5 in TAPE.
    """

    def __init__(self, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.predict = nn.Linear(2 * width, 2)

    def forward(self, states_Td: Tensor, cu_seqlens: Tensor) -> Tensor:
        """(sum of L^2, 2) logits, maps of the proteins behind one another."""
        borders = cu_seqlens.tolist()
        maps = []
        for start, stop in zip(borders[:-1], borders[1:], strict=True):
            states = states_Td[start + 1 : stop - 1]
            if self.training and self.dropout.p > 0:
                one = checkpoint(self._with_dropout, states, use_reentrant=False)
            else:
                one = self._without_dropout(states)
            maps.append(((one + one.transpose(0, 1)) / 2).reshape(-1, 2))  # type: ignore[union-attr]
        return torch.cat(maps)

    def _with_dropout(self, states_Ld: Tensor) -> Tensor:
        left, right = states_Ld[:, None], states_Ld[None]
        return self.predict(self.dropout(torch.cat((left * right, left - right), dim=-1)))

    def _without_dropout(self, states_Ld: Tensor) -> Tensor:
        """The same without (L, L, 2d) in memory: the map is linear in products and differences."""
        product, difference = self.predict.weight.chunk(2, dim=1)
        products = torch.einsum("id,cd,jd->ijc", states_Ld, product, states_Ld)
        single = states_Ld @ difference.T
        return products + (single[:, None] - single[None]) + self.predict.bias
