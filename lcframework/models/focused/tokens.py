"""A prompt with chunks as token ids: which tokens the focused view keeps, truncation inside the
document only."""

from dataclasses import dataclass
from typing import Any

from lcframework.data.focused.item import FocusedItem
from lcframework.errors import ConfigError, DataError

TRUNCATE = ("end", "middle")


@dataclass(frozen=True)
class EncodedItem:
    """Token ids of a prompt and of the answer that training wants.

    Attributes:
        ids: of the prompt, special tokens included.
        kept: for each of `ids` whether the focused view keeps it; outside the document always.
        answer: token ids of the answer, the end token last; empty where none is wanted.
        truncated: tokens cut out of the document, in both views alike.
        lost: whether a token of a kept chunk was cut out.
    """

    ids: list[int]
    kept: list[bool]
    answer: list[int]
    truncated: int
    lost: bool


def encode_item(
    tokenizer: Any, item: FocusedItem, *, chat: bool, answer: str | None = None,
    max_length: int | None = None, spare: int = 0, truncate: str = "end",
    end_token: int | None = None,
) -> EncodedItem:  # fmt: skip
    """Token ids of an item.

    Args:
        tokenizer: a fast transformers tokenizer.
        item: the prompt.
        chat: put it into the chat template, as a user's only turn.
        answer: text to be learnt; None: none.
        max_length: tokens of prompt, answer and `spare` together; a longer document is cut.
        spare: tokens left free for an answer to come.
        truncate: cut the document at its "end" or in its "middle".
        end_token: put behind the prompt; None: nothing.

    Raises:
        ConfigError: a tokenizer without offsets, a template that changes the document.
        DataError: `max_length` is too short for the question and answer alone.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"{tokenizer.name_or_path or 'The tokenizer'} does not say which characters a token "
            "stands for (no fast tokenizer), which the two views need: convert it to "
            "tokenizer.json."
        )
    text, start = _written(tokenizer, item, chat)
    found = tokenizer(text, add_special_tokens=not chat, return_offsets_mapping=True)
    end, offsets = start + len(item.document_text), found["offset_mapping"]
    document = [
        n for n, (low, high) in enumerate(offsets) if high > low and low >= start and high <= end
    ]
    ids = list(found["input_ids"])
    kept = [True] * len(ids)
    spans = [(start + low, start + high) for low, high in item.kept_spans]
    for n in document:
        low, high = offsets[n]
        kept[n] = any(low < last and first < high for first, last in spans)
    if end_token is not None:
        ids.append(end_token)
        kept.append(True)
    wanted = _answer_ids(tokenizer, item, answer, chat)
    over = len(kept) + len(wanted) + spare - (max_length or 10**12)
    cut = set(_cut(document, over, truncate, item, max_length))
    stays = [n for n in range(len(kept)) if n not in cut]
    return EncodedItem(
        [ids[n] for n in stays],
        [kept[n] for n in stays],
        wanted,
        len(cut),
        any(kept[n] for n in cut),
    )


def _written(tokenizer: Any, item: FocusedItem, chat: bool) -> tuple[str, int]:
    """The prompt as the model sees it, and where the document begins."""
    if not chat:
        return item.prompt, item.document_start
    turn = [{"role": "user", "content": item.prompt}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    before = item.fixed[: item.document_start].lstrip()  # templates trim what a user says
    at = text.find(before + item.document_text)
    if at < 0:
        raise ConfigError(
            "The chat template does not repeat the document as it was given, so its chunks cannot "
            "be found in it: use task.template=never, or mend tokenizer.chat_template."
        )
    return text, at + len(before)


def _answer_ids(tokenizer: Any, item: FocusedItem, answer: str | None, chat: bool) -> list[int]:
    if answer is None:
        return []
    space = "" if chat or item.question[-1:].isspace() else " "
    ids = tokenizer(f"{space}{answer.strip()}", add_special_tokens=False).input_ids
    end = tokenizer.eos_token_id
    if end is None:
        raise ConfigError(
            f"{tokenizer.name_or_path or 'The tokenizer'} has no end token, which an answer is "
            "learnt to stop with: set tokenizer.eos_token."
        )
    return [*ids, end]


def _cut(
    document: list[int], over: int, truncate: str, item: FocusedItem, max_length: int | None
) -> list[int]:
    """The document's tokens to leave out."""
    if over <= 0:
        return []
    if over >= len(document):
        raise DataError(
            f"{item.key}: max_length={max_length} leaves no token of the document beside the "
            f"question and the answer; raise task.max_length by {over - len(document) + 1} or more."
        )
    left = len(document) - over
    head = left if truncate == "end" else left - left // 2
    return document[head : head + over]
