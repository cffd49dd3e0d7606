"""Prompt to token ids as LongBench's `pred.py` makes them: middle truncation, chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lcframework.errors import ConfigError

TEMPLATES = ("official", "always", "never")


@dataclass(frozen=True)
class ModelInput:
    """What a model is given.

    Attributes:
        ids: token ids, special tokens included.
        truncated: tokens cut out of the prompt's middle; 0: it is whole.
    """

    ids: list[int]
    truncated: int


def check_template(tokenizer: Any, template: str, tasks_want_chat: bool) -> None:
    """Refuse a policy that the tokenizer cannot follow, before anything is generated.

    Args:
        tokenizer: a transformers tokenizer.
        template: "official" (the chat template, but not for few-shot and code tasks), "always" or
            "never".
        tasks_want_chat: whether a task of the evaluation officially has the template.

    Raises:
        ConfigError: an unknown policy, or no chat template where one is wanted.
    """
    if template not in TEMPLATES:
        raise ConfigError(f"template={template!r} is unknown: choose one of {TEMPLATES}.")
    wanted = template == "always" or (template == "official" and tasks_want_chat)
    if wanted and not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"{tokenizer.name_or_path or 'The tokenizer'} has no chat template, and template="
            f"{template} wants one. For a base model choose task.template=never; for a chat model "
            "set tokenizer.chat_template."
        )


def truncate_middle(tokenizer: Any, text: str, max_length: int | None) -> tuple[str, int]:
    """The text with at most about `max_length` tokens: half from the head, half from the tail.

    As in the original the halves are decoded without special tokens and joined as text, which is
    tokenized anew: the result may have a token more or less. An odd `max_length` loses one.

    Returns:
        The text, and how many tokens were cut out.

    Raises:
        ConfigError: `max_length` is below 2: nothing would be left.
    """
    if max_length is None:
        return text, 0
    if max_length < 2:
        raise ConfigError(f"max_length={max_length} leaves nothing of a prompt: give 2 or more.")
    ids: Sequence[int] = tokenizer(text, truncation=False).input_ids
    if len(ids) <= max_length:
        return text, 0
    half = max_length // 2
    head, tail = (
        tokenizer.decode(part, skip_special_tokens=True) for part in (ids[:half], ids[-half:])
    )
    return head + tail, len(ids) - 2 * half


def model_input(
    tokenizer: Any, prompt: str, max_length: int | None = None, chat: bool = False
) -> ModelInput:
    """Token ids of a prompt.

    Args:
        tokenizer: a transformers tokenizer.
        prompt: the text.
        max_length: longer prompts are cut in the middle, before the template; None: never.
        chat: put the prompt into the tokenizer's chat template, as a user's only turn.

    Returns:
        The ids, and how many tokens of the prompt were cut out.
    """
    text, cut = truncate_middle(tokenizer, prompt, max_length)
    if not chat:
        return ModelInput(list(tokenizer(text, truncation=False).input_ids), cut)
    turn = [{"role": "user", "content": text}]
    written = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    # The template writes its special tokens out.
    return ModelInput(list(tokenizer(written, add_special_tokens=False).input_ids), cut)
