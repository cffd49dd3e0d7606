"""Pairs of views, the loss's terms, and the contrastive loss over a pool: of one rank, of all, with
pairs of earlier steps.

Shape letters: B pairs of a rank, Q pairs in the queue, E width of an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from lcframework.errors import CheckpointError, DataError
from lcframework.models.focused.views import View
from lcframework.ops.info_nce import Negatives, info_nce


@dataclass(frozen=True)
class Pair:
    """Two views of one prompt.

    Attributes:
        original: the whole prompt and the answer.
        focused: without what retrieval dropped.
        question: hash of the question; pairs of the same are no negatives of each other.
        document: hash of the document.
        contrast: whether the pair takes part in the contrastive loss.
    """

    original: View
    focused: View
    question: int
    document: int
    contrast: bool = True


@dataclass(frozen=True)
class Weights:
    """Which terms the loss has.

    Attributes:
        contrast: lambda of L = L_CLM + lambda L_Contra; 0: no contrastive term.
        original: weight of the answer loss on the original view.
        focused: weight of the answer loss on the focused view (augmentation).
        consistency: weight of KL(focused || original), mean over the answer's tokens, the focused
            view without gradient: another way to draw the views together, with no pool.
        same_document: whether pairs about the same document are negatives of each other.
    """

    contrast: float = 1.0
    original: float = 1.0
    focused: float = 0.0
    consistency: float = 0.0
    same_document: bool = True

    def __post_init__(self) -> None:
        terms = (self.contrast, self.original, self.focused, self.consistency)
        if min(terms) < 0:
            raise ValueError("weights of the loss must be 0 or more")
        if not any(terms):
            raise ValueError("every weight is 0: there is nothing to train")


def ranks() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def gathered(local: Tensor) -> Tensor:
    """The tensors of all ranks one after the other, without gradient."""
    if ranks() == 1:
        return local
    parts = [torch.empty_like(local) for _ in range(ranks())]
    distributed.all_gather(parts, local.contiguous())
    return torch.cat(parts)


class PairQueue:
    """Embeddings of the last pairs, as negatives that cost no forward pass.

    Those of earlier steps come from earlier weights, so their loss is not that of a large pool:
    with LoRA's small steps they are close to it. On several ranks all hold the same queue.

    Args:
        size: pairs kept.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a queue holds 1 pair or more, got {size}")
        self.size = size
        self._held: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._held["about"]) if self._held else 0

    def negatives(self, about: Tensor, weights: Weights) -> Negatives | None:
        """The pairs held, for pairs of (question, document) hashes; None while it is empty."""
        if not self._held:
            return None
        held = {name: one.to(about.device) for name, one in self._held.items()}
        excluded = _excluded(about, held["about"], weights)
        return Negatives(held["original"], held["focused"], excluded)

    def push(self, original: Tensor, focused: Tensor, about: Tensor) -> None:
        """Add pairs of all ranks; the oldest go."""
        new = {"original": original.detach(), "focused": focused.detach(), "about": about}
        for name, rows in new.items():
            old = self._held.get(name)
            both = rows if old is None else torch.cat([old.to(rows), rows])
            self._held[name] = both[-self.size :].clone()

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {name: one.cpu() for name, one in self._held.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a checkpoint's pairs.

        Raises:
            CheckpointError: it keeps something else.
        """
        if state and set(state) != {"original", "focused", "about"}:
            raise CheckpointError(f"The checkpoint's queue holds {sorted(state)}.")
        self._held = {name: one[-self.size :] for name, one in state.items()}


def _excluded(first: Tensor, second: Tensor, weights: Weights) -> Tensor:
    """Where pairs of two lists of (question, document) are no negatives of each other."""
    same = first[:, None, 0] == second[None, :, 0]
    if not weights.same_document:
        same = same | (first[:, None, 1] == second[None, :, 1])
    return same


class NoNegativesError(DataError):
    """A pool in which no pair has a negative: its contrastive loss has no gradient."""


def contrastive(
    original_BE: Tensor, focused_BE: Tensor, log_scale: Tensor, pairs: Sequence[Pair],
    weights: Weights, gather: bool = True, queue: PairQueue | None = None, push: bool = False,
) -> tuple[Tensor, float]:  # fmt: skip
    """The contrastive loss over a pool.

    Other ranks' embeddings carry no gradient here; they get theirs on their own rank, where the
    same loss is computed. DDP then averages over ranks, so the caller scales by their number.

    Args:
        original_BE: embeddings of this rank's original views.
        focused_BE: of its focused views.
        log_scale: logarithm of the inverse temperature.
        pairs: whose they are; every rank has as many.
        weights: of the terms.
        gather: whether the pools of all ranks are one.
        queue: pairs of earlier steps, further negatives.
        push: whether the queue takes these pairs afterwards.

    Returns:
        The loss, and the mean number of negatives of the pairs that have one.

    Raises:
        NoNegativesError: no pair has a negative.
    """
    device = original_BE.device
    about = torch.tensor(
        [[one.question, one.document, int(one.contrast)] for one in pairs], device=device
    )
    sides = [original_BE, focused_BE]
    if gather:
        about = gathered(about)
        sides = [_with_others(own, len(pairs)) for own in sides]
    takes = about[:, 2].bool()
    sides, about = [one[takes] for one in sides], about[takes, :2]
    excluded = _excluded(about, about, weights)
    past = queue.negatives(about, weights) if queue is not None else None
    count = (~excluded).sum(1)
    if past is not None:
        count = count + (~past.excluded_BQ).sum(1)
    if not (count > 0).any():
        raise NoNegativesError(
            f"No pair of a batch of {len(takes)} has a negative: all are of one question, or left "
            "out of the contrastive loss. Give a larger data.pool_size; raise task.max_length if "
            "the kept chunks were cut away with the document's rest; or see data.retrieval.on_miss."
        )
    loss = info_nce(sides[0], sides[1], log_scale, excluded, past)
    if queue is not None and push:
        queue.push(sides[0], sides[1], about)
    return loss, float(count[count > 0].float().mean())


def _with_others(own: Tensor, size: int) -> Tensor:
    parts = list(gathered(own.detach()).split(size))
    parts[distributed.get_rank() if ranks() > 1 else 0] = own
    return torch.cat(parts)
