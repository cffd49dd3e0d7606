"""A document's questions answered by the dense model and by methods that read a part of it, and
compared token by token on the same texts.

The texts are the dense model's own answers and the gold answers. Every method reads the question as
it would before an answer (one choice for all its tokens), then the answer's tokens as it would
while writing them (a choice for each), so its next-token distributions are those of decoding.

Legend: B rows, L squeezed layers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lcframework.data.split_prompt import SplitPrompt
from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.cache import SqueezedCache
from lcframework.models.squeezed.checks import check_squeezes
from lcframework.models.squeezed.forced import forced_logits
from lcframework.models.squeezed.methods.selector import ShareTooSmall
from lcframework.scoring.paired import PairedTokens, compare_logits
from lcframework.scoring.paired_sums import PairedSums
from lcframework.tasks.generate import end_tokens, greedy_options

DENSE = "dense"
EVERYTHING = Squeeze(sparsity=0.0)


@dataclass(frozen=True)
class MethodRun:
    """A method to compare.

    Attributes:
        name: in the results, unique.
        squeeze: what is read; a baseline whose share is None needs `like`.
        like: name of an earlier run whose measured budget, on the same questions, the baseline
            gets.
        writes: also let it write answers; else it is only compared on the texts.
    """

    name: str
    squeeze: Squeeze
    like: str | None = None
    writes: bool = True


@dataclass(frozen=True)
class Reading:
    """One method on one item.

    Attributes:
        text: the answer it wrote; None if it wrote none.
        new_tokens: tokens of it, a final end token included.
        seconds: of the writing, of the whole batch it was written in.
        rows: answers in that batch.
        steps: tokens that the batch decoded one after the other.
        kept_question: share of the clustered tokens read while the question was read.
        kept: the same, mean over the tokens of the dense model's answer (of the question, where the
            answer has one token).
        budget: `kept` plus what is read to choose: share of the keys and values per step.
        kept_layers: L shares, `kept` of each layer.
        own: comparison with the dense model on its own answer; None for the dense model.
        gold: on the first gold answer; None without one.
    """

    text: str | None
    new_tokens: int
    seconds: float
    rows: int
    steps: int
    kept_question: float
    kept: float
    budget: float
    kept_layers: list[float]
    own: PairedSums | None
    gold: PairedSums | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pairs = {
            name: None if part is None else part.as_dict()
            for name, part in (("own", self.own), ("gold", self.gold))
        }
        return vars(self) | pairs


@dataclass(frozen=True)
class _Written:
    rows: list[list[int]]
    seconds: float
    steps: int


class PairedReader:
    """Compares methods on the questions of one context at a time.

    Args:
        model: with attention "squeezed".
        tokenizer: its tokenizer.
        backend: of squeezed attention while answers are written; "masked" is faster where a device
            waits for small kernels.
        gold_tokens: gold answers are compared up to so many tokens.
        max_new_tokens: answers are cut there even if their benchmark allows more; None: never.
        batch_size: questions at a time.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        gold_tokens: int = 64,
        max_new_tokens: int | None = None,
        batch_size: int = 16,
        backend: str = "auto",
    ) -> None:
        if gold_tokens < 1 or batch_size < 1:
            raise ValueError("gold_tokens and batch_size must be at least 1")
        check_squeezes(model)
        self.model, self.tokenizer = model, tokenizer
        self.gold_tokens, self.cap, self.batch_size = gold_tokens, max_new_tokens, batch_size
        self.backend = backend

    def new_tokens(self, prompt: SplitPrompt) -> int:
        """Tokens that an answer to the prompt may have."""
        own = prompt.item.max_new_tokens
        return own if self.cap is None else min(own, self.cap)

    def room(self, prompt: SplitPrompt) -> int:
        """Positions that prompt and answer, the gold one too, need at most."""
        return prompt.tokens + max(self.new_tokens(prompt), self.gold_tokens)

    def read(
        self, context: SqueezedContext, prompts: Sequence[SplitPrompt], runs: Sequence[MethodRun]
    ) -> list[dict[str, Reading]]:
        """Answer all questions densely and by every run, and compare.

        Args:
            context: of the prompts' fixed ids.
            prompts: at least one, all with these fixed ids.
            runs: methods; a run that others are `like` comes before them.

        Returns:
            Per prompt, in order, the readings by name, `dense` first. A baseline whose own lookup
            alone exceeds the budget it should get is left out.
        """
        found: list[dict[str, Reading]] = [{} for _ in prompts]
        kinds: dict[tuple[int, bool], list[int]] = {}
        for place, prompt in enumerate(prompts):
            kind = (self.new_tokens(prompt), prompt.item.one_line)
            kinds.setdefault(kind, []).append(place)
        for (new, one_line), places in kinds.items():
            for start in range(0, len(places), self.batch_size):
                part = places[start : start + self.batch_size]
                batch = _Batch(self, context, [prompts[place] for place in part], new, one_line)
                for name, readings in batch.all(runs).items():
                    for place, reading in zip(part, readings, strict=True):
                        found[place][name] = reading
        return found

    def gold_ids(self, prompt: SplitPrompt) -> list[int]:
        """Tokens of the first gold answer as it would follow the prompt; none without one."""
        references = prompt.item.references
        text = references[0].strip() if references else ""
        if not text:
            return []
        apart = prompt.chat or prompt.item.question[-1:].isspace()
        ids = self.tokenizer(text if apart else f" {text}", add_special_tokens=False).input_ids
        return list(ids[: self.gold_tokens])


class _Batch:
    """Questions that are answered together."""

    def __init__(
        self,
        reader: PairedReader,
        context: SqueezedContext,
        prompts: list[SplitPrompt],
        new: int,
        one_line: bool,
    ) -> None:
        self.reader, self.context, self.prompts = reader, context, prompts
        self.model, self.tokenizer = reader.model, reader.tokenizer
        self.options = greedy_options(self.model, self.tokenizer, new, one_line)
        self.ends = set(end_tokens(self.model, self.tokenizer, one_line))

    @torch.no_grad()
    def all(self, runs: Sequence[MethodRun]) -> dict[str, list[Reading]]:
        """Readings of every run, in the order of the prompts."""
        dense = self.write(EVERYTHING)
        own = dense.rows
        gold = {n: ids for n, one in enumerate(self.prompts) if (ids := self.reader.gold_ids(one))}
        places = [*range(len(own)), *gold]
        questions = [list(self.prompts[n].question) for n in places]
        texts = [*own, *gold.values()]
        reference, _ = forced_logits(self.context, EVERYTHING, questions, texts)
        device = reference.device
        tokens = torch.tensor([token for text in texts for token in text], device=device)
        layers = len(self.context.squeezed_layers)
        found = {DENSE: [self._dense(dense, n, layers) for n in range(len(own))]}
        for run in runs:
            squeeze = run.squeeze
            if run.like is not None:
                same = [one.budget for one in found[run.like]]
                squeeze = replace(squeeze, share=min(1.0, sum(same) / len(same)))
                if not self._fits(squeeze):
                    continue
            logits, cache = forced_logits(self.context, squeeze, questions, texts)
            pairs = _sums(compare_logits(reference, logits, tokens), [len(one) for one in texts])
            del logits
            written = self.write(squeeze) if run.writes else None
            golds = dict(zip(gold, pairs[len(own) :], strict=True))
            first, later = _kept(cache)
            found[run.name] = [
                Reading(
                    **self._text(written, n),
                    kept_question=sum(first[n]) / layers,
                    **_budget(later[n] if len(own[n]) > 1 else first[n], cache.overhead),
                    own=pairs[n],
                    gold=golds.get(n),
                )
                for n in range(len(own))
            ]
        return found

    def _fits(self, squeeze: Squeeze) -> bool:
        try:
            self.context.cache(squeeze)
        except ShareTooSmall:
            return False
        return True

    def write(self, squeeze: Squeeze) -> _Written:
        """Let a method write; rows end with their end token, if there is one."""
        questions = [list(one.question) for one in self.prompts]
        inputs = self.context.inputs(questions, squeeze, self.reader.backend)
        start = time.perf_counter()
        sequences = self.model.generate(**inputs, **self.options)
        rows = sequences[:, inputs["input_ids"].shape[1] :].tolist()  # waits for the device
        seconds = time.perf_counter() - start
        return _Written([_with_end(row, self.ends) for row in rows], seconds, len(rows[0]))

    def _text(self, written: _Written | None, row: int) -> dict[str, Any]:
        if written is None:
            return {"text": None, "new_tokens": 0, "seconds": 0.0, "rows": 0, "steps": 0}
        ids = written.rows[row]
        return {
            "text": self.tokenizer.decode(ids, skip_special_tokens=True),
            "new_tokens": len(ids),
            "seconds": written.seconds,
            "rows": len(written.rows),
            "steps": written.steps,
        }

    def _dense(self, written: _Written, row: int, layers: int) -> Reading:
        full = _budget([1.0] * layers, 0.0)
        return Reading(**self._text(written, row), kept_question=1.0, **full, own=None, gold=None)


def _budget(kept_layers: list[float], overhead: float) -> dict[str, Any]:
    kept = sum(kept_layers) / len(kept_layers)
    return {"kept": kept, "budget": kept + overhead, "kept_layers": kept_layers}


def _kept(cache: SqueezedCache) -> tuple[list[list[float]], list[list[float]]]:
    """B rows of L shares, of the questions and of the answers."""
    calls = len(next(iter(cache.squeezed.values())).kept)
    first, later = (
        torch.stack([one.kept[call].float().mean(-1) for one in cache.squeezed.values()], 1)
        for call in (0, calls - 1)
    )
    return first.tolist(), later.tolist()


def _sums(pairs: PairedTokens, lengths: Sequence[int]) -> list[PairedSums]:
    found, start = [], 0
    for length in lengths:
        part = slice(start, start + length)
        found.append(
            PairedSums.of(
                PairedTokens(
                    pairs.kl_T[part], pairs.agree_T[part], pairs.gold_T[part], pairs.margin_T[part]
                )
            )
        )
        start += length
    return found


def _with_end(row: list[int], ends: set[int]) -> list[int]:
    for place, token in enumerate(row):
        if token in ends:
            return row[: place + 1]
    return row
