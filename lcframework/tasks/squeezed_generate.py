"""Answers to a benchmark's items with squeezed attention or a baseline beside the dense model's,
and how much their next-token distributions differ."""

from dataclasses import asdict, replace
from typing import Any

import torch

from lcframework.data.generation import GenerationItem
from lcframework.data.split_prompt import SplitPrompt, split_prompts
from lcframework.models.llm.prompts import PromptParts
from lcframework.models.squeezed import SqueezedContext
from lcframework.models.squeezed.hierarchy import ClusterPlan
from lcframework.models.squeezed.methods import SQUEEZED, Method
from lcframework.tasks.generate import GeneratedAnswer, GenerationTask
from lcframework.tasks.method_cost import context_bytes
from lcframework.tasks.paired_answers import DENSE, MethodRun, PairedReader, Reading


class SqueezedGenerationTask(GenerationTask):
    """Tests and predicts as `GenerationTask` does; a document is read and clustered once for all
    its questions that follow one another.

    Every item is answered densely and by the method, and the method is compared with the dense
    model token by token, on the dense answer and on the first gold answer.

    Args:
        llm: a causal language model with attention "squeezed" and its tokenizer.
        squeeze: the method; a baseline without `share` gets the budget that squeezed attention with
            the same settings measures on the same question.
        plan: how documents are clustered; None: the paper's settings.
        template: as in `GenerationTask`.
        max_length: as in `GenerationTask`; a prompt whose cut reaches into its question is not run.
        gold_tokens: gold answers are compared up to so many tokens.
        chunk: tokens of a document read at a time.

    The answer's `more` holds `readings` (a `Reading` as plain values, by name: `dense`, the method,
    and `squeezed` where a baseline takes its budget from it), `layers`, `context_tokens`, `build`
    (seconds) and `bytes`.
    """

    def __init__(
        self,
        llm: tuple[Any, Any],
        squeeze: Method | None = None,
        plan: ClusterPlan | None = None,
        template: str = "official",
        max_length: int | None = None,
        gold_tokens: int = 64,
        chunk: int = 1024,
    ) -> None:
        super().__init__(llm, template, max_length)
        self.squeeze, self.plan = squeeze or Method(), plan or ClusterPlan()
        self.chunk = chunk
        self.reader = PairedReader(self.model, self.tokenizer, gold_tokens)
        self._prompts: dict[str, SplitPrompt] = {}
        self._context: tuple[tuple[int, ...], SqueezedContext] | None = None

    @property
    def runs(self) -> list[MethodRun]:
        """What is compared with the dense model."""
        squeeze = self.squeeze
        if not squeeze.is_baseline or squeeze.share is not None or squeeze.method == DENSE:
            return [MethodRun(self.name, squeeze)]
        return [
            MethodRun(SQUEEZED, replace(squeeze, method=SQUEEZED), writes=False),
            MethodRun(self.name, squeeze, like=SQUEEZED),
        ]

    @property
    def name(self) -> str:
        """The method's name among the readings."""
        return "dense_again" if self.squeeze.method == DENSE else self.squeeze.method

    def settings(self) -> dict[str, Any]:
        """Everything but the item that an answer depends on."""
        return super().settings() | {
            "squeeze": asdict(self.squeeze),
            "plan": asdict(self.plan),
            "gold_tokens": self.reader.gold_tokens,
        }

    def setup(self, stage: str) -> None:
        """Refuse what cannot work for any item; split the prompts of every document."""
        super().setup(stage)
        items = getattr(getattr(self.trainer, "datamodule", None), "items", None) or []
        self._prompts = {one.item.key: one for one in self._split(items)}

    def _split(self, items: list[GenerationItem]) -> list[SplitPrompt]:
        return split_prompts(self.tokenizer, items, self.template, self.max_length)

    def forward(self, item: GenerationItem) -> GeneratedAnswer:
        """Answer one item, or say why it is not run."""
        prompt = self._prompts.get(item.key)
        if prompt is None or prompt.item != item:
            (prompt,) = self._split([item])
        why = self._refusal(prompt)
        if why:
            return GeneratedAnswer(None, why, prompt.tokens, prompt.truncated, 0, 0.0)
        # Mixed precision would round the similarities that clustering and selection compare; the
        # model computes in the dtype that it was loaded in.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            context = self._read(prompt.fixed)
            (readings,) = self.reader.read(context, [prompt], self.runs)
        found = readings.get(self.name)
        if found is None:
            why = f"what {self.squeeze.method} reads to choose exceeds the budget"
            return GeneratedAnswer(None, why, prompt.tokens, prompt.truncated, 0, 0.0)
        return GeneratedAnswer(
            found.text, "", prompt.tokens, prompt.truncated, found.new_tokens, found.seconds,
            self._more(context, readings),
        )  # fmt: skip

    def _refusal(self, prompt: SplitPrompt) -> str:
        if prompt.wrong:
            return prompt.wrong
        if self.positions is not None and self.reader.room(prompt) > self.positions:
            more = self.reader.room(prompt) - prompt.tokens
            return f"{prompt.tokens} + {more} tokens, {self.positions} positions"
        exact = self.plan.window + self.plan.sinks
        if len(prompt.fixed) <= exact + 1:
            return f"a fixed part of {len(prompt.fixed)} tokens, {exact} are kept exactly"
        return ""

    def _read(self, fixed: tuple[int, ...]) -> SqueezedContext:
        if self._context is None or self._context[0] != fixed:
            self._context = None  # frees the memory of the one before
            context = SqueezedContext.build(
                self.model, self.tokenizer, fixed, prompt=PromptParts("", "", ""),
                chunk=self.chunk,
                **{name: getattr(self.plan, name) for name in self.plan.__dataclass_fields__},
            )  # fmt: skip
            self._context = fixed, context
        return self._context[1]

    def _more(self, context: SqueezedContext, readings: dict[str, Reading]) -> dict[str, Any]:
        return {
            "readings": {name: one.as_dict() for name, one in readings.items()},
            "layers": context.squeezed_layers,
            "context_tokens": context.length,
            "build": context.facts,
            "bytes": context_bytes(context),
        }
