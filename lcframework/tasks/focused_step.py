"""A step's gradients over a pool of pairs, in the memory of the pool or of one sequence.

The contrastive loss couples all pairs of a step, so plain gradient accumulation changes it: with
one pair at a time it is 0. Gradient caching (Gao et al., arXiv 2101.06983; luyug/GradCache) runs
every sequence twice: without gradients for its embedding, and, once the loss's gradient with
respect to all embeddings is known, again with it. The second run draws the same random numbers.

Shape letters: B pairs of a rank, W ranks, E width of an embedding.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from lcframework.errors import DataError
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.views import View
from lcframework.ops.info_nce import info_nce

Backward = Callable[[Tensor], Any]


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


@dataclass(frozen=True)
class StepLosses:
    """What a step reports, all without gradient.

    Attributes:
        original: mean loss per answer token on the original view, nats.
        focused: on the focused view; None where it has no weight.
        contrast: InfoNCE in nats; None without it.
        consistency: mean divergence per answer token, nats; None without it.
        negatives: mean number of negatives of the pairs that have one; 0 without contrast.
        answer_tokens: over all ranks.
    """

    original: Tensor | None
    focused: Tensor | None
    contrast: Tensor | None
    consistency: Tensor | None
    negatives: float
    answer_tokens: int


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


def contrastive(
    original_BE: Tensor, focused_BE: Tensor, log_scale: Tensor, pairs: Sequence[Pair],
    weights: Weights,
) -> tuple[Tensor, float]:  # fmt: skip
    """The contrastive loss over the pools of all ranks.

    Other ranks' embeddings carry no gradient here; they get theirs on their own rank, where the
    same loss is computed. DDP then averages over ranks, so the caller scales by their number.

    Returns:
        The loss, and the mean number of negatives of the pairs that have one.

    Raises:
        DataError: no pair of any rank has a negative.
    """
    device = original_BE.device
    about = torch.tensor(
        [[one.question, one.document, int(one.contrast)] for one in pairs], device=device
    )
    about, size = gathered(about), len(pairs)
    sides = []
    for own in (original_BE, focused_BE):
        parts = list(gathered(own.detach()).split(size))
        parts[distributed.get_rank() if ranks() > 1 else 0] = own
        sides.append(torch.cat(parts))
    takes = about[:, 2].bool()
    question, document = about[takes, 0], about[takes, 1]
    excluded = question[:, None] == question[None]
    if not weights.same_document:
        excluded |= document[:, None] == document[None]
    count = (~excluded).sum(1)
    if not (count > 0).any():
        raise DataError(
            f"No pair of a batch of {len(about)} has a negative: all are of one question, or left "
            "out of the contrastive loss. Give a larger data.pool_size, or see "
            "data.retrieval.on_miss."
        )
    loss = info_nce(sides[0][takes], sides[1][takes], log_scale, excluded)
    return loss, float(count[count > 0].float().mean())


def _token_count(pairs: Sequence[Pair], device: torch.device) -> int:
    return int(gathered(torch.tensor([sum(p.original.answer_tokens for p in pairs)], device=device))
               .sum())  # fmt: skip


class RandomState:
    """The random state of the CPU and of one device, to be put back."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Put it back."""
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)


def direct_step(
    network: TwoViewNetwork, pairs: Sequence[Pair], weights: Weights, backward: Backward
) -> StepLosses:
    """Every sequence's graph at once and one backward pass: the reference of `cached_step`, in the
    memory of the whole pool.

    Args:
        network: the model.
        pairs: of this rank, as many as on every other.
        weights: of the terms.
        backward: called once with the loss of this rank.
    """
    tokens, world = _token_count(pairs, network.device), ranks()
    needs = _needs(weights)
    embedded: dict[str, list[Tensor]] = {"original": [], "focused": []}
    sums = {name: network.log_scale.new_zeros(()) for name in (*embedded, "consistency")}
    for pair in pairs:
        for side, (wanted, weight) in needs.items():
            if wanted:
                teacher = _teacher(network, pair, side, weights)
                embedding, nll, kl = network(getattr(pair, side), weight > 0, teacher)
                embedded[side].append(embedding)
                sums["consistency"] = sums["consistency"] + (0 if kl is None else kl)
                sums[side] = sums[side] + (0 if nll is None else nll)
    loss = sum(weight * world * sums[side] / tokens for side, (_, weight) in needs.items())
    loss = loss + weights.consistency * world * sums["consistency"] / tokens
    contrast, negatives = None, 0.0
    if weights.contrast:
        rows = [torch.stack(embedded[side]) for side in ("original", "focused")]
        contrast, negatives = contrastive(rows[0], rows[1], network.log_scale, pairs, weights)
        # The temperature is in the loss of every rank alike: it is not scaled.
        still = [one.detach() for one in rows]
        fixed, _ = contrastive(still[0], still[1], network.log_scale, pairs, weights)
        moved, _ = contrastive(rows[0], rows[1], network.log_scale.detach(), pairs, weights)
        loss = loss + weights.contrast * (world * moved + fixed)
    assert isinstance(loss, Tensor)
    backward(loss)
    return _losses(sums, contrast, negatives, tokens, weights)


def _needs(weights: Weights) -> dict[str, tuple[bool, float]]:
    """By view: whether it is run, and the weight of its answer loss."""
    both = weights.contrast > 0
    return {
        # The original view comes last: its backward pass is the one that synchronises, and it
        # reaches every trained parameter.
        "focused": (both or weights.focused > 0, weights.focused),
        "original": (
            both or weights.original > 0 or weights.consistency > 0,
            weights.original,
        ),
    }


def _teacher(network: TwoViewNetwork, pair: Pair, side: str, weights: Weights) -> Tensor | None:
    """What the original view is drawn to by the consistency term."""
    if side != "original" or not weights.consistency:
        return None
    return network.answer_log_probabilities(pair.focused)


def cached_step(
    network: TwoViewNetwork,
    pairs: Sequence[Pair],
    weights: Weights,
    backward: Backward,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> StepLosses:
    """The same gradients as `direct_step` in the memory of one sequence, for a second forward pass
    without gradients.

    Args:
        network: the model.
        pairs: of this rank, as many as on every other.
        weights: of the terms.
        backward: called once per sequence with its part of the loss.
        no_sync: context in which a backward pass is not synchronised over ranks; all but the last
            run in it.
    """
    tokens, world = _token_count(pairs, network.device), ranks()
    needs = _needs(weights)
    plan = [(n, side) for n in range(len(pairs)) for side, (wanted, _) in needs.items() if wanted]
    states: dict[tuple[int, str], RandomState] = {}
    gradients: dict[str, Tensor] = {}
    contrast, negatives, scale_gradient = None, 0.0, None
    if weights.contrast:
        rows = _embeddings(network, pairs, plan, states)
        after = RandomState(network.device)
        scale = network.log_scale.detach().requires_grad_()
        contrast, negatives = contrastive(rows["original"], rows["focused"], scale, pairs, weights)
        leaves = [rows["original"], rows["focused"], scale]
        first, second, scale_gradient = torch.autograd.grad(contrast, leaves)
        gradients = {"original": first, "focused": second}
    sums = {name: network.log_scale.new_zeros(()) for name in (*needs, "consistency")}
    for place, (n, side) in enumerate(plan):
        last = place == len(plan) - 1
        teacher = _teacher(network, pairs[n], side, weights)
        if states:
            states[n, side].restore()
        weight = needs[side][1]
        embedding, nll, kl = network(getattr(pairs[n], side), weight > 0, teacher)
        loss = embedding.new_zeros(()) if nll is None else weight * world * nll / tokens
        if nll is not None:
            sums[side] += nll.detach()
        if kl is not None:
            loss = loss + weights.consistency * world * kl / tokens
            sums["consistency"] += kl.detach()
        if gradients:
            loss = loss + weights.contrast * world * (embedding * gradients[side][n]).sum()
        if last and scale_gradient is not None:
            loss = loss + weights.contrast * network.log_scale * scale_gradient
        with nullcontext() if last else no_sync():
            backward(loss)
    if weights.contrast:
        after.restore()  # pyright: ignore[reportPossiblyUnboundVariable]
    return _losses(sums, contrast, negatives, tokens, weights)


def _embeddings(
    network: TwoViewNetwork, pairs: Sequence[Pair], plan: Sequence[tuple[int, str]],
    states: dict[tuple[int, str], RandomState],
) -> dict[str, Tensor]:  # fmt: skip
    """(B, E) leaves by view; fills in the random state before each sequence."""
    rows: dict[str, list[Tensor]] = {"original": [], "focused": []}
    with torch.no_grad():
        for n, side in plan:
            states[n, side] = RandomState(network.device)
            rows[side].append(network(getattr(pairs[n], side), False)[0])
    # Autocast keeps weights that it cast; those cast here have no graph.
    torch.clear_autocast_cache()
    return {side: torch.stack(found).requires_grad_() for side, found in rows.items()}


def _losses(
    sums: dict[str, Tensor], contrast: Tensor | None, negatives: float, tokens: int,
    weights: Weights,
) -> StepLosses:  # fmt: skip
    means = {side: gathered(one.detach()[None]).sum() / tokens for side, one in sums.items()}
    return StepLosses(
        means["original"] if weights.original else None,
        means["focused"] if weights.focused else None,
        None if contrast is None else contrast.detach(),
        means["consistency"] if weights.consistency else None,
        negatives,
        tokens,
    )


STEPS = {"cached": cached_step, "direct": direct_step}
"""By name; `direct_step` takes no `no_sync`."""
