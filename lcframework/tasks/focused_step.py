"""A step's gradients over a pool of pairs, in the memory of the pool or of one pass.

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
from torch import Tensor

from lcframework.models.focused.layout import Passes
from lcframework.models.focused.network import Embedded, TwoViewNetwork
from lcframework.tasks.focused_pool import (
    Pair,
    PairQueue,
    Weights,
    contrastive,
    gathered,
    ranks,
)

STEPS = ("cached", "direct", "gather", "queue")
"""How a step is computed:

- cached: gradient caching, the pools of all ranks are one; the memory of one pass.
- direct: one graph over this rank's pool; other ranks' pairs are no negatives.
- gather: the same with the pools of all ranks as one.
- queue: gather, and the pairs of earlier steps are negatives too.
"""
Backward = Callable[[Tensor], Any]


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


class _Plan:
    """The passes of a step: which views go through the model together, and what is wanted of them.

    The original views come last: the last backward pass is the one that synchronises, and theirs
    reaches every trained parameter.
    """

    def __init__(self, pairs: Sequence[Pair], weights: Weights, passes: Passes) -> None:
        self.pairs, self.weights = pairs, weights
        both = weights.contrast > 0
        wanted = {
            "focused": both or weights.focused > 0,
            "original": both or weights.original > 0 or weights.consistency > 0,
        }
        self.clm = {"focused": weights.focused, "original": weights.original}
        self.passes = [
            (side, group)
            for side in wanted
            if wanted[side]
            for group in passes.groups([len(getattr(one, side).ids_N) for one in pairs])
        ]

    def teachers(
        self, network: TwoViewNetwork, side: str, group: Sequence[int]
    ) -> list[Tensor] | None:
        """What the original views are drawn to by the consistency term."""
        if side != "original" or not self.weights.consistency:
            return None
        return network.answer_log_probabilities([self.pairs[n].focused for n in group])

    def run(
        self, network: TwoViewNetwork, side: str, group: Sequence[int], embed: bool = False,
        teachers: Sequence[Tensor] | None = None,
    ) -> Embedded:  # fmt: skip
        """One pass; `embed`: for the embeddings alone."""
        views = [getattr(self.pairs[n], side) for n in group]
        return network(views, self.clm[side] > 0 and not embed, teachers)


def direct_step(
    network: TwoViewNetwork, pairs: Sequence[Pair], weights: Weights, backward: Backward,
    passes: Passes | None = None, gather: bool = False, queue: PairQueue | None = None,
) -> StepLosses:  # fmt: skip
    """Every sequence's graph at once and one backward pass: the reference of `cached_step`, in the
    memory of the whole pool.

    Args:
        network: the model.
        pairs: of this rank, as many as on every other.
        weights: of the terms.
        backward: called once with the loss of this rank.
        passes: which sequences go through the model together; None: each alone.
        gather: whether the pools of all ranks are one.
        queue: pairs of earlier steps that are negatives too; takes this step's.
    """
    tokens, world = _token_count(pairs, network.device), ranks()
    plan = _Plan(pairs, weights, passes or Passes())
    rows: dict[str, list[Tensor]] = {side: [network.log_scale] * len(pairs) for side in plan.clm}
    sums = {name: network.log_scale.new_zeros(()) for name in (*plan.clm, "consistency")}
    for side, group in plan.passes:
        found = plan.run(network, side, group, teachers=plan.teachers(network, side, group))
        for n, embedding in zip(group, found.embedding_SE, strict=True):
            rows[side][n] = embedding
        if found.nll_S is not None:
            sums[side] = sums[side] + found.nll_S.sum()
        if found.kl_S is not None:
            sums["consistency"] = sums["consistency"] + found.kl_S.sum()
    loss = sum(weight * world * sums[side] / tokens for side, weight in plan.clm.items())
    loss = loss + weights.consistency * world * sums["consistency"] / tokens
    contrast, negatives = None, 0.0
    if weights.contrast:
        both = [torch.stack(rows[side]) for side in ("original", "focused")]
        part, contrast, negatives = _contrast(network, both, pairs, weights, gather, queue)
        loss = loss + weights.contrast * part
    assert isinstance(loss, Tensor)
    backward(loss)
    return _losses(sums, contrast, negatives, tokens, weights)


def _contrast(
    network: TwoViewNetwork, both: Sequence[Tensor], pairs: Sequence[Pair], weights: Weights,
    gather: bool, queue: PairQueue | None,
) -> tuple[Tensor, Tensor, float]:  # fmt: skip
    """The term to be derived, its value, and the number of negatives."""
    scale, still = network.log_scale, [one.detach() for one in both]
    options = (pairs, weights, gather, queue)
    # DDP averages over ranks. Of a gathered loss each rank has the gradient of its own embeddings,
    # a share, and that of the temperature, which is the same everywhere and is not scaled.
    moved, _ = contrastive(both[0], both[1], scale.detach(), *options)
    fixed, negatives = contrastive(still[0], still[1], scale, *options, push=True)
    return (ranks() if gather else 1) * moved + fixed, fixed, negatives


def cached_step(
    network: TwoViewNetwork, pairs: Sequence[Pair], weights: Weights, backward: Backward,
    passes: Passes | None = None,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> StepLosses:  # fmt: skip
    """The gradients of a gathered `direct_step` in the memory of one pass, for a second forward
    pass without gradients.

    Args:
        network: the model.
        pairs: of this rank, as many as on every other.
        weights: of the terms.
        backward: called once per pass with its part of the loss.
        passes: which sequences go through the model together; None: each alone.
        no_sync: context in which a backward pass is not synchronised over ranks; all but the last
            run in it.
    """
    tokens, world = _token_count(pairs, network.device), ranks()
    plan = _Plan(pairs, weights, passes or Passes())
    states: list[RandomState] = []
    gradients: dict[str, Tensor] = {}
    contrast, negatives, scale_gradient, after = None, 0.0, None, None
    if weights.contrast:
        rows, states = _embeddings(network, plan)
        after = RandomState(network.device)
        scale = network.log_scale.detach().requires_grad_()
        contrast, negatives = contrastive(rows["original"], rows["focused"], scale, pairs, weights)
        leaves = [rows["original"], rows["focused"], scale]
        first, second, scale_gradient = torch.autograd.grad(contrast, leaves)
        gradients = {"original": first, "focused": second}
    sums = {name: network.log_scale.new_zeros(()) for name in (*plan.clm, "consistency")}
    for place, (side, group) in enumerate(plan.passes):
        last = place == len(plan.passes) - 1
        teachers = plan.teachers(network, side, group)
        if states:
            states[place].restore()
        found = plan.run(network, side, group, teachers=teachers)
        loss = found.embedding_SE.new_zeros(())
        if found.nll_S is not None:
            loss = loss + plan.clm[side] * world * found.nll_S.sum() / tokens
            sums[side] += found.nll_S.detach().sum()
        if found.kl_S is not None:
            loss = loss + weights.consistency * world * found.kl_S.sum() / tokens
            sums["consistency"] += found.kl_S.detach().sum()
        if gradients:
            surrogate = (found.embedding_SE * gradients[side][group]).sum()
            loss = loss + weights.contrast * world * surrogate
        if last and scale_gradient is not None:
            loss = loss + weights.contrast * network.log_scale * scale_gradient
        with nullcontext() if last else no_sync():
            backward(loss)
    if after is not None:
        after.restore()
    return _losses(sums, contrast, negatives, tokens, weights)


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


def _embeddings(
    network: TwoViewNetwork, plan: _Plan
) -> tuple[dict[str, Tensor], list[RandomState]]:
    """(B, E) leaves by view, and the random state before each pass."""
    rows: dict[str, list[Any]] = {side: [None] * len(plan.pairs) for side in plan.clm}
    states = []
    with torch.no_grad():
        for side, group in plan.passes:
            states.append(RandomState(network.device))
            found = plan.run(network, side, group, embed=True).embedding_SE
            for n, embedding in zip(group, found, strict=True):
                rows[side][n] = embedding
    # Autocast keeps weights that it cast; those cast here have no graph.
    torch.clear_autocast_cache()
    return {side: torch.stack(found).requires_grad_() for side, found in rows.items()}, states


def _token_count(pairs: Sequence[Pair], device: torch.device) -> int:
    own = torch.tensor([sum(p.original.answer_tokens for p in pairs)], device=device)
    return int(gathered(own).sum())


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
