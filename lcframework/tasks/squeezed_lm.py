"""Questions about documents, answered with squeezed attention (arXiv 2411.09688): each document is
read once, and its questions are asked at every sparsity that is to be compared."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning.pytorch as pl
import torch

from lcframework.data.fixed_context import FixedContextQueries
from lcframework.models.squeezed import Answer, Squeeze, SqueezedContext
from lcframework.models.squeezed.checks import check_squeezes
from lcframework.models.squeezed.hierarchy import ClusterPlan


@dataclass(frozen=True)
class DocumentAnswers:
    """What became of one batch.

    Attributes:
        batch: document and questions.
        answers: by sparsity, in the questions' order; 0.0 is dense.
        seconds: by sparsity, of answering all questions.
        context_tokens: tokens of the fixed part of the prompt.
        clustered_tokens: those that a selection chooses from.
        layers: numbers of the squeezed layers, in the order of `Answer.kept`.
        build_seconds: `read_s`, `cluster_s`, `calibrate_s`.
    """

    batch: FixedContextQueries
    answers: dict[float, list[Answer]]
    seconds: dict[float, float]
    context_tokens: int
    clustered_tokens: int
    layers: list[int]
    build_seconds: dict[str, float]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "DocumentAnswers":
        """The same: it lies on the host; Lightning asks every prediction to move there."""
        return self


class SqueezedLMTask(pl.LightningModule):
    """Tests and predicts with any Hugging Face decoder; needs only `lightning.Trainer`.

    Args:
        llm: a causal language model with attention "squeezed", and its tokenizer, as `load_llm`
            gives them.
        plan: how documents are clustered; None: the paper's settings.
        squeeze: what is read of a document; its sparsity is replaced by each of `sparsities`.
        sparsities: compared on each document; 0 is the dense answer that others are held against.
        max_new_tokens: at most so many per answer.
        batch_size: questions at a time; None: all of a document.
        prompt: "auto", "chat" or "plain", see `prompt_parts`.
        chunk: tokens of the document read at a time.

    `test_step` and `predict_step` return a `DocumentAnswers`.

    Raises:
        ValueError: no sparsity, one outside [0, 1), or one twice.
        ConfigError: a model without a layer that is squeezed.
    """

    def __init__(
        self,
        llm: tuple[Any, Any],
        plan: ClusterPlan | None = None,
        squeeze: Squeeze | None = None,
        sparsities: Sequence[float] = (0.0, 0.7, 0.8, 0.9),
        max_new_tokens: int = 64,
        batch_size: int | None = 8,
        prompt: str = "auto",
        chunk: int = 1024,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = llm
        self.plan, self.squeeze = plan or ClusterPlan(), squeeze or Squeeze()
        self.sparsities = [float(one) for one in sparsities]
        if not self.sparsities or len(set(self.sparsities)) < len(self.sparsities):
            raise ValueError(f"sparsities must be different and at least one: {self.sparsities}")
        self._rules = {one: replace(self.squeeze, sparsity=one) for one in self.sparsities}
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.prompt, self.chunk = prompt, chunk
        check_squeezes(self.model)

    def forward(self, batch: FixedContextQueries) -> DocumentAnswers:
        """Read the document, then ask everything at every sparsity."""
        plan = self.plan
        # Mixed precision would round the similarities that clustering and selection compare; the
        # model computes in the dtype that it was loaded in.
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            context = SqueezedContext.build(
                self.model, self.tokenizer, batch.document, prompt=self.prompt, chunk=self.chunk,
                **{name: getattr(plan, name) for name in plan.__dataclass_fields__},
            )  # fmt: skip
            answers, seconds = {}, {}
            for sparsity, squeeze in self._rules.items():
                start = time.perf_counter()
                answers[sparsity] = context.ask(
                    batch.questions, squeeze=squeeze, max_new_tokens=self.max_new_tokens,
                    batch_size=self.batch_size,
                )  # fmt: skip
                seconds[sparsity] = time.perf_counter() - start
        first = context.layers[context.squeezed_layers[0]].fixed
        assert first is not None
        return DocumentAnswers(
            batch,
            answers,
            seconds,
            context.length,
            first.clustered,
            context.squeezed_layers,
            context.facts,
        )

    def test_step(self, batch: FixedContextQueries, batch_idx: int) -> dict[str, Any]:
        """The answers, for the callback that reports them."""
        return {"answers": self(batch)}

    def predict_step(self, batch: FixedContextQueries, batch_idx: int) -> DocumentAnswers:
        """The answers."""
        return self(batch)
