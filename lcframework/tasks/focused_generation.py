"""Answers to prompts with chunks: from the whole prompt or from its focused view alone, with the
positions and the truncation of training; and the likelihood of the right answer. One at a time, or
many in a batch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lcframework.data.focused.item import FocusedItem, located
from lcframework.data.generation import GenerationItem
from lcframework.data.longbench.inputs import ModelInput
from lcframework.errors import ConfigError
from lcframework.models.focused.layout import Passes, as_prompts
from lcframework.models.focused.lora import ensure_end_token, ensure_mask_token
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.tokens import TRUNCATE, EncodedItem, encode_item
from lcframework.models.focused.views import View, check_mode, focused_view, original_view
from lcframework.tasks.generate import GeneratedAnswer, GenerationTask, greedy_options

CONTEXTS = ("original", "focused")
AHEAD = 256
"""Items among which those of one length are found for a batch."""


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
        end_token: a token put behind every prompt; None: the one that the model was trained with
            here (`load_adapted`), if any.
        test_tokens: tokens of one batch in the test, padding included; None: one item at a time.
            Answers of a batch may differ by rounding.

    The answer's `more` holds `gold_nats`, the teacher-forced loss of the first reference per token.

    Raises:
        ConfigError: an unknown setting, or one that the model cannot follow.
    """

    def __init__(
        self, llm: tuple[Any, Any], template: str = "official", max_length: int | None = None,
        truncate: str = "end", view: str = "mask", answer_from: str = "original",
        mask_token: str | None = None, max_written: int | None = None,
        end_token: str | None = None, test_tokens: int | None = None,
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
        self.end_id, self.new_end = self._end(
            end_token or getattr(self.model.config, "focused_end_token", None)
        )
        self.passes = None if test_tokens is None else Passes(test_tokens)
        self._ahead: dict[str, GeneratedAnswer] = {}

    def _end(self, token: str | None) -> tuple[int | None, bool]:
        """The id of the token behind every prompt, and whether it is new."""
        if token is None:
            return None, False
        return ensure_end_token(self.model, self.tokenizer, token)

    def needs_mask(self) -> bool:
        """Whether the focused view is used at all."""
        return self.answer_from == "focused"

    def settings(self) -> dict[str, Any]:
        """Everything but the item that an answer depends on."""
        more = {"truncate": self.truncate, "answer_from": self.answer_from, "view": self.view}
        written = {
            "max_length": self.total, "max_written": self.max_written, "end_token": self.end_id,
            "test_tokens": self.passes and self.passes.tokens,
        }  # fmt: skip
        return {**super().settings(), **more, **written}

    @located
    def tokens(self, item: FocusedItem, answer: str | None, spare: int = 0) -> EncodedItem:
        """The item's token ids, truncated."""
        chat = self.template == "always" or (self.template == "official" and item.chat)
        return encode_item(
            self.tokenizer, item, chat=chat, answer=answer, max_length=self.total, spare=spare,
            truncate=self.truncate, end_token=self.end_id,
        )  # fmt: skip

    def shown(self, encoded: EncodedItem) -> View:
        """The view that answers are taken from."""
        if self.answer_from == "focused":
            return focused_view(encoded, self.view, self.mask_id)
        return original_view(encoded)

    def encode(self, item: GenerationItem) -> ViewInput:
        """The item's token ids and positions."""
        assert isinstance(item, FocusedItem)
        return self._given(self.tokens(item, None, item.max_new_tokens))

    def _given(self, encoded: EncodedItem) -> ViewInput:
        view = self.shown(encoded)
        return ViewInput(view.ids_N.tolist(), encoded.truncated, view)

    def _both(self, item: FocusedItem) -> tuple[View, ViewInput]:
        """The view with the right answer, and the prompt to be answered."""
        gold = self.tokens(item, item.references[0])
        room = self.total is None or len(gold.ids) + item.max_new_tokens <= self.total
        if gold.truncated or not room:
            return self.shown(gold), self.encode(item)
        return self.shown(gold), self._given(replace(gold, answer=[]))

    def inputs(self, given: ModelInput) -> dict[str, torch.Tensor]:
        """Ids, mask and positions: those of training."""
        assert isinstance(given, ViewInput)
        return given.view.inputs(self.device)

    def gold_losses(self, views: Sequence[View]) -> list[float]:
        """Mean cross-entropy per token of each view's answer in nats, the end token included; all
        in one pass."""
        network = TwoViewNetwork(self.model).to(self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            found = network(views, answer_loss=True).nll_S
        assert found is not None
        return [nats / view.answer_tokens for nats, view in zip(found.tolist(), views, strict=True)]

    def written(
        self, items: Sequence[FocusedItem], given: Sequence[ViewInput]
    ) -> list[GeneratedAnswer]:
        """Greedy answers, all in one batch; every item wants as many tokens and the same ends."""
        start = time.perf_counter()
        options = greedy_options(
            self.model, self.tokenizer, items[0].max_new_tokens, items[0].one_line
        )
        ends = options["eos_token_id"] or ()
        rows = as_prompts([one.view for one in given], self.device, options["pad_token_id"])
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            found = self.model.generate(**rows, **options)[:, rows["input_ids"].shape[1] :]
        seconds = (time.perf_counter() - start) / len(items)
        answers = []
        for one, new in zip(given, found.tolist(), strict=True):
            end = next((n for n, token in enumerate(new, 1) if token in ends), len(new))
            text = self.tokenizer.decode(new[:end], skip_special_tokens=True)
            answers.append(GeneratedAnswer(text, "", len(one.ids), one.truncated, end, seconds))
        return answers

    def _writes(self, item: FocusedItem) -> bool:
        return self.max_written is None or item.number < self.max_written

    def on_test_start(self) -> None:
        """Forget answers made ahead by an earlier test, perhaps with other weights."""
        self._ahead = {}

    def test_step(self, batch: GenerationItem, batch_idx: int) -> dict[str, Any]:
        """The answer with the likelihood of the right one; None if it is there already."""
        if batch.key in self.skip:
            return {"answer": None}
        assert isinstance(batch, FocusedItem)
        if self.passes is not None:
            if batch.key not in self._ahead:
                self._answer_ahead(self.passes, batch)
            return {"answer": self._ahead.pop(batch.key)}
        gold, given = self._both(batch)
        answer = self(batch) if self._writes(batch) else _unwritten(given)
        return {"answer": replace(answer, more={"gold_nats": self.gold_losses([gold])[0]})}

    def _answer_ahead(self, passes: Passes, first: FocusedItem) -> None:
        """Answer an item and the next ones of this rank, in batches of one length."""
        trainer = self.trainer
        own: Any = trainer.datamodule.items[trainer.global_rank :: trainer.world_size]  # type: ignore[attr-defined]
        place = next(n for n, item in enumerate(own) if item.key == first.key)
        items = [item for item in own[place : place + AHEAD] if item.key not in self.skip]
        both = [self._both(item) for item in items]
        answers: list[GeneratedAnswer] = [_unwritten(given) for _, given in both]
        for numbers, prompts in self._prompts(passes, items, both):
            found = self.written([items[n] for n in numbers], prompts)
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = answer
        for numbers in passes.groups([len(gold.ids_N) for gold, _ in both]):
            losses = self.gold_losses([both[n][0] for n in numbers])
            for n, nats in zip(numbers, losses, strict=True):
                answers[n] = replace(answers[n], more={"gold_nats": nats})
        self._ahead = {item.key: one for item, one in zip(items, answers, strict=True)}

    def _prompts(
        self, passes: Passes, items: Sequence[FocusedItem], both: Sequence[tuple[View, ViewInput]]
    ) -> list[tuple[list[int], list[ViewInput]]]:
        """The batches of prompts that get a written answer: numbers of their items, and they."""
        found = []
        kinds = {(item.max_new_tokens, item.one_line) for item in items}
        for kind in sorted(kinds):
            wanted = [
                n for n, item in enumerate(items)
                if (item.max_new_tokens, item.one_line) == kind and self._writes(item)
            ]  # fmt: skip
            lengths = [len(both[n][1].ids) + kind[0] for n in wanted]
            for group in passes.groups(lengths):
                numbers = [wanted[one] for one in group]
                found.append((numbers, [both[n][1] for n in numbers]))
        return found


def _unwritten(given: ViewInput) -> GeneratedAnswer:
    return GeneratedAnswer(None, "max_written", len(given.ids), given.truncated, 0, 0.0)
