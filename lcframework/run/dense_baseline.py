"""A context's document read whole by transformers' own attention: what squeezing is compared with.

All keys and values are taken from the context (their order does not matter, keys carry their
positions), so that nobody waits for the document to be read again. They lie in one buffer with room
for question and answer: transformers' DynamicCache would copy all of them at every token, which is
no fair opponent.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import Cache, CacheLayerMixin

from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.asking import pad_token
from lcframework.models.squeezed.cache import SlidingLayer
from lcframework.ops.squeezed_attention import FixedKV


class BufferLayer(CacheLayerMixin):
    """One layer's document and tail in one buffer, for one row.

    Args:
        fixed: the layer's context.
        room: further tokens.
    """

    is_sliding = False

    def __init__(self, fixed: FixedKV, room: int) -> None:
        super().__init__()
        self.filled = fixed.length
        self.all_keys = self._buffer(fixed.keys, fixed.exact_keys, room)
        self.all_values = self._buffer(fixed.values, fixed.exact_values, room)
        self.is_initialized = True

    @staticmethod
    def _buffer(clustered: Tensor, exact: Tensor, room: int) -> Tensor:
        more = clustered.new_zeros(len(clustered), room, clustered.shape[2])
        return torch.cat([clustered, exact, more], 1)[None]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Append; returns views of everything so far."""
        end = self.filled + key_states.shape[2]
        self.all_keys[:, :, self.filled : end] = key_states
        self.all_values[:, :, self.filled : end] = value_states
        self.filled = end
        return self.all_keys[:, :, :end], self.all_values[:, :, :end]

    def get_seq_length(self) -> int:
        """Tokens held."""
        return self.filled

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def get_max_cache_shape(self) -> int:
        """No maximum (the older name)."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As for a cache that grows."""
        return self.filled + query_length, 0


def dense_cache(context: SqueezedContext, room: int) -> Cache:
    """A cache that holds the whole document, for one question.

    Args:
        context: the document.
        room: tokens of question and answer.
    """
    layers: list[Any] = []
    for layer in context.layers:
        if layer.fixed is not None:
            layers.append(BufferLayer(layer.fixed, room))
        else:
            assert layer.sliding is not None
            layers.append(SlidingLayer(*layer.sliding, context.length))
    return Cache(layers=layers)


def dense_answer(
    context: SqueezedContext,
    question: str,
    max_new_tokens: int,
    clock: StoppingCriteria | None = None,
) -> tuple[str, tuple[int, ...]]:
    """Greedy answer with the whole document read.

    Args:
        context: with its model.
        question: one.
        max_new_tokens: at most so many.
        clock: called after every token.

    Returns:
        Its text, and its tokens up to and without the end token.
    """
    inputs = context.inputs([question], Squeeze(sparsity=0.0))
    length = inputs["input_ids"].shape[1]
    inputs["past_key_values"] = dense_cache(context, length - context.length + max_new_tokens)
    criteria = StoppingCriteriaList([] if clock is None else [clock])
    out = context.model.generate(  # type: ignore[operator]
        **inputs, max_new_tokens=max_new_tokens, do_sample=False, stopping_criteria=criteria,
        pad_token_id=pad_token(context.tokenizer),
    )  # fmt: skip
    ends = context.model.generation_config.eos_token_id  # type: ignore[union-attr]
    ends = set(ends) if isinstance(ends, list) else {ends}
    new = out[0, length:].tolist()
    cut = next((place for place, token in enumerate(new) if token in ends), len(new))
    text = context.tokenizer.decode(new[:cut], skip_special_tokens=True).strip()
    return text, tuple(new[:cut])
