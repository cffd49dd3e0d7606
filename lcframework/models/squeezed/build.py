"""Read a document once: a forward pass that records keys, values and the last queries, then, layer
by layer, clusters and calibration.

Legend: S context tokens, W observation window, H key-value heads, Hq query heads, D head size.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lcframework.errors import ConfigError, DataError
from lcframework.models.squeezed.attention import BoundKV, BoundKVUsedAsTensor
from lcframework.models.squeezed.calibration import Sketch, calibrate
from lcframework.models.squeezed.checks import (
    check_model,
    frequency_border,
    is_out_of_memory,
    layer_kinds,
    text_config,
)
from lcframework.models.squeezed.hierarchy import ClusterPlan, cluster_layer
from lcframework.ops.squeezed_attention import FixedKV

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
"""Called with what is done, how far, and of how much."""


@dataclass
class LayerContext:
    """One layer of a context.

    Attributes:
        fixed: clustered keys and values; None in a sliding-window layer.
        sketch: calibration scores; None in a sliding-window layer.
        positions: (H, N) int32 place in the text of each clustered token, for analyses.
        scale: factor on the logits.
        sliding: (keys, values), (H, w, D) each, of a sliding-window layer.
        facts: mean `loss` and `iterations` of the clustering.
        queries: (Hq, W, D) of the observation window; not stored in a context's file.
    """

    fixed: FixedKV | None = None
    sketch: Sketch | None = None
    positions: Tensor | None = None
    scale: float = 1.0
    sliding: tuple[Tensor, Tensor] | None = None
    facts: dict[str, float] = field(default_factory=dict)
    queries: Tensor | None = None


class RecordingLayer(CacheLayerMixin):
    """Stores S tokens in one allocation and the last W queries; for one row."""

    is_sliding = False

    def __init__(self, tokens: int, window: int) -> None:
        super().__init__()
        self.tokens, self.window, self.filled = tokens, window, 0
        self.queries: list[Tensor] = []
        self.scale = 1.0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate."""
        shape = (1, key_states.shape[1], self.tokens)
        self.keys = key_states.new_empty(*shape, key_states.shape[3])
        self.values = value_states.new_empty(*shape, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Store; returns the object that will also see the queries."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        end = self.filled + key_states.shape[2]
        self.keys[:, :, self.filled : end] = key_states
        self.values[:, :, self.filled : end] = value_states
        self.filled = end
        bound = RecordingKV(self)
        return bound, bound

    def get_seq_length(self) -> int:
        """Tokens stored."""
        return self.filled

    def get_max_length(self) -> int:
        """S."""
        return self.tokens

    def get_max_cache_shape(self) -> int:
        """S (the older name)."""
        return self.tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As for a cache that grows."""
        return self.filled + query_length, 0

    def last_queries(self) -> Tensor:
        """(Hq, W, D) of the observation window."""
        return torch.cat(self.queries, 2)[0, :, -self.window :]


class RecordingKV(BoundKV):
    """What a `RecordingLayer` hands to the attention function."""

    def __init__(self, layer: RecordingLayer) -> None:
        self.layer = layer

    def attend(
        self, module: torch.nn.Module, query: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        """Dense attention; keeps the queries that fall into the observation window."""
        layer = self.layer
        assert layer.keys is not None and layer.values is not None
        layer.scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
        late = min(query.shape[2], layer.filled - (layer.tokens - layer.window))
        if late > 0:
            layer.queries.append(query[:, :, -late:].to(layer.keys.dtype).clone())
        keys, values = layer.keys[:, :, : layer.filled], layer.values[:, :, : layer.filled]
        return sdpa_attention_forward(
            module, query.to(keys.dtype), keys, values, mask, scaling=scale
        )[0]


def read_document(
    model: PreTrainedModel, ids: Tensor, window: int, chunk: int, progress: Progress
) -> Cache:
    """Run the decoder over the document, chunk by chunk, without the output head.

    Returns:
        A cache of `RecordingLayer` and, for sliding layers, transformers' own.

    Raises:
        ConfigError: an architecture that computes with what its cache returns.
    """
    config = text_config(model)
    layers: list[Any] = [
        DynamicSlidingWindowLayer(config.sliding_window)
        if kind == "sliding_attention"
        else RecordingLayer(len(ids), window)
        for kind in layer_kinds(config)
    ]
    cache, decoder = Cache(layers=layers), model.get_decoder()
    with torch.no_grad():
        for start in range(0, len(ids), chunk):
            part = ids[None, start : start + chunk].to(model.device)
            try:
                decoder(input_ids=part, past_key_values=cache, use_cache=True)
            except (BoundKVUsedAsTensor, TypeError, AttributeError) as error:
                # `check_model` has seen that the attention is "squeezed".
                raise ConfigError(
                    f"{type(model).__name__} does not hand its keys straight from the cache to its "
                    "attention function (as with latent or differential attention), so squeezed "
                    "attention cannot be used with it. Take another architecture."
                ) from error
            progress("reading", min(len(ids), start + chunk), len(ids))
    return cache


def build_layers(
    model: PreTrainedModel,
    ids: Tensor,
    plan: ClusterPlan,
    chunk: int = 1024,
    progress: Progress = lambda what, done, of: None,
) -> tuple[list[LayerContext], dict[str, float]]:
    """All layers of a context.

    Args:
        model: with attention "squeezed", in evaluation mode.
        ids: (S,) int64 the context's tokens.
        plan: how to cluster.
        chunk: tokens that are read at a time; all where the model's rotary frequencies depend on
            the length ("longrope").
        progress: told about every step.

    Returns:
        One `LayerContext` per model layer, and seconds: `read_s`, `cluster_s`, `calibrate_s`.

    Raises:
        ConfigError: a model that is not supported, a context that does not fit its positions.
        DataError: no text, or too little of it; keys that are not finite; not enough memory.
    """
    check_model(model)
    _check_length(model, ids, plan)
    chunk, may_lower = _pieces(model, ids, chunk)
    seconds = {"read_s": 0.0, "cluster_s": 0.0, "calibrate_s": 0.0}
    try:
        started = time.perf_counter()
        cache = read_document(model, ids, plan.window, chunk, progress)
        seconds["read_s"] = time.perf_counter() - started
        built: list[LayerContext] = []
        with torch.no_grad():
            for number, layer in enumerate(cache.layers):
                built.append(_layer(layer, number, plan, seconds))
                cache.layers[number] = None  # type: ignore[call-overload]  # frees the text's order
                progress("clustering", number + 1, len(cache.layers))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        cure = "load the model in bfloat16, or shorten the document."
        if may_lower:
            cure = f"lower the chunk of tokens read at a time (now {chunk}), {cure}"
        raise DataError(
            f"Building a context of {len(ids):,} tokens did not fit in the memory of "
            f"{model.device}: {cure}"
        ) from error
    return built, seconds


def _check_length(model: PreTrainedModel, ids: Tensor, plan: ClusterPlan) -> None:
    config = text_config(model)
    if ids.ndim != 1 or not len(ids):
        raise DataError("The document is empty: there is nothing to build a context of.")
    exact = plan.window + plan.sinks
    if len(ids) <= exact:
        raise DataError(
            f"The context has {len(ids)} tokens, no more than the {exact} that are kept exactly "
            f"(window={plan.window}, sinks={plan.sinks}), so nothing would be clustered. Lower the "
            "window, or ask the question without squeezed attention."
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and len(ids) >= positions:
        raise ConfigError(
            f"The context has {len(ids):,} tokens, and {type(model).__name__} has "
            f"{positions:,} positions, of which a question and its answer need some. Shorten the "
            "document or take a model with a longer context."
        )
    clustered = len(ids) - exact
    if plan.clusters * clustered < 1:
        log.warning(
            "clusters=%g of %d tokens is less than one; one is made", plan.clusters, clustered
        )


def _pieces(model: PreTrainedModel, ids: Tensor, chunk: int) -> tuple[int, bool]:
    """Tokens to read at a time, and whether fewer would do."""
    if chunk < 1:
        raise ConfigError(f"chunk={chunk}: at least 1 token must be read at a time.")
    border = frequency_border(text_config(model))
    if border is not None and len(ids) > border:
        return len(ids), False  # the first chunks would get the frequencies of a short text
    return chunk, True


def _layer(layer: Any, number: int, plan: ClusterPlan, seconds: dict[str, float]) -> LayerContext:
    keys, values = layer.keys[0], layer.values[0]
    if not bool(torch.isfinite(keys).all() & torch.isfinite(values).all()):
        raise DataError(
            f"Layer {number} has keys or values that are NaN or infinite. Load the model in a "
            "wider dtype (bfloat16 or float32 instead of float16), and check its weights."
        )
    if isinstance(layer, DynamicSlidingWindowLayer):
        return LayerContext(sliding=(keys.contiguous(), values.contiguous()))
    started = time.perf_counter()
    fixed, positions, facts = cluster_layer(keys, values, plan)
    fixed.check()
    middle = time.perf_counter()
    queries = layer.last_queries()
    sketch = calibrate(queries, fixed, layer.scale, f"layer {number}")
    seconds["cluster_s"] += middle - started
    seconds["calibrate_s"] += time.perf_counter() - middle
    return LayerContext(fixed, sketch, positions, layer.scale, None, facts, queries)
