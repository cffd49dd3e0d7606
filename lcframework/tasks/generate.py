"""Answers of any causal language model to the items of a benchmark, greedily, one at a time."""

import time
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch

from lcframework.data.generation import GenerationItem
from lcframework.data.longbench.inputs import ModelInput, check_template, model_input
from lcframework.errors import ConfigError
from lcframework.models.llm.identity import model_fingerprint, tokenizer_fingerprint


@dataclass(frozen=True)
class GeneratedAnswer:
    """What became of one item.

    Attributes:
        text: the answer; None if the item was not run.
        not_run: why not, "" if it was.
        prompt_tokens: tokens that the model was, or would have been, given.
        truncated: tokens cut out of the prompt's middle.
        new_tokens: tokens generated, a final end token included.
        seconds: of the generation.
        more: what a task measured besides, plain values; kept beside the answer.
    """

    text: str | None
    not_run: str
    prompt_tokens: int
    truncated: int
    new_tokens: int
    seconds: float
    more: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "GeneratedAnswer":
        """The same: it lies on the host; Lightning asks every prediction to move there."""
        return self


def end_tokens(model: Any, tokenizer: Any, one_line: bool) -> list[int]:
    """The model's own end tokens; of a one-line answer also the tokenizer's and a line end."""
    own = model.generation_config.eos_token_id
    ends = [] if own is None else ([own] if isinstance(own, int) else list(own))
    if one_line:
        line_end = tokenizer.encode("\n", add_special_tokens=False)[-1:]
        extra = [tokenizer.eos_token_id, *line_end]
        ends += [one for one in extra if one is not None and one not in ends]
    return ends


def greedy_options(model: Any, tokenizer: Any, new: int, one_line: bool) -> dict[str, Any]:
    """Options of generate() for a benchmark's answer: greedy, one beam, at most `new` tokens."""
    ends, pad = end_tokens(model, tokenizer, one_line), tokenizer.pad_token_id
    return {
        "max_new_tokens": new,
        "min_new_tokens": 1 if one_line else None,
        "eos_token_id": ends or None,
        "pad_token_id": pad if pad is not None else (ends or [0])[0],
        "do_sample": False,
        "num_beams": 1,
        "temperature": None,
        "top_p": None,
        "top_k": None,
    }


class GenerationTask(pl.LightningModule):
    """Tests and predicts; needs only `lightning.Trainer`. Greedy, one beam, batch of one.

    Args:
        llm: a causal language model and its tokenizer, as `load_llm` gives them.
        template: "official" (the chat template where the benchmark wants it), "always", "never".
        max_length: longer prompts are cut in the middle as LongBench does, and counted; None:
            nothing is cut. A prompt that with its answer exceeds the model's positions is not run,
            and counted.

    Attributes:
        skip: keys of items that are answered already; they are passed over.

    `test_step` returns `{"answer": GeneratedAnswer | None}`, `predict_step` the answer.

    Raises:
        ConfigError: an unknown template policy.
    """

    def __init__(
        self, llm: tuple[Any, Any], template: str = "official", max_length: int | None = None
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = llm
        check_template(self.tokenizer, template, tasks_want_chat=False)
        if max_length is not None and max_length < 2:
            raise ValueError(f"max_length must be at least 2 or null, got {max_length}")
        self.template, self.max_length = template, max_length
        self.skip: frozenset[str] = frozenset()

    @property
    def positions(self) -> int | None:
        """Tokens that the model has positions for; None if it does not say."""
        config = self.model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None)

    def settings(self) -> dict[str, Any]:
        """Everything but the item that an answer depends on."""
        return {
            "model": model_fingerprint(self.model),
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "dtype": str(self.model.dtype),
            "template": self.template,
            "max_length": self.max_length,
        }

    def setup(self, stage: str) -> None:
        """Refuse, before the first item, what cannot work for any.

        Raises:
            ConfigError: a chat template is wanted and missing; `max_length` leaves no room for the
                answers.
        """
        items = getattr(getattr(self.trainer, "datamodule", None), "items", None) or []
        check_template(self.tokenizer, self.template, any(item.chat for item in items))
        longest = max((item.max_new_tokens for item in items), default=0)
        if self.max_length and self.positions and self.max_length + longest > self.positions:
            raise ConfigError(
                f"max_length={self.max_length} leaves no room to generate: the model has "
                f"{self.positions} positions and an answer may have {longest} tokens. Choose "
                f"task.max_length={max(2, self.positions - longest)} or less, and less than that "
                "where a chat template is put around the prompt."
            )

    def encode(self, item: GenerationItem) -> ModelInput:
        """The item's token ids."""
        chat = self.template == "always" or (self.template == "official" and item.chat)
        return model_input(self.tokenizer, item.prompt, self.max_length, chat)

    def forward(self, item: GenerationItem) -> GeneratedAnswer:
        """Answer one item, or say why it is not run."""
        given = self.encode(item)
        tokens = len(given.ids)
        if self.positions is not None and tokens + item.max_new_tokens > self.positions:
            why = f"{tokens} + {item.max_new_tokens} tokens, {self.positions} positions"
            return GeneratedAnswer(None, why, tokens, given.truncated, 0, 0.0)
        start = time.perf_counter()
        # The model computes in the dtype that it was loaded in, whatever the trainer's precision.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            new = self._generate(given, item)
        return GeneratedAnswer(
            self.tokenizer.decode(new, skip_special_tokens=True),
            "",
            tokens,
            given.truncated,
            len(new),
            time.perf_counter() - start,
        )

    def inputs(self, given: ModelInput) -> dict[str, torch.Tensor]:
        """What `generate` is given: `input_ids`, `attention_mask`, and `position_ids` where they
        are not those that it would choose."""
        ids = torch.tensor([given.ids], device=self.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def _generate(self, given: ModelInput, item: GenerationItem) -> list[int]:
        found = self.model.generate(
            **self.inputs(given),
            **greedy_options(self.model, self.tokenizer, item.max_new_tokens, item.one_line),
        )
        return found[0, len(given.ids) :].tolist()

    def test_step(self, batch: GenerationItem, batch_idx: int) -> dict[str, Any]:
        """The answer, for the callback that keeps and scores it; None if it is there already."""
        return {"answer": None if batch.key in self.skip else self(batch)}

    def predict_step(self, batch: GenerationItem, batch_idx: int) -> GeneratedAnswer:
        """The answer."""
        return self(batch)
