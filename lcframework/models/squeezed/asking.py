"""From questions to answers: rows of tokens, checks before the work, generate(), what was read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lcframework.errors import ConfigError, DataError
from lcframework.models.llm.prompts import PromptParts, encode
from lcframework.models.squeezed.answers import Answer, kept_per_row
from lcframework.models.squeezed.cache import SqueezedCache
from lcframework.models.squeezed.checks import (
    check_model,
    frequency_border,
    is_out_of_memory,
    text_config,
)
from lcframework.models.squeezed.rules import Squeeze

if TYPE_CHECKING:
    from lcframework.models.squeezed.context import SqueezedContext

OWN = {
    "past_key_values": "the context brings its own",
    "input_ids": "they are made of document and question",
    "inputs": "they are made of document and question",
    "inputs_embeds": "they are made of document and question",
    "attention_mask": "it is made of document and question",
    "cache_implementation": "the context brings its own cache",
    "use_cache": "the document is in the cache",
    "return_dict_in_generate": "ask returns answers; call model.generate(**context.inputs(...))",
    "max_length": "give max_new_tokens",
}
"""Options of generate() that ask() does not take, and why."""
REMOTE = ("penalty_alpha", "dola_layers", "num_beam_groups", "custom_generate", "constraints")
"""Decoding methods that transformers loads as remote code, each with a cache of its own."""
ONE_AT_A_TIME = ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit")


def pad_token(tokenizer: Any) -> int:
    """The id that fills rows up; masked, so any will do where the tokenizer has none."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    return 0


def question_rows(
    tokenizer: Any, parts: PromptParts, questions: Sequence[str] | Sequence[Sequence[int]]
) -> list[list[int]]:
    """Token ids of each question with the prompt around it; ids are taken as they are.

    Raises:
        DataError: no question, or an empty one.
    """
    if not len(questions):
        raise DataError("There is no question to ask.")
    rows = []
    for number, question in enumerate(questions, 1):
        if not (question.strip() if isinstance(question, str) else len(question)):
            raise DataError(f"Question {number} is empty.")
        text = isinstance(question, str)
        rows.append(encode(tokenizer, parts.question(question)) if text else list(question))  # type: ignore[arg-type]
    return rows


def check_options(options: dict[str, Any], batch: int) -> None:
    """Refuse by name what does not go with a context.

    Raises:
        ConfigError: an option that contradicts the context, a decoding method that is not
            supported, or assisted decoding of more than one question at a time.
    """
    for name in options.keys() & OWN.keys():
        if name != "use_cache" or not options[name]:
            raise ConfigError(f"ask(..., {name}=...) is not possible: {OWN[name]}.")
    for name in REMOTE:
        if options.get(name) not in (None, 1):
            raise ConfigError(
                f"ask(..., {name}=...) is not supported with a squeezed context. Supported are "
                "greedy decoding, sampling, beam search, assisted decoding and prompt lookup."
            )
    for name in ONE_AT_A_TIME:
        if options.get(name) is not None and batch > 1:
            raise ConfigError(
                f"Assisted decoding ({name}) takes one question at a time: add batch_size=1."
            )


def check_room(
    context: "SqueezedContext", mask: Tensor, questions: Sequence[str], new: int
) -> None:
    """Refuse a question that does not fit behind the document with its answer.

    Raises:
        DataError: it does not fit the model's positions.
    """
    config = text_config(context.model)
    positions = getattr(config, "max_position_embeddings", None)
    border = frequency_border(config)
    if border is not None and context.length <= border:
        positions = border  # beyond it the context's keys would have to be rotated anew
        what, cure = (
            "positions with frequencies for short texts",
            f"less, or over {border:,} tokens",
        )
    else:
        what, cure = "positions", "less text"
    if positions is None:
        return
    for tokens, question in zip(mask.sum(1).tolist(), questions, strict=True):
        if tokens + new > positions:
            raise DataError(
                f"The question {question[:60]!r} has {tokens - context.length:,} tokens with its "
                f"prompt; behind a context of {context.length:,} and with max_new_tokens={new:,} "
                f"it does not fit the model's {positions:,} {what}. Shorten the question, "
                f"lower max_new_tokens, or build the context of {cure}."
            )


def answer(
    context: "SqueezedContext",
    questions: Sequence[str],
    squeeze: Squeeze,
    new: int,
    batch_size: int | None,
    backend: str,
    options: dict[str, Any],
) -> list[Answer]:
    """See `SqueezedContext.ask`."""
    if new < 1 or (batch_size is not None and batch_size < 1):
        raise ConfigError(
            f"max_new_tokens={new}, batch_size={batch_size}: both must be at least 1."
        )
    check_model(context.model)
    size = batch_size or max(1, len(questions))
    parts = [questions[start : start + size] for start in range(0, max(1, len(questions)), size)]
    check_options(options, max(map(len, parts)))
    batches = []
    for part in parts:  # all checks before any work
        inputs = context.inputs(part, squeeze, backend)
        check_room(context, inputs["attention_mask"], part, new)
        batches.append((part, inputs))
    answers: list[Answer] = []
    for part, inputs in batches:
        try:
            answers += _generate(context, part, inputs, new, options)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise DataError(
                f"Answering {len(part)} questions at a time did not fit in the memory of "
                f"{context.model.device}. Lower batch_size, raise the sparsity, or set "
                "Squeeze(query_block=128) for long questions."
            ) from error
    return answers


def _generate(
    context: "SqueezedContext",
    questions: Sequence[str],
    inputs: dict[str, Any],
    new: int,
    options: dict[str, Any],
) -> list[Answer]:
    cache: SqueezedCache = inputs["past_key_values"]
    options = {"do_sample": False, "pad_token_id": pad_token(context.tokenizer), **options}
    assisted = any(options.get(name) is not None for name in ONE_AT_A_TIME)
    with _cut_first_input(context.model, context.length) if assisted else nullcontext():
        sequences = context.model.generate(**inputs, max_new_tokens=new, **options)  # type: ignore[operator]
    new_ids = sequences[:, inputs["input_ids"].shape[1] :].tolist()
    cut = [_before_end(row, _ends(context, options)) for row in new_ids]
    # The token that ends a row was decoded too; the first one came from the prefill.
    steps = [min(len(row), len(full) - 1) for row, full in zip(cut, new_ids, strict=True)]
    cache.forget_tail()
    answers = []
    for number, (row, (prefill, decode)) in enumerate(
        zip(cut, kept_per_row(cache, steps, len(questions)), strict=True)
    ):
        question = questions[number * len(questions) // len(cut)]
        text = context.tokenizer.decode(row, skip_special_tokens=True).strip()
        answers.append(Answer(question, text, tuple(row), prefill, decode, cache.overhead))
    return answers


@contextmanager
def _cut_first_input(model: PreTrainedModel, context_tokens: int) -> Iterator[None]:
    """Assisted decoding does not slice its first input by the cache's length, as every other method
    of generate() does; without this the model would read the document twice."""

    def cut(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        cache, ids = kwargs.get("past_key_values"), kwargs.get("input_ids")
        if not isinstance(cache, SqueezedCache) or ids is None or not cache.is_fresh:
            return None
        positions = kwargs.get("position_ids")
        if positions is not None and int(positions.flatten()[0]) >= context_tokens:
            return None  # sliced already
        kwargs = kwargs | {"input_ids": ids[:, context_tokens:]}
        if positions is not None:
            kwargs["position_ids"] = positions[..., context_tokens:]
        return args, kwargs

    handle = model.register_forward_pre_hook(cut, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _ends(context: "SqueezedContext", options: dict[str, Any]) -> set[int]:
    config = options.get("generation_config") or context.model.generation_config
    ends = options.get("eos_token_id", config.eos_token_id)  # type: ignore[union-attr]
    if isinstance(ends, torch.Tensor):
        ends = ends.flatten().tolist()
    return set() if ends is None else set(ends) if isinstance(ends, list | tuple) else {ends}


def _before_end(row: list[int], ends: set[int]) -> list[int]:
    for place, token in enumerate(row):
        if token in ends:
            return row[:place]
    return row
