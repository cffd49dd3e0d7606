"""What every method of choosing a fixed context's tokens is built on.

Legend: B rows, H key-value heads, Hq query heads, G = Hq / H, Q queries, C choices per row (1 where
    all queries share one, else Q), N context tokens a method chooses from, E exact tokens,
    D head size, P pages.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcframework.errors import ConfigError
from lcframework.models.squeezed.build import LayerContext
from lcframework.ops.squeezed_attention import FixedKV
from lcframework.ops.squeezed_attention.selection import LOGITS_AT_ONCE, shared_logits


class ShareTooSmall(ConfigError):
    """The share that may be read is less than what a method reads to choose."""


@dataclass(frozen=True)
class TextLayer:
    """One layer of a context in the order of the text.

    Attributes:
        fixed: keys (H, N, D) and values (H, N, Dv) in the text's order, without clusters; the exact
            tokens are sinks, then the last tokens.
        queries: (Hq, W, D) of the context's last W tokens, or None where they were not kept.
        scale: factor on the logits.
        number: of the layer in the model.
    """

    fixed: FixedKV
    queries: Tensor | None
    scale: float
    number: int


def text_layer(layer: LayerContext, number: int) -> TextLayer:
    """Undo a layer's order by clusters.

    Raises:
        ValueError: a sliding-window layer.
    """
    fixed, positions = layer.fixed, layer.positions
    if fixed is None or positions is None:
        raise ValueError(f"layer {number} has a sliding window: nothing is chosen in it")
    order = positions.long().argsort(1)
    keys, values = (
        one.gather(1, order[..., None].expand(-1, -1, one.shape[2]))
        for one in (fixed.keys, fixed.values)
    )
    plain = FixedKV(keys, values, fixed.exact_keys, fixed.exact_values, ())
    return TextLayer(plain, layer.queries, layer.scale, number)


@dataclass(frozen=True)
class SelectorOptions:
    """What a method is told.

    Attributes:
        share: of the context's keys and values that may be read per step, `overhead` included.
        page: tokens of a page (Quest).
        pool: width of the mean over neighbours (SnapKV), odd.
        seed: of random choices.
    """

    share: float = 1.0
    page: int = 16
    pool: int = 5
    seed: int = 0


class Selector:
    """Chooses tokens in one layer for one batch of questions; made anew for every cache.

    Args:
        text: the layer.
        options: see there.

    Attributes:
        overhead: share of the context's keys and values that is read to choose, 0 where nothing is.

    Raises:
        ShareTooSmall: the share is less than the overhead.
    """

    overhead = 0.0

    def __init__(self, text: TextLayer, options: SelectorOptions) -> None:
        self.text, self.options = text, options
        self.prepare()
        room = options.share - self.overhead
        if room < 0:
            raise ShareTooSmall(
                f"{type(self).__name__}: a share of {options.share:g} is less than the "
                f"{self.overhead:g} that is read to choose. Raise squeeze.share."
            )
        self.count = min(self.available, round(room * self.available))

    @property
    def available(self) -> int:
        """N."""
        return self.text.fixed.clustered

    def prepare(self) -> None:
        """What is computed once per document."""

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """The tokens read.

        Args:
            query: (B, Hq, Q, D), rotated.
            valid: (B, Q) bool, False for padding.
            each: whether every query chooses for itself (an answer's tokens); else all share one
                choice (a question's).

        Returns:
            (B, H, C, N) bool.
        """
        raise NotImplementedError


def best(scores: Tensor, count: int) -> Tensor:
    """Bool like `scores` (..., N): the `count` largest of the last dimension."""
    chosen = scores.topk(count, dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)


def attention_weights(
    query: Tensor,
    valid: Tensor,
    fixed: FixedKV,
    scale: float,
    each: bool,
    exact_mask: Tensor | None = None,
) -> Tensor:
    """Attention to each token of the context, as a share of that to the whole context, the mean
    over the query heads of a key-value head and, unless `each`, over the queries.

    Args:
        query: (B, Hq, Q, D).
        valid: (B, Q) bool.
        fixed: the context, in any order.
        scale: factor on the logits.
        each: one row per query.
        exact_mask: (Q, E) bool, exact tokens that a query sees; None: all.

    Returns:
        (B, H, C, N) float32 (float64 for float64).
    """
    B, Hq, Q, D = query.shape
    H, N, _ = fixed.keys.shape
    G, length = Hq // H, fixed.length
    keys = torch.cat([fixed.keys, fixed.exact_keys], 1)
    step = max(1, LOGITS_AT_ONCE // max(1, B * Hq * length))
    found = []
    for start in range(0, Q, step):
        part = query[:, :, start : start + step]
        n = part.shape[2]
        logits = shared_logits(part.reshape(B, H, G * n, D), keys).view(B, H, G, n, length) * scale
        if exact_mask is not None:
            hidden = ~exact_mask[start : start + n]
            logits[..., N:] = logits[..., N:].masked_fill(hidden, -torch.inf)
        weights = logits.softmax(-1)[..., :N].mean(2)
        if not each:
            real = valid[:, None, start : start + n, None].to(weights.dtype)
            weights = (weights * real).sum(2, keepdim=True)
        found.append(weights)
    if each:
        return torch.cat(found, 2)
    total = valid.sum(1).clamp(min=1).to(found[0].dtype)
    return torch.stack(found).sum(0) / total[:, None, None, None]
