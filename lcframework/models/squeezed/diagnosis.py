"""How good a selection is: against an oracle that knows every key, at the same number of keys.

Two numbers, as replications of the paper report them: the recall of the oracle's keys, and the
share of the attention that falls on the keys chosen. The oracle ranks tokens as the method ranks
clusters, by exp(q.k) / sum exp(q.k) over the clustered tokens, averaged over the queries that share
a selection and over the query heads that share a key-value head.

Legend: L squeezed layers, H key-value heads, Hq query heads, S selection heads, Q queries,
    N clustered tokens, E exact tokens, T tail tokens, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lcframework.errors import DataError
from lcframework.models.squeezed.attention import BoundKV
from lcframework.models.squeezed.cache import SqueezedCache, SqueezedLayer, TailLayer
from lcframework.models.squeezed.checks import check_squeezes
from lcframework.models.squeezed.rules import Squeeze
from lcframework.ops.squeezed_attention import FixedKV, SelectionRule
from lcframework.ops.squeezed_attention.selection import select_clusters

if TYPE_CHECKING:
    from lcframework.models.squeezed.context import SqueezedContext


@dataclass(frozen=True)
class SelectionQuality:
    """One layer's selection at one sparsity, mean over questions, blocks of queries and heads.

    Attributes:
        layer: its number in the model.
        sparsity: asked for.
        kept: share of the clustered tokens kept.
        recall: share of the oracle's tokens among the kept ones, at equal number.
        mass: share of the attention to the context, its exact tokens included, that falls on the
            tokens read.
        oracle_mass: the same for the oracle's tokens, about the most that so many can recover.
        clustered_mass: share of the attention to clustered tokens alone that falls on kept ones.
        total_mass: share of all attention, the question's own tokens included, that is not dropped.
    """

    layer: int
    sparsity: float
    kept: float
    recall: float
    mass: float
    oracle_mass: float
    clustered_mass: float
    total_mass: float


class _ListeningKV(BoundKV):
    """Attends as its layer does and keeps the queries."""

    def __init__(self, bound: BoundKV, dtype: torch.dtype, heard: list[Tensor]) -> None:
        self.bound, self.dtype, self.heard = bound, dtype, heard

    def attend(
        self, module: torch.nn.Module, query: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        self.heard.append(query.to(self.dtype))
        return self.bound.attend(module, query, mask, scale)


class _ListeningLayer(SqueezedLayer):
    """A layer whose queries can be read afterwards."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.heard: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        bound, _ = super().update(key_states, value_states)
        listening = _ListeningKV(bound, self.fixed.keys.dtype, self.heard)
        return listening, listening


def diagnose(
    context: "SqueezedContext",
    questions: Sequence[str],
    sparsities: Sequence[float] = (0.7, 0.8, 0.9),
    squeeze: Squeeze | None = None,
) -> list[SelectionQuality]:
    """Recall of the oracle's keys and attention recovered, per layer and sparsity.

    The questions are read densely, so that every sparsity is judged on the same queries. It is the
    selection of the prefill that is judged; `Squeeze(query_block=1)` judges one per token,
    as a decoding step makes it.

    Args:
        context: with its model.
        questions: as for `SqueezedContext.ask`.
        sparsities: each in [0, 1).
        squeeze: everything else about the selection; its sparsity is replaced.

    Returns:
        A row per sparsity and squeezed layer, in this order.

    Raises:
        ConfigError: a sparsity outside [0, 1), no layer that is squeezed.
        DataError: no question, or an empty one.
    """
    if isinstance(questions, str) or not len(questions):
        raise DataError("diagnose needs a list of at least one question.")
    check_squeezes(context.model)
    squeeze = squeeze or Squeeze()
    sketches = [layer.sketch for layer in context.layers if layer.sketch is not None]
    device = context.model.device
    rules = [replace(squeeze, sparsity=one).rules(sketches, device) for one in sparsities]
    sums: dict[tuple[int, int], list[Tensor]] = {}
    for question in questions:
        for place, (number, layer) in enumerate(_listen(context, question).squeezed.items()):
            assert isinstance(layer, _ListeningLayer)
            for which, chosen in enumerate(rules):
                row = _judge(layer, chosen[place], squeeze.levels)
                sums.setdefault((which, number), []).append(row)
    return [
        SelectionQuality(number, sparsities[which], *_mean(rows))
        for (which, number), rows in sorted(sums.items())
    ]


def _mean(rows: list[Tensor]) -> list[float]:
    return torch.cat(rows).nanmean(0).tolist()


@torch.no_grad()
def _listen(context: "SqueezedContext", question: str) -> SqueezedCache:
    """Read one question densely; returns the cache with every layer's queries."""
    inputs = context.inputs([question], Squeeze(sparsity=0.0))
    layers: list[TailLayer] = [
        _ListeningLayer(one.fixed, one.rule, one.scale, one.backend)
        if isinstance(one, SqueezedLayer)
        else one
        for one in inputs["past_key_values"].layers
    ]
    cache = SqueezedCache(layers)
    ids = inputs["input_ids"][:, context.length :]  # the document is in the cache
    tokens = torch.arange(ids.shape[1], device=context.model.device)
    context.model.get_decoder()(
        input_ids=ids,
        attention_mask=inputs["attention_mask"],
        position_ids=(context.length + tokens)[None],
        past_key_values=cache,
        use_cache=True,
    )
    return cache


def _judge(layer: _ListeningLayer, rule: SelectionRule, levels: int | None) -> Tensor:
    """Rows (blocks of queries x S, 6), in the order of `SelectionQuality`."""
    query, fixed = layer.heard[0], layer.fixed.finest(levels)
    assert layer.keys is not None
    Q = query.shape[2]
    block = rule.query_block or Q
    rows = []
    for start in range(0, Q, block):
        part = query[:, :, start : start + block]
        keep = select_clusters(part, None, fixed.levels, rule, layer.scale)
        among, context, total = (
            one(rule) for one in _weights(part, start, fixed, layer.keys[0], layer.scale)
        )
        rows.append(_compare(among, context, total, _tokens(keep[0], fixed)))
    return torch.cat(rows)


def _weights(
    query: Tensor, first: int, fixed: FixedKV, tail: Tensor, scale: float
) -> list["_Weights"]:
    """Attention of (1, Hq, q, D) queries, the tail's tokens `first` and on, to clustered tokens: as
    a share of that to these alone, to the context, and to everything."""
    H, N, D = fixed.keys.shape
    q, T = query.shape[2], tail.shape[1]
    query_HRD = query[0].float().reshape(H, -1, D)
    keys = torch.cat([fixed.keys, fixed.exact_keys, tail], 1).float()
    logits = (query_HRD @ keys.transpose(1, 2) * scale).view(H, -1, q, keys.shape[1])
    own = torch.ones(q, T, dtype=torch.bool, device=query.device).tril(first)
    logits[..., -T:] = logits[..., -T:].masked_fill(~own, -torch.inf)
    ends = (N, fixed.length, keys.shape[1])
    return [_Weights(logits[..., :end].softmax(-1)[..., :N].mean(2)) for end in ends]


@dataclass(frozen=True)
class _Weights:
    """(H, G, N), G query heads per key-value head."""

    values: Tensor

    def __call__(self, rule: SelectionRule) -> Tensor:
        """(S, N): per selection head."""
        return self.values.flatten(0, 1) if rule.group == "none" else self.values.mean(1)


def _tokens(keep_SK: Tensor, fixed: FixedKV) -> Tensor:
    """(S, N) bool, the clustered tokens of the kept clusters."""
    level, N = fixed.levels[0], fixed.clustered
    token = torch.arange(N, device=keep_SK.device).expand(len(level.offsets), -1).contiguous()
    owner = torch.searchsorted(level.offsets[:, 1:].contiguous(), token.int(), right=True)
    return keep_SK.gather(1, owner.repeat_interleave(len(keep_SK) // len(owner), 0))


def _compare(among: Tensor, context: Tensor, total: Tensor, kept: Tensor) -> Tensor:
    """(S, 6) from what tokens weigh, (S, N) each, and which are kept."""
    count = kept.sum(1)
    rank = among.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    ideal = rank < count[:, None]
    return torch.stack(
        [
            count / kept.shape[1],
            (kept & ideal).sum(1) / count,  # NaN where nothing is kept: left out of the mean
            1 - (context * ~kept).sum(1),
            1 - (context * ~ideal).sum(1),
            (among * kept).sum(1),
            1 - (total * ~kept).sum(1),
        ],
        1,
    )
