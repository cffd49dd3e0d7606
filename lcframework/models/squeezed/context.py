"""A document read once and asked many times."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lcframework.errors import ConfigError, DataError
from lcframework.models.llm.prompts import PromptParts, encode, prompt_parts
from lcframework.models.squeezed.answers import Answer
from lcframework.models.squeezed.asking import answer, pad_token, question_rows
from lcframework.models.squeezed.build import LayerContext, Progress, build_layers
from lcframework.models.squeezed.cache import SlidingLayer, SqueezedCache, SqueezedLayer, TailLayer
from lcframework.models.squeezed.checks import check_model
from lcframework.models.squeezed.hierarchy import ClusterPlan
from lcframework.models.squeezed.methods import Method, method_cache
from lcframework.models.squeezed.methods.selector import TextLayer, text_layer
from lcframework.models.squeezed.rules import Squeeze

log = logging.getLogger(__name__)


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
    _text: list[TextLayer | None] | None = field(default=None, repr=False)

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
        sinks: int = 4,
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
        context = cls(model, tokenizer, parts, ids, plan, layers, facts)
        if not context.squeezed_layers:
            log.warning(
                "Every layer of %s has a sliding window and stays dense: nothing is squeezed.",
                type(model).__name__,
            )
        elif context.dense_layers:
            log.info(
                "%d of %d layers have a sliding window and stay dense.",
                len(context.dense_layers),
                len(layers),
            )
        return context

    @property
    def length(self) -> int:
        """S, the context's tokens."""
        return len(self.ids)

    @property
    def squeezed_layers(self) -> list[int]:
        """Numbers of the model's layers that are squeezed; the others have a sliding window."""
        return [n for n, layer in enumerate(self.layers) if layer.fixed is not None]

    @property
    def dense_layers(self) -> list[int]:
        """Numbers of the layers left dense, because they have a sliding window."""
        return [n for n, layer in enumerate(self.layers) if layer.fixed is None]

    @property
    def centroid_fraction(self) -> float:
        """Centroids of all levels per clustered token."""
        return self.centroids_per_token()

    def centroids_per_token(self, levels: int | None = None) -> float:
        """Centroids per clustered token, of the finest so many levels; None: all."""
        fixed = [layer.fixed for layer in self.layers if layer.fixed is not None]
        centroids = sum(level.centroids.shape[1] for one in fixed for level in one.levels[:levels])
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
        if isinstance(squeeze, Method) and squeeze.is_baseline:
            return method_cache(self, squeeze)
        sketches = [layer.sketch for layer in self.layers if layer.sketch is not None]
        rules = iter(squeeze.rules(sketches, self.model.device))
        layers: list[TailLayer] = []
        for layer in self.layers:
            if layer.fixed is not None:
                fixed = layer.fixed.finest(squeeze.levels)
                layers.append(SqueezedLayer(fixed, next(rules), layer.scale, backend))
            else:
                assert layer.sliding is not None
                layers.append(SlidingLayer(*layer.sliding, self.length))
        cache = SqueezedCache(layers)
        if not cache.keeps_all:
            cache.overhead = 0.5 * self.centroids_per_token(squeeze.levels)
        return cache

    def text_layers(self) -> list[TextLayer | None]:
        """Every layer in the order of the text, None for those with a sliding window; made once."""
        if self._text is None:
            self._text = [
                None if one.fixed is None else text_layer(one, number)
                for number, one in enumerate(self.layers)
            ]
        return self._text

    def inputs(
        self,
        questions: Sequence[str] | Sequence[Sequence[int]],
        squeeze: Squeeze | None = None,
        backend: str = "auto",
    ) -> dict[str, Any]:
        """Keyword arguments for the model's generate(): one row per question.

        The rows are whole prompts, so that what looks at the prompt's tokens (repetition penalty,
        prompt lookup) sees the document; generate() cuts off what the cache holds. Padding stands
        between document and question.

        Args:
            questions: texts, which are put into the prompt, or token ids, which are taken as they
                are.
            squeeze: what to read.
            backend: as in `cache`.

        Returns:
            `input_ids` and `attention_mask` (B, S + Q), and a fresh `past_key_values`.

        Raises:
            DataError: no question, or an empty one.
        """
        rows = question_rows(self.tokenizer, self.parts, questions)
        longest = max(map(len, rows))
        pad = pad_token(self.tokenizer)
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        document = self.ids.expand(len(rows), -1)
        device = self.model.device
        return {
            "input_ids": torch.cat([document, ids], 1).to(device),
            "attention_mask": torch.cat([torch.ones_like(document), mask], 1).to(device),
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
            **generate: for the model's generate(), such as `do_sample=True, temperature=0.7`,
                `num_beams=4`, or `prompt_lookup_num_tokens=3`.

        Returns:
            One answer per question, in order; `num_return_sequences` per question if given.

        Raises:
            ConfigError: sparsity given twice or outside [0, 1), a batch size below 1, an option
                of generate() that does not go with a context.
            DataError: empty questions, no room for one and its answer, or no memory for the batch.
        """
        questions = [questions] if isinstance(questions, str) else list(questions)
        if sparsity is not None and squeeze is not None:
            raise ConfigError("Give sparsity or squeeze, not both.")
        if squeeze is None:
            squeeze = Squeeze() if sparsity is None else Squeeze(sparsity=sparsity)
        return answer(self, questions, squeeze, max_new_tokens, batch_size, backend, generate)
