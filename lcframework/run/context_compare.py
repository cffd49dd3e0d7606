"""A context's whole document beside several sparsities: answers, latency, what was read.

The dense side is transformers' own: its DynamicCache and its sdpa attention over all keys and
values of the document, which are taken from the context (their order does not matter, the keys
carry their positions), so that nobody waits for the document to be read again.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import Cache, DynamicLayer

from lcframework.files import write_csv, write_json, write_text
from lcframework.models.squeezed import Answer, Squeeze, SqueezedContext
from lcframework.models.squeezed.cache import SlidingLayer
from lcframework.models.squeezed.diagnosis import SelectionQuality, diagnose
from lcframework.run.context_figures import plot_kept, plot_latency, plot_quality

DENSE = "dense"
Progress = Callable[[str, int, int], None]


class _Clock(StoppingCriteria):
    """Notes when each token was there; stops nothing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times = [self._now()]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        self.times.append(self._now())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@dataclass(frozen=True)
class Setting:
    """One way to read the document, asked every question by itself.

    Attributes:
        name: "dense" or "sparsity 0.9".
        sparsity: None for dense.
        texts: an answer per question.
        tokens: their tokens.
        first_s: seconds to the first token, per question.
        step_s: seconds of every further token, all questions together.
        answers: with the shares read; none for dense.
    """

    name: str
    sparsity: float | None
    texts: list[str]
    tokens: list[tuple[int, ...]]
    first_s: list[float]
    step_s: list[float]
    answers: list[Answer]


@dataclass(frozen=True)
class Comparison:
    """What `compare_sparsities` found.

    Attributes:
        questions: as asked.
        settings: dense first.
        quality: recall and attention mass per sparsity and layer.
    """

    questions: list[str]
    settings: list[Setting]
    quality: list[SelectionQuality]

    def rows(self) -> list[dict[str, Any]]:
        """One row per setting: shares, latency (medians), agreement with dense, quality."""
        return [self._row(one) for one in self.settings]

    def _row(self, one: Setting) -> dict[str, Any]:
        dense = self.settings[0]
        same = [mine == theirs for mine, theirs in zip(one.tokens, dense.tokens, strict=True)]
        quality = [row for row in self.quality if row.sparsity == one.sparsity]
        return {
            "setting": one.name,
            "kept_question": _mean(float(a.kept_prefill.mean()) for a in one.answers),
            "kept_answer": _mean(
                float(a.kept_decode.mean()) for a in one.answers if not a.kept_decode.isnan().any()
            ),
            "budget": _mean(a.budget for a in one.answers),
            "first_token_s": _median(one.first_s),
            "ms_per_token": None if not one.step_s else 1000 * _median(one.step_s),
            "same_answers": f"{sum(same)}/{len(same)}",
            "recall": _mean(row.recall for row in quality),
            "mass": _mean(row.mass for row in quality),
            "oracle_mass": _mean(row.oracle_mass for row in quality),
        }


def _mean(values: Any) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())


def dense_cache(context: SqueezedContext) -> Cache:
    """The document as transformers itself would hold it, for one question."""
    layers: list[Any] = []
    for layer in context.layers:
        if layer.fixed is None:
            assert layer.sliding is not None
            layers.append(SlidingLayer(*layer.sliding, context.length))
            continue
        fixed, full = layer.fixed, DynamicLayer()
        full.update(
            torch.cat([fixed.keys, fixed.exact_keys], 1)[None],
            torch.cat([fixed.values, fixed.exact_values], 1)[None],
        )
        layers.append(full)
    return Cache(layers=layers)


def dense_answer(
    context: SqueezedContext, question: str, max_new_tokens: int, clock: StoppingCriteria
) -> tuple[str, tuple[int, ...]]:
    """Greedy answer of transformers' own attention over the whole document: text and tokens."""
    inputs = context.inputs([question], Squeeze(sparsity=0.0))
    inputs["past_key_values"] = dense_cache(context)
    tokenizer = context.tokenizer
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    out = context.model.generate(  # type: ignore[operator]
        **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad,
        stopping_criteria=StoppingCriteriaList([clock]),
    )  # fmt: skip
    new = out[0, inputs["input_ids"].shape[1] :].tolist()
    ends = context.model.generation_config.eos_token_id  # type: ignore[union-attr]
    ends = set(ends) if isinstance(ends, list) else {ends}
    cut = next((place for place, token in enumerate(new) if token in ends), len(new))
    return tokenizer.decode(new[:cut], skip_special_tokens=True).strip(), tuple(new[:cut])


def compare_sparsities(
    context: SqueezedContext,
    questions: Sequence[str],
    squeezes: Mapping[float, Squeeze],
    *,
    max_new_tokens: int = 64,
    progress: Progress = lambda what, done, of: None,
) -> Comparison:
    """Ask every question densely and at several sparsities, one at a time, and time it.

    Args:
        context: with its model.
        questions: at least one.
        squeezes: by their sparsity.
        max_new_tokens: of an answer.
        progress: told about every answer.

    Raises:
        DataError: no or empty questions, or no room for one.
        ConfigError: what the context cannot do.
    """
    questions = list(questions)
    device = context.model.device
    # A first answer that is not timed: caches and libraries warm up, and errors show.
    context.ask(questions[:1], squeeze=next(iter(squeezes.values())), max_new_tokens=2)
    settings, done = [], 0
    total = len(questions) * (1 + len(squeezes))
    for sparsity, squeeze in [(None, None), *squeezes.items()]:
        name = DENSE if sparsity is None else f"sparsity {sparsity:g}"
        one = Setting(name, sparsity, [], [], [], [], [])
        for question in questions:
            clock = _Clock(device)
            if squeeze is None:
                text, tokens = dense_answer(context, question, max_new_tokens, clock)
            else:
                (answer,) = context.ask(
                    question, squeeze=squeeze, max_new_tokens=max_new_tokens,
                    stopping_criteria=StoppingCriteriaList([clock]),
                )  # fmt: skip
                text, tokens = answer.text, answer.tokens
                one.answers.append(answer)
            gaps = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
            one.texts.append(text)
            one.tokens.append(tokens)
            one.first_s.append(gaps[0])
            one.step_s.extend(gaps[1:])
            done += 1
            progress("answering", done, total)
        settings.append(one)
    first = next(iter(squeezes.values()))
    quality = diagnose(context, questions, list(squeezes), first)
    return Comparison(questions, settings, quality)


def write_comparison(found: Comparison, context: SqueezedContext, folder: Path) -> list[Path]:
    """Write `comparison.csv`, `comparison.json`, `answers.md` and the pictures; returns all."""
    rows = found.rows()
    record = {
        "context": {
            "tokens": context.length,
            "model": context.model.name_or_path,
            "architecture": type(context.model).__name__,
            "dtype": str(context.model.dtype).removeprefix("torch."),
            "device": _device(context.model.device),
            "threads": torch.get_num_threads(),
            "build_seconds": context.facts,
        },
        "settings": rows,
        "quality": [vars(row) for row in found.quality],
        "answers": [
            {"question": question, **{one.name: one.texts[n] for one in found.settings}}
            for n, question in enumerate(found.questions)
        ],
    }
    write_csv(folder / "comparison.csv", rows)
    write_json(folder / "comparison.json", record)
    write_text(folder / "answers.md", answers_text(found))
    squeezed = {one.name: one.answers for one in found.settings if one.answers}
    return [
        folder / "comparison.csv",
        folder / "comparison.json",
        folder / "answers.md",
        plot_kept(squeezed, context, folder / "kept.png"),
        plot_quality(found.quality, folder / "quality.png"),
        plot_latency(rows, folder / "latency.png"),
    ]


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def answers_text(found: Comparison) -> str:
    """Every question with its answers, as Markdown."""
    parts = []
    for number, question in enumerate(found.questions):
        lines = [f"## {question}", ""]
        lines += [
            f"- **{one.name}:** {' '.join(one.texts[number].split())}" for one in found.settings
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
