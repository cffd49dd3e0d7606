"""A prompt as a part that stays (the document) and a part that changes (the question)."""

from dataclasses import dataclass
from typing import Any

from lcframework.errors import ConfigError

STYLES = ("auto", "chat", "plain")
DOCUMENT, QUESTION = "\ufdd0document\ufdd0", "\ufdd0question\ufdd0"  # noncharacters: in no text


@dataclass(frozen=True)
class PromptParts:
    """Text around a document and a question.

    Attributes:
        before: precedes the document; special tokens as text.
        between: stands between document and question.
        after: follows the question.
    """

    before: str
    between: str
    after: str

    def question(self, text: str) -> str:
        """The changing part of the prompt."""
        return f"{self.between}{text}{self.after}"

    def fixed(self, document: str) -> str:
        """The part that stays."""
        return f"{self.before}{document}"


def prompt_parts(tokenizer: Any, style: str = "auto") -> PromptParts:
    """The prompt a model expects.

    Args:
        tokenizer: a transformers tokenizer.
        style: "chat" (the tokenizer's chat template, document and question in one user turn),
            "plain" ("Question: ... Answer:"), or "auto": chat if there is a template.

    Raises:
        ConfigError: an unknown style, "chat" without a template, or a template that changes what it
            is given.
    """
    if style not in STYLES:
        raise ConfigError(f"prompt style {style!r} is unknown: choose one of {STYLES}.")
    template = getattr(tokenizer, "chat_template", None)
    if style == "plain" or (style == "auto" and not template):
        bos = tokenizer.bos_token or ""
        starts = tokenizer("a").input_ids[:1]
        adds_bos = bool(bos) and starts == [tokenizer.bos_token_id]
        return PromptParts(bos if adds_bos else "", "\n\nQuestion: ", "\nAnswer:")
    if not template:
        raise ConfigError(
            f"prompt style 'chat' needs a chat template, and {tokenizer.name_or_path or 'this'} "
            "has none: use style 'plain', or set tokenizer.chat_template."
        )
    turn = [{"role": "user", "content": f"{DOCUMENT}\n\n{QUESTION}"}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    before, found, rest = text.partition(DOCUMENT)
    between, found_too, after = rest.partition(QUESTION)
    if not found or not found_too:
        raise ConfigError("The chat template does not repeat the user's text as it was given.")
    return PromptParts(before, between, after)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a piece of a prompt whose special tokens are written out."""
    return tokenizer(text, add_special_tokens=False).input_ids


def first_tokens(tokenizer: Any, document: str, tokens: int) -> str:
    """The document's first tokens as text, cut at the end of a line where there is a late one.

    Args:
        tokenizer: a fast tokenizer.
        document: the text.
        tokens: at most so many, at least 1.
    """
    ends = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    if len(ends) <= tokens:
        return document
    part = document[: ends[tokens - 1][1]]
    line_end = part.rfind("\n")
    return part[:line_end] if line_end > len(part) // 2 else part
