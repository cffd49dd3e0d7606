"""Answers to prompts with chunks: from the whole prompt or from its focused view alone, with the
positions and the truncation of training; and the likelihood of the right answer."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from lcframework.data.focused.item import FocusedItem, located
from lcframework.data.generation import GenerationItem
from lcframework.data.longbench.inputs import ModelInput
from lcframework.errors import ConfigError
from lcframework.models.focused.lora import ensure_mask_token
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.tokens import TRUNCATE, EncodedItem, encode_item
from lcframework.models.focused.views import View, check_mode, focused_view, original_view
from lcframework.tasks.generate import GeneratedAnswer, GenerationTask

CONTEXTS = ("original", "focused")


@dataclass(frozen=True)
class ViewInput(ModelInput):
    """What a model is given, with its positions.

    Attributes:
        view: the tokens; no answer.
    """

    view: View


class FocusedGeneration(GenerationTask):
    """Tests any causal language model on the items of a `FocusedDataModule`.

    Args:
        llm: a causal language model and its tokenizer.
        template: "official" (the chat template where the data wants it), "always", "never".
        max_length: tokens of prompt and answer; the document of a longer one is cut, never question
            or answer; None: the model's positions.
        truncate: cut the document at its "end" or in its "middle".
        view: what the focused view does with dropped tokens, see `models.focused.views.MODES`.
        answer_from: "original", or "focused": what retrieval keeps (retrieval at inference).
        mask_token: for view "mask"; see `ensure_mask_token`.
        max_written: only the first so many items of each task get a written answer, of the others
            the likelihood alone is measured; None: all.

    The answer's `more` holds `gold_nats`, the teacher-forced loss of the first reference per token.

    Raises:
        ConfigError: an unknown setting, or one that the model cannot follow.
    """

    def __init__(
        self, llm: tuple[Any, Any], template: str = "official", max_length: int | None = None,
        truncate: str = "end", view: str = "mask", answer_from: str = "original",
        mask_token: str | None = None, max_written: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(llm, template, None)
        check_mode(view, self.model.config)
        for name, value, known in (
            ("truncate", truncate, TRUNCATE), ("answer_from", answer_from, CONTEXTS)
        ):  # fmt: skip
            if value not in known:
                raise ConfigError(f"task.{name}={value!r} is unknown: choose one of {known}.")
        if max_length is not None and self.positions and max_length > self.positions:
            raise ConfigError(
                f"task.max_length={max_length} is beyond the {self.positions} positions of the "
                "model: choose a smaller one, or null for all of them."
            )
        self.total, self.truncate = max_length or self.positions, truncate
        self.view, self.answer_from, self.max_written = view, answer_from, max_written
        self.mask_id: int | None = None
        self.new_token = False
        if view == "mask" and self.needs_mask():
            self.mask_id, self.new_token = ensure_mask_token(self.model, self.tokenizer, mask_token)

    def needs_mask(self) -> bool:
        """Whether the focused view is used at all."""
        return self.answer_from == "focused"

    def settings(self) -> dict[str, Any]:
        """Everything but the item that an answer depends on."""
        more = {"truncate": self.truncate, "answer_from": self.answer_from, "view": self.view}
        written = {"max_length": self.total, "max_written": self.max_written}
        return {**super().settings(), **more, **written}

    @located
    def tokens(self, item: FocusedItem, answer: str | None, spare: int = 0) -> EncodedItem:
        """The item's token ids, truncated."""
        chat = self.template == "always" or (self.template == "official" and item.chat)
        return encode_item(
            self.tokenizer, item, chat=chat, answer=answer, max_length=self.total, spare=spare,
            truncate=self.truncate,
        )  # fmt: skip

    def shown(self, encoded: EncodedItem) -> View:
        """The view that answers are taken from."""
        if self.answer_from == "focused":
            return focused_view(encoded, self.view, self.mask_id)
        return original_view(encoded)

    def encode(self, item: GenerationItem) -> ViewInput:
        """The item's token ids and positions."""
        assert isinstance(item, FocusedItem)
        encoded = self.tokens(item, None, item.max_new_tokens)
        view = self.shown(encoded)
        return ViewInput(view.ids_N.tolist(), encoded.truncated, view)

    def inputs(self, given: ModelInput) -> dict[str, torch.Tensor]:
        """Ids, mask and positions: those of training."""
        assert isinstance(given, ViewInput)
        return given.view.inputs(self.device)

    def gold_loss(self, item: FocusedItem) -> tuple[float, int]:
        """Sum of the first reference's cross-entropies in nats, and its number of tokens, the end
        token included."""
        view = self.shown(self.tokens(item, item.references[0]))
        network = TwoViewNetwork(self.model).to(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            _, loss, _ = network(view, answer_loss=True)
        assert loss is not None
        return float(loss), view.answer_tokens

    def test_step(self, batch: GenerationItem, batch_idx: int) -> dict[str, Any]:
        """The answer with the likelihood of the right one; None if it is there already."""
        if batch.key in self.skip:
            return {"answer": None}
        assert isinstance(batch, FocusedItem)
        if self.max_written is None or batch.number < self.max_written:
            answer = self(batch)
        else:
            given = self.encode(batch)
            answer = GeneratedAnswer(None, "max_written", len(given.ids), given.truncated, 0, 0.0)
        nats, tokens = self.gold_loss(batch)
        return {"answer": replace(answer, more={"gold_nats": nats / tokens})}
