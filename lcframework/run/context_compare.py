"""A context's whole document beside several sparsities: answers, latency, what was read.

The dense side is sparsity 0: the same cache with everything read, the fastest dense attention there
is here. (transformers' own sdpa repeats the document's keys for every query head at every token.)
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from lcframework.files import write_csv, write_json, write_text
from lcframework.models.squeezed import Answer, Squeeze, SqueezedContext
from lcframework.models.squeezed.asking import question_rows
from lcframework.models.squeezed.checks import check_squeezes
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


@dataclass
class Setting:
    """One way to read the document, asked every question by itself.

    Attributes:
        name: "dense" or "sparsity 0.9".
        sparsity: 0 for dense.
        answers: one per question, with the shares read.
        first_s: seconds to the first token, per question.
        step_s: seconds of every further token, all questions together.
        agrees: for every token of the dense answers, whether this setting would write it too.
    """

    name: str
    sparsity: float
    answers: list[Answer] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    agrees: list[bool] = field(default_factory=list)

    def note(self, answer: Answer, times: Sequence[float], agrees: Sequence[bool]) -> None:
        """Add one answer; `times` are of the start and of each token."""
        gaps = [later - earlier for earlier, later in pairwise(times)]
        self.answers.append(answer)
        self.first_s.append(gaps[0])
        self.step_s.extend(gaps[1:])
        self.agrees.extend(agrees)


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
        pairs = zip(one.answers, dense.answers, strict=True)
        same = [mine.tokens == theirs.tokens for mine, theirs in pairs]
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
            "same_next_token": _mean(one.agrees),
            "recall": _mean(row.recall for row in quality),
            "mass": _mean(row.mass for row in quality),
            "oracle_mass": _mean(row.oracle_mass for row in quality),
        }


def _mean(values: Any) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())


@torch.no_grad()
def next_tokens(
    context: SqueezedContext, question: str, answer: Sequence[int], squeeze: Squeeze
) -> list[int]:
    """What would be written next at each place of a given answer, were it written up to there.

    Free answers part for good at the first token that differs; this compares token by token. As in
    generation the question shares one selection and every further token makes its own.

    Args:
        context: with its model.
        question: one.
        answer: (T,) token ids, at least one.
        squeeze: what is read.

    Returns:
        (T,) token ids.
    """
    (row,) = question_rows(context.tokenizer, context.parts, [question])
    cache, device = context.cache(squeeze), context.model.device
    found: list[int] = []
    done = context.length
    for part in (row, list(answer[:-1])):
        if not part:
            continue
        logits = context.model(
            input_ids=torch.tensor([part], device=device),
            attention_mask=torch.ones(1, done + len(part), dtype=torch.long, device=device),
            position_ids=torch.arange(done, done + len(part), device=device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1 if not found else 0,
        ).logits
        found += logits[0].argmax(-1).tolist()
        done += len(part)
        cache.choose_each()
    return found


def _quality(
    context: SqueezedContext, question: str, squeezes: Mapping[float, Squeeze]
) -> list[SelectionQuality]:
    first = next(iter(squeezes.values()))
    return diagnose(context, [question], list(squeezes), first)


def _average(rows: Sequence[SelectionQuality]) -> list[SelectionQuality]:
    """Mean over questions, per sparsity and layer."""
    groups: dict[tuple[float, int], list[SelectionQuality]] = {}
    for row in rows:
        groups.setdefault((row.sparsity, row.layer), []).append(row)
    names = [one.name for one in fields(SelectionQuality) if one.name not in ("layer", "sparsity")]
    averages = []
    for (sparsity, layer), group in groups.items():
        means = {name: sum(getattr(one, name) for one in group) / len(group) for name in names}
        averages.append(SelectionQuality(layer=layer, sparsity=sparsity, **means))
    return averages


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
        ConfigError: what the context cannot do; no layer that is squeezed.
    """
    check_squeezes(context.model)
    questions = list(questions)
    # A first answer that is not timed: libraries warm up, and errors show.
    context.ask(questions[:1], squeeze=next(iter(squeezes.values())), max_new_tokens=2)
    squeezes = {one: squeezes[one] for one in sorted(squeezes) if one > 0}
    settings = [Setting(DENSE, 0.0), *(Setting(f"sparsity {one:g}", one) for one in squeezes)]
    quality: list[SelectionQuality] = []
    for number, question in enumerate(questions):
        dense: tuple[int, ...] = ()
        for one in settings:
            clock = _Clock(context.model.device)
            squeeze = squeezes.get(one.sparsity, Squeeze(sparsity=0.0))
            (answer,) = context.ask(
                question, squeeze=squeeze, max_new_tokens=max_new_tokens,
                stopping_criteria=StoppingCriteriaList([clock]),
            )  # fmt: skip
            if one is settings[0]:
                dense = answer.tokens
            likely = next_tokens(context, question, dense, squeeze) if dense else []
            agrees = [a == b for a, b in zip(likely, dense, strict=True)]
            one.note(answer, clock.times, agrees)
        quality += _quality(context, question, squeezes)
        progress("questions", number + 1, len(questions))
    return Comparison(questions, settings, _average(quality))


def write_comparison(
    found: Comparison, context: SqueezedContext, folder: Path, file: Path | None = None
) -> list[Path]:
    """Write `comparison.csv`, `comparison.json`, `answers.md` and the pictures; returns all.

    Args:
        found: what to write.
        context: that was asked.
        folder: where to.
        file: of the context, to note its size; None: it is in none.
    """
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
            "bytes": None if file is None else file.stat().st_size,
        },
        "settings": rows,
        "quality": [vars(row) for row in found.quality],
        "answers": [
            {"question": question, **{one.name: one.answers[n].text for one in found.settings}}
            for n, question in enumerate(found.questions)
        ],
    }
    write_csv(folder / "comparison.csv", rows)
    write_json(folder / "comparison.json", record)
    write_text(folder / "answers.md", answers_text(found))
    squeezed = {one.name: one.answers for one in found.settings[1:]}
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
            f"- **{one.name}:** {' '.join(one.answers[number].text.split())}"
            for one in found.settings
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
