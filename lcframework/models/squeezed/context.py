"""A document read once and asked many times."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lcframework.errors import ConfigError, DataError
from lcframework.models.llm.prompts import PromptParts, encode, prompt_parts
from lcframework.models.squeezed.answers import Answer, kept_fractions
from lcframework.models.squeezed.build import LayerContext, Progress, build_layers
from lcframework.models.squeezed.cache import SlidingLayer, SqueezedCache, SqueezedLayer, TailLayer
from lcframework.models.squeezed.checks import check_model, text_config
from lcframework.models.squeezed.hierarchy import ClusterPlan
from lcframework.models.squeezed.rules import Squeeze


def _silent(what: str, done: int, of: int) -> None:
    """No progress."""


@dataclass
class SqueezedContext:
    """A clustered document for one model (Squeezed Attention, arXiv 2411.09688).

    Make one with `build` or `load`. Many caches, and so many batches of questions, can use it at
    the same time: it is never changed.

    Attributes:
        model: a causal language model whose attention is "squeezed".
        tokenizer: its tokenizer.
        parts: the prompt around document and question.
        ids: (S,) int64 tokens of the fixed part of the prompt, on the host.
        plan: how it was clustered.
        layers: one per layer of the model.
        facts: seconds of the build: `read_s`, `cluster_s`, `calibrate_s`.
    """

    model: PreTrainedModel
    tokenizer: Any
    parts: PromptParts
    ids: Tensor
    plan: ClusterPlan
    layers: list[LayerContext]
    facts: dict[str, float] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        model: PreTrainedModel,
        tokenizer: Any,
        document: str | Sequence[int],
        *,
        clusters: float = 0.05,
        levels: int | str = 2,
        level_ratio: int = 5,
        window: int = 100,
        sinks: int = 0,
        seed: int = 0,
        value_centroids: bool = False,
        prompt: str | PromptParts = "auto",
        chunk: int = 1024,
        progress: Progress = _silent,
    ) -> "SqueezedContext":
        """Read and cluster a document.

        Args:
            model: loaded with `attn_implementation="squeezed"`, in evaluation mode.
            tokenizer: its tokenizer.
            document: the text, or token ids of the whole fixed part of the prompt.
            clusters: share of the tokens, or number of clusters.
            levels: levels of clusters, or "log".
            level_ratio: clusters per cluster of the level above.
            window: last tokens kept exactly, whose queries calibrate the thresholds.
            sinks: first tokens kept exactly.
            seed: of the clustering.
            value_centroids: store what `correct_values` needs.
            prompt: "auto", "chat", "plain" or the parts themselves.
            chunk: tokens read at a time.
            progress: told about every step.

        Raises:
            ConfigError: a model, prompt or plan that does not work.
            DataError: an empty or too short document, keys that are not finite, no memory left.
        """
        plan = ClusterPlan(clusters, levels, level_ratio, window, sinks, seed, value_centroids)
        check_model(model)
        parts = prompt if isinstance(prompt, PromptParts) else prompt_parts(tokenizer, prompt)
        if isinstance(document, str):
            if not document.strip():
                raise DataError("The document is empty: there is nothing to build a context of.")
            ids = torch.tensor(encode(tokenizer, parts.fixed(document)))
        else:
            ids = torch.as_tensor(document, dtype=torch.long)
        layers, facts = build_layers(model, ids, plan, chunk, progress)
        return cls(model, tokenizer, parts, ids, plan, layers, facts)

    @property
    def length(self) -> int:
        """S, the context's tokens."""
        return len(self.ids)

    @property
    def squeezed_layers(self) -> list[int]:
        """Numbers of the model's layers that are squeezed; the others have a sliding window."""
        return [n for n, layer in enumerate(self.layers) if layer.fixed is not None]

    @property
    def centroid_fraction(self) -> float:
        """Centroids of all levels per clustered token."""
        fixed = [layer.fixed for layer in self.layers if layer.fixed is not None]
        centroids = sum(level.centroids.shape[1] for one in fixed for level in one.levels)
        return centroids / max(1, sum(one.clustered for one in fixed))

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the context to a file; see `artifact.save_context`."""
        from lcframework.models.squeezed.artifact import save_context

        return save_context(self, Path(path), overwrite)

    @classmethod
    def load(
        cls, path: str | Path, model: PreTrainedModel, tokenizer: Any = None, *, verify: bool = True
    ) -> "SqueezedContext":
        """Read a context's file; see `artifact.load_context`."""
        from lcframework.models.squeezed.artifact import load_context

        return load_context(Path(path), model, tokenizer, verify=verify)

    def cache(self, squeeze: Squeeze | None = None, backend: str = "auto") -> SqueezedCache:
        """A fresh cache for one batch of questions, to be given to generate() or forward().

        Args:
            squeeze: what to read; None: the defaults.
            backend: as in `ops.squeezed_attention.squeezed_attention`.

        Raises:
            ConfigError: `correct_values` of a context without value centroids.
        """
        squeeze = squeeze or Squeeze()
        if squeeze.correct_values and not self.plan.value_centroids:
            raise ConfigError(
                "correct_values needs the clusters' mean values: build the context with "
                "value_centroids=True."
            )
        sketches = [layer.sketch for layer in self.layers if layer.sketch is not None]
        rules = iter(squeeze.rules(sketches, self.model.device))
        layers: list[TailLayer] = []
        for layer in self.layers:
            if layer.fixed is not None:
                layers.append(SqueezedLayer(layer.fixed, next(rules), layer.scale, backend))
            else:
                assert layer.sliding is not None
                layers.append(SlidingLayer(*layer.sliding, self.length))
        return SqueezedCache(layers)

    def inputs(
        self,
        questions: Sequence[str] | Sequence[Sequence[int]],
        squeeze: Squeeze | None = None,
        backend: str = "auto",
    ) -> dict[str, Any]:
        """Keyword arguments for the model's generate(): one row per question, padded on the left.

        Args:
            questions: texts, which are put into the prompt, or token ids, which are taken as they
                are.
            squeeze: what to read.
            backend: as in `cache`.

        Returns:
            `input_ids` (B, Q), `attention_mask` (B, S + Q) and a fresh `past_key_values`.

        Raises:
            DataError: no question, an empty one, or one longer than the positions left.
        """
        if not len(questions):
            raise DataError("There is no question to ask.")
        rows = [
            encode(self.tokenizer, self.parts.question(one)) if isinstance(one, str) else list(one)
            for one in questions
        ]
        for number, (row, question) in enumerate(zip(rows, questions, strict=True), 1):
            if not row or (isinstance(question, str) and not question.strip()):
                raise DataError(f"Question {number} is empty.")
        longest = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        ids = torch.tensor([[pad or 0] * (longest - len(row)) + row for row in rows])
        mask = torch.ones(len(rows), self.length + longest, dtype=torch.long)
        for number, row in enumerate(rows):
            mask[number, self.length : self.length + longest - len(row)] = 0
        device = self.model.device
        return {
            "input_ids": ids.to(device),
            "attention_mask": mask.to(device),
            "past_key_values": self.cache(squeeze, backend),
        }

    def ask(
        self,
        questions: str | Sequence[str],
        *,
        sparsity: float | None = None,
        max_new_tokens: int = 64,
        squeeze: Squeeze | None = None,
        batch_size: int | None = None,
        backend: str = "auto",
        **generate: Any,
    ) -> list[Answer]:
        """Answer questions about the document, greedily unless told otherwise.

        Args:
            questions: one or many; a batch may mix lengths.
            sparsity: share of the document left unread; short for `Squeeze(sparsity=...)`.
            max_new_tokens: at most so many per answer.
            squeeze: everything else about the selection.
            batch_size: questions at a time; None: all at once.
            backend: as in `cache`.
            **generate: for the model's generate(), such as `do_sample=True, temperature=0.7`.

        Returns:
            One answer per question, in order; with `num_return_sequences` the best of each.

        Raises:
            ConfigError: sparsity given twice or outside [0, 1).
            DataError: empty questions, or no room for one and its answer.
        """
        questions = [questions] if isinstance(questions, str) else list(questions)
        if sparsity is not None and squeeze is not None:
            raise ConfigError("Give sparsity or squeeze, not both.")
        squeeze = squeeze or (Squeeze() if sparsity is None else Squeeze(sparsity=sparsity))
        check_model(self.model)
        size = batch_size or max(1, len(questions))
        answers: list[Answer] = []
        for start in range(0, max(1, len(questions)), size):
            part = questions[start : start + size]
            inputs = self.inputs(part, squeeze, backend)
            self._check_room(inputs["attention_mask"], part, max_new_tokens)
            answers += self._generate(part, inputs, max_new_tokens, generate)
        return answers

    def _check_room(self, mask: Tensor, questions: Sequence[str], new: int) -> None:
        positions = getattr(text_config(self.model), "max_position_embeddings", None)
        if positions is None:
            return
        for tokens, question in zip(mask.sum(1).tolist(), questions, strict=True):
            if tokens + new > positions:
                raise DataError(
                    f"The question {question[:60]!r} has {tokens - self.length:,} tokens with its "
                    f"prompt; behind a context of {self.length:,} and with max_new_tokens={new:,} "
                    f"it does not fit the model's {positions:,} positions. Shorten the question, "
                    "lower max_new_tokens, or build the context of less text."
                )

    def _generate(
        self, questions: Sequence[str], inputs: dict[str, Any], new: int, options: dict[str, Any]
    ) -> list[Answer]:
        cache: SqueezedCache = inputs["past_key_values"]
        options = {"do_sample": False, **options}
        pad = self.tokenizer.pad_token_id
        if pad is None:
            pad = self.tokenizer.eos_token_id
        sequences = self.model.generate(  # type: ignore[operator]
            **inputs, max_new_tokens=new, pad_token_id=pad, **options
        )
        returned = len(sequences) // len(questions)
        new_ids = sequences[::returned, inputs["input_ids"].shape[1] :].tolist()
        ends = self.model.generation_config.eos_token_id  # type: ignore[union-attr]
        ends = set(ends) if isinstance(ends, list) else {ends}
        cut = [_before_end(row, ends) for row in new_ids]
        # The token that ends a row was decoded too; the first one came from the prefill.
        steps = [min(len(row), len(full) - 1) for row, full in zip(cut, new_ids, strict=True)]
        rows = next(iter(cache.squeezed.values())).kept[0].shape[0] // len(questions)
        overhead = 0.5 * self.centroid_fraction
        answers = []
        for question, row, (prefill, decode) in zip(
            questions, cut, kept_fractions(cache, steps, rows), strict=True
        ):
            read = prefill if not len(row) or decode.isnan().any() else decode
            text = self.tokenizer.decode(row, skip_special_tokens=True).strip()
            budget = float(read.mean()) + overhead
            answers.append(Answer(question, text, tuple(row), prefill, decode, budget))
        return answers


def _before_end(row: list[int], ends: set[int | None]) -> list[int]:
    for place, token in enumerate(row):
        if token in ends:
            return row[:place]
    return row
