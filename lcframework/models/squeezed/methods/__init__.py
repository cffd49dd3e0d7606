"""Other ways to read a part of a fixed context, to hold squeezed attention against: one file each,
all in the same cache. `Method` chooses one by name."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcframework.errors import ConfigError
from lcframework.models.squeezed.cache import SlidingLayer, SqueezedCache, TailLayer
from lcframework.models.squeezed.methods.dense import Dense
from lcframework.models.squeezed.methods.layer import MethodLayer
from lcframework.models.squeezed.methods.oracle import Oracle
from lcframework.models.squeezed.methods.quest import Quest
from lcframework.models.squeezed.methods.random_tokens import RandomTokens
from lcframework.models.squeezed.methods.recent import Recent
from lcframework.models.squeezed.methods.selector import Selector, SelectorOptions
from lcframework.models.squeezed.methods.snapkv import SnapKV, SnapKVQuestion
from lcframework.models.squeezed.rules import Squeeze

if TYPE_CHECKING:
    from lcframework.models.squeezed.context import SqueezedContext

SQUEEZED = "squeezed"
BASELINES: dict[str, type[Selector]] = {
    "dense": Dense,
    "quest": Quest,
    "snapkv": SnapKV,
    "snapkv_question": SnapKVQuestion,
    "recent": Recent,
    "oracle": Oracle,
    "random": RandomTokens,
}
METHODS = (SQUEEZED, *BASELINES)


@dataclass(frozen=True)
class Method(Squeeze):
    """What to read of a context, by squeezed attention or by a baseline.

    Attributes:
        method: one of `METHODS`; the fields of `Squeeze` are for "squeezed" alone, except that an
            evaluation gives a baseline the budget that squeezed attention measures at the same
            `sparsity`, unless `share` is given.
        share: of the context's keys and values that a baseline may read at a step, what it reads to
            choose included.
        page: tokens of a page (quest).
        pool: neighbours that a vote is averaged over (snapkv), odd.
        seed: of random choices.

    Raises:
        ConfigError: an unknown method, or a value outside its range.
    """

    method: str = SQUEEZED
    share: float | None = None
    page: int = 16
    pool: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise ConfigError(f"squeeze.method={self.method!r}: choose one of {METHODS}.")
        if self.share is not None and not 0 <= self.share <= 1:
            raise ConfigError(f"squeeze.share={self.share}: it must lie in [0, 1].")
        if self.share is not None and self.method == SQUEEZED:
            raise ConfigError(
                "squeeze.share is for the baselines; squeezed attention is told its sparsity, "
                "budget or top_p."
            )
        if self.page < 1 or self.pool < 1 or self.pool % 2 == 0:
            raise ConfigError(
                f"squeeze.page={self.page}, squeeze.pool={self.pool}: both must be positive, and "
                "pool odd."
            )

    @property
    def is_baseline(self) -> bool:
        """Whether something else than squeezed attention chooses."""
        return self.method != SQUEEZED


def method_cache(context: "SqueezedContext", method: Method) -> SqueezedCache:
    """A fresh cache for one batch of questions, read by a baseline.

    Raises:
        ConfigError: no share, or one that is less than what the method reads to choose; a context
            that lacks what the method needs.
    """
    share = 1.0 if method.method == "dense" else method.share
    if share is None:
        raise ConfigError(
            f"The method {method.method} needs squeeze.share, the part of the context that it may "
            "read."
        )
    options = SelectorOptions(share, method.page, method.pool, method.seed)
    layers: list[TailLayer] = []
    overheads = []
    for text, layer in zip(context.text_layers(), context.layers, strict=True):
        if text is None:
            assert layer.sliding is not None
            layers.append(SlidingLayer(*layer.sliding, context.length))
            continue
        selector = BASELINES[method.method](text, options)
        overheads.append(selector.overhead)
        layers.append(MethodLayer(selector))
    return SqueezedCache(layers, sum(overheads) / len(overheads))
