"""A prompt with the places of its document's chunks, and the Jinja templates that make it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lcframework.data.focused.example import QAExample, Span
from lcframework.data.generation import GenerationItem
from lcframework.data.retrieval.rule import Kept
from lcframework.errors import ConfigError, DataError

PROMPTS = Path(__file__).parent / "prompts"
DOCUMENT = "\ufdd0document\ufdd0"  # noncharacters: in no text
MAX_NEW_TOKENS = {"nqd": 32, "qasper": 64, "quality": 8, "quality_text": 64, "custom": 64}
"""By suite. "Lost in the Middle" gives 100 to long-winded models; a line end stops ours."""


@dataclass(frozen=True)
class FocusedItem(GenerationItem):
    """A prompt whose document has chunks, of which retrieval keeps some.

    Attributes:
        document_start: where the document begins in `fixed`, which ends with it.
        chunks: character ranges of the document; they may overlap.
        kept: indices of the chunks that the focused view keeps.
        contrast: whether the two views take part in the contrastive loss.
        question_id: the same for all items of one question.
        options: of a multiple-choice question.
        gold_option: see `QAExample`.
        types: see `QAExample`.
        answer_evidence: see `QAExample`.
        units: see `QAExample`.
        source: file and line that it comes from, for messages.
    """

    document_start: int = 0
    chunks: tuple[Span, ...] = ()
    kept: tuple[int, ...] = ()
    contrast: bool = True
    question_id: str = ""
    options: tuple[str, ...] = ()
    gold_option: int | None = None
    types: tuple[str, ...] = ()
    answer_evidence: tuple[tuple[str, ...], ...] = ()
    units: tuple[Span, ...] = ()
    source: str = ""

    @property
    def digest(self) -> str:
        """As the base's; where the file lies changes nothing."""
        return super(FocusedItem, replace(self, source="")).digest

    @property
    def prompt_digest(self) -> str:
        """Hash of what is asked and what is right, whatever retrieval keeps of it."""
        asked = repr((self.prompt, self.references, self.chat))
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    @property
    def document_text(self) -> str:
        """The document as it stands in the prompt."""
        return self.fixed[self.document_start :]

    @property
    def kept_spans(self) -> tuple[Span, ...]:
        """Character ranges of the document that stay."""
        return tuple(self.chunks[one] for one in self.kept)

    @property
    def kept_units(self) -> list[str]:
        """Texts of the `units` that a kept chunk overlaps: the evidence that retrieval predicts."""
        text = self.document_text
        return [
            text[low:high]
            for low, high in self.units
            if any(low < end and start < high for start, end in self.kept_spans)
        ]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "FocusedItem":
        """The same; Lightning asks every batch to move."""
        return self


def located(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a method whose first argument is an item: a `DataError` that it raises begins with
    the file and line that the item comes from."""

    @wraps(method)
    def wrapped(self: Any, item: FocusedItem, *args: Any, **options: Any) -> Any:
        try:
            return method(self, item, *args, **options)
        except DataError as error:
            raise DataError(f"{item.source}: {error}" if item.source else str(error)) from error

    return wrapped


class PromptTemplate:
    """A Jinja template with `document`, `question` and `options`.

    Args:
        name: one of the shipped ones (nqd, qasper, quality, quality_text, custom) or a path to a
            file.

    Raises:
        ConfigError: no such template, a syntax error, or it does not show the document exactly
            once, before the question.
    """

    def __init__(self, name: str) -> None:
        shipped = PROMPTS / f"{name}.jinja"
        path = shipped if shipped.is_file() else Path(name)
        if not path.is_file():
            known = ", ".join(sorted(one.stem for one in PROMPTS.glob("*.jinja")))
            raise ConfigError(
                f"The prompt {name!r} is neither a file nor one of the templates {known}."
            )
        # A template is a user's file: it may format text, not reach into Python.
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        self.path = path
        try:
            self._template = environment.from_string(path.read_text().rstrip("\n"))
        except TemplateError as error:
            raise ConfigError(f"{path}: not a Jinja template ({error}).") from error

    def render(self, question: str, options: Sequence[str] = ()) -> tuple[str, str]:
        """What stands before and after the document.

        Raises:
            ConfigError: the template uses another variable, or does not show the document once.
        """
        try:
            text = self._template.render(
                document=DOCUMENT, question=question, options=list(options)
            )
        except TemplateError as error:
            raise ConfigError(
                f"{self.path}: {error}. Known: document, question, options."
            ) from error
        parts = text.split(DOCUMENT)
        if len(parts) != 2 or question not in parts[1]:
            raise ConfigError(
                f"{self.path}: a prompt shows {{{{ document }}}} exactly once, as it is, and "
                "{{ question }} after it."
            )
        return parts[0], parts[1]


def make_item(
    example: QAExample, kept: Kept, template: PromptTemplate, suite: str, number: int,
    **changes: Any,
) -> FocusedItem:  # fmt: skip
    """The prompt of an example.

    Args:
        example: the question and its document.
        kept: what retrieval keeps.
        template: of the prompt.
        suite: how answers are scored.
        number: place within its task.
        **changes: other fields of the item.
    """
    before, after = template.render(example.question, example.options)
    given: dict[str, Any] = {
        "suite": suite,
        "task": example.task,
        "key": example.key,
        "number": number,
        "document": example.document_id,
        "fixed": before + example.document,
        "question": after,
        "references": example.answers,
        "max_new_tokens": MAX_NEW_TOKENS[suite],
        "one_line": True,
        "document_start": len(before),
        "chunks": example.chunks,
        "kept": kept.chunks,
        "contrast": kept.contrast,
        "question_id": example.question_id,
        "options": example.options,
        "gold_option": example.gold_option,
        "types": example.types,
        "answer_evidence": example.answer_evidence,
        "units": example.units,
        "source": example.source,
    }
    return FocusedItem(**given | changes)
