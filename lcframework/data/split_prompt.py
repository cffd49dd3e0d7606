"""A benchmark's prompts as token ids in two parts: what all questions about a document share, and
the rest. Together they are exactly the ids that a model without a fixed context is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lcframework.data.generation import GenerationItem
from lcframework.data.longbench.inputs import truncate_middle


@dataclass(frozen=True)
class SplitPrompt:
    """One item's prompt.

    Attributes:
        item: the item.
        fixed: ids of the fixed part, the template's beginning included.
        question: ids of the rest.
        truncated: tokens cut out of the prompt's middle.
        chat: whether the chat template is around it.
        wrong: why it cannot be split, "" if it can; then both parts are empty.
    """

    item: GenerationItem
    fixed: tuple[int, ...]
    question: tuple[int, ...]
    truncated: int
    chat: bool
    wrong: str = ""

    @property
    def tokens(self) -> int:
        """Of the whole prompt."""
        return len(self.fixed) + len(self.question)


def wants_chat(item: GenerationItem, template: str) -> bool:
    """Whether the chat template is put around the item's prompt under this policy."""
    return template == "always" or (template == "official" and item.chat)


def split_prompts(
    tokenizer: Any,
    items: Sequence[GenerationItem],
    template: str = "official",
    max_length: int | None = None,
) -> list[SplitPrompt]:
    """Split the prompts of items.

    A word at the border may be tokenized otherwise than the fixed text alone; then the border moves
    back to where all items of a document agree.

    Args:
        tokenizer: a transformers tokenizer.
        items: those with the same fixed text get the same fixed ids (cut ones may not).
        template: "official", "always" or "never".
        max_length: longer prompts are cut in the middle; None: never.

    Returns:
        One per item, in order. A prompt whose question was cut into is not split.
    """
    whole, heads, cuts = [], [], []
    known: dict[str, list[int]] = {}
    for item in items:
        text, cut = truncate_middle(tokenizer, item.prompt, max_length)
        chat = wants_chat(item, template)
        if chat:
            turn = [{"role": "user", "content": text}]
            text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        question = item.question.strip()
        place = text.rfind(question) if question else -1
        whole.append(list(tokenizer(text, add_special_tokens=not chat).input_ids))
        head = text[:place] if place > 0 else ""
        if head and head not in known:
            known[head] = list(tokenizer(head, add_special_tokens=not chat).input_ids)
        heads.append(head)
        cuts.append(cut)
    shared = {head: _agreed(ids, whole, heads, head) for head, ids in known.items()}
    found = []
    for item, ids, head, cut in zip(items, whole, heads, cuts, strict=True):
        if not head:
            wrong = "the cut reaches into the question" if cut else "no question behind a document"
            found.append(SplitPrompt(item, (), (), cut, wants_chat(item, template), wrong))
            continue
        border = shared[head]
        chat = wants_chat(item, template)
        found.append(SplitPrompt(item, tuple(ids[:border]), tuple(ids[border:]), cut, chat))
    return found


def _agreed(ids: list[int], whole: list[list[int]], heads: list[str], head: str) -> int:
    """Tokens at the start that the head alone and all prompts with this head have in common; at
    least one token is left for every question."""
    border = len(ids)
    for full, own in zip(whole, heads, strict=True):
        if own == head:
            most = min(border, len(full) - 1)
            border = next((n for n in range(most) if full[n] != ids[n]), most)
    return border
