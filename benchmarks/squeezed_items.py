"""The documents and questions of benchmarks/squeezed_quality.py: LongBench, many questions per
document, key-value retrieval and needles, split into fixed part and question, in a fixed order."""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lcframework.data.generation import GenerationItem
from lcframework.data.kv_retrieval import read_kv_retrieval
from lcframework.data.longbench.datamodule import generation_item
from lcframework.data.longbench.reader import read_task
from lcframework.data.prefix_qa import read_prefix_qa
from lcframework.data.ruler.generate import make_items
from lcframework.data.split_prompt import SplitPrompt, split_prompts
from lcframework.files import write_text

LONGBENCH = (
    "qasper", "hotpotqa", "2wikimqa", "musique", "multifieldqa_en", "narrativeqa", "trec",
    "triviaqa", "samsum", "passage_retrieval_en", "passage_count", "lcc",
)  # fmt: skip
"""English tasks with short answers; in the shared sample repobench-p has whole prompts only."""
NEEDLES = ("niah_single", "niah_multikey", "niah_multivalue", "variable_tracking", "qa")
SHORTEST = 300
"""Tokens of a fixed part below which there is nothing to squeeze."""


@dataclass(frozen=True)
class Setup:
    """How a model is asked.

    Attributes:
        template: as in `GenerationTask`.
        positions: tokens that it has positions for.
        max_length: LongBench prompts are cut in the middle to so many tokens, as it does.
        lengths: tokens of the needle prompts.
    """

    template: str
    positions: int
    max_length: int
    lengths: tuple[int, ...]


SETUPS = {
    "smollm2": Setup("official", 8192, 7500, (4096, 8192)),
    "gemma3-270m": Setup("never", 32768, 31500, (8192, 32768)),
}


@dataclass(frozen=True)
class Unit:
    """Questions about one document.

    Attributes:
        prompts: with the same fixed ids.
    """

    prompts: list[SplitPrompt]

    @property
    def suite(self) -> str:
        """Benchmark."""
        return self.prompts[0].item.suite


def key_of(item: GenerationItem) -> str:
    """Name of an item among those of all benchmarks."""
    return f"{item.suite}/{item.key}"


def read_items(
    tokenizer: Any, setup: Setup, options: argparse.Namespace
) -> dict[str, list[GenerationItem]]:
    """The items of every benchmark asked for, document after document."""
    data: Path = options.data
    found: dict[str, list[GenerationItem]] = {}
    if options.longbench:
        found["longbench"] = [
            generation_item(one)
            for name in LONGBENCH
            for one in read_task(data / "longbench", name)[: options.longbench]
        ]
    if options.documents:
        found["prefix_qa"] = read_prefix_qa(data / "qa" / "prefixqa.jsonl.xz")
    if options.kv_rows:
        path = data / "kv_retrieval" / "kv_75.jsonl.xz"
        chat = setup.template != "never"
        items = read_kv_retrieval(path, options.kv_keys, seed=0, chat=chat)
        found["kv_retrieval"] = items[: options.kv_rows * options.kv_keys]
    if options.needles:
        lengths = options.lengths or setup.lengths
        found["ruler"] = [
            item
            for length in lengths
            for item in make_items(tokenizer, length, NEEDLES, options.needles)
        ]
    return found


def plan(
    tokenizer: Any, setup: Setup, options: argparse.Namespace
) -> tuple[list[Unit], list[dict[str, Any]]]:
    """What is to be run, benchmarks taking turns so that an early end leaves some of each; and what
    cannot be, as rows of `suite`, `task`, `key`, `state`."""
    queues, refused = [], []
    for suite, items in read_items(tokenizer, setup, options).items():
        cut = setup.max_length if suite == "longbench" else None
        prompts = split_prompts(tokenizer, items, setup.template, cut)
        good: dict[tuple[int, ...], list[SplitPrompt]] = {}
        for prompt in prompts:
            state = _refusal(prompt, setup, options)
            if state:
                refused.append(_row(prompt, state))
            else:
                good.setdefault(prompt.fixed, []).append(prompt)
        units = [Unit(some[: options.questions]) for some in good.values()]
        if suite == "prefix_qa":
            units = _first_of_each_kind(units, options.documents)
        queues.append(_by_turns(units, lambda unit: unit.prompts[0].item.task))
    return list(_interleave(queues)), refused


def _refusal(prompt: SplitPrompt, setup: Setup, options: argparse.Namespace) -> str:
    if prompt.wrong:
        return prompt.wrong
    new = min(prompt.item.max_new_tokens, options.max_new)
    if prompt.tokens + max(new, options.gold_tokens) > setup.positions:
        return f"longer than the model's {setup.positions} positions"
    if len(prompt.fixed) < SHORTEST:
        return f"fixed part shorter than {SHORTEST} tokens"
    return ""


def _row(prompt: SplitPrompt, state: str) -> dict[str, Any]:
    item = prompt.item
    return {"suite": item.suite, "task": item.task, "key": key_of(item), "state": state}


def _first_of_each_kind(units: Sequence[Unit], most: int) -> list[Unit]:
    """Documents of one source ("coursera-0") are of one kind; the first so many of each source."""
    seen: dict[str, int] = {}
    kept = []
    for unit in units:
        source = unit.prompts[0].item.document.rsplit("-", 1)[0]
        seen[source] = seen.get(source, 0) + 1
        if seen[source] <= most:
            kept.append(unit)
    return _by_turns(kept, lambda unit: unit.prompts[0].item.document.rsplit("-", 1)[0])


def _by_turns(units: Sequence[Unit], kind: Any) -> list[Unit]:
    groups: dict[str, list[Unit]] = {}
    for unit in units:
        groups.setdefault(kind(unit), []).append(unit)
    return list(_interleave(list(groups.values())))


def _interleave(queues: Sequence[Sequence[Unit]]) -> Iterable[Unit]:
    for place in range(max(map(len, queues), default=0)):
        for queue in queues:
            if place < len(queue):
                yield queue[place]


def write_plan(path: Path, units: Sequence[Unit], refused: Sequence[dict[str, Any]]) -> None:
    """Keep a plan for the workers."""
    record = {
        "units": [[asdict(prompt) for prompt in unit.prompts] for unit in units],
        "refused": list(refused),
    }
    write_text(path, json.dumps(record))


def read_plan(path: Path) -> tuple[list[Unit], list[dict[str, Any]]]:
    """What `write_plan` kept."""
    record = json.loads(path.read_text())
    units = [Unit([_prompt(row) for row in unit]) for unit in record["units"]]
    return units, record["refused"]


def _prompt(row: dict[str, Any]) -> SplitPrompt:
    item = dict(row["item"])
    for name in ("references", "all_classes"):
        item[name] = None if item[name] is None else tuple(item[name])
    given: dict[str, Any] = {
        **row,
        "item": GenerationItem(**item),
        "fixed": tuple(row["fixed"]),
        "question": tuple(row["question"]),
    }
    return SplitPrompt(**given)


def states(
    units: Sequence[Unit], refused: Sequence[dict[str, Any]], done: Iterable[str]
) -> list[dict[str, Any]]:
    """A row per item: refused, run, or left when the time ran out."""
    have = set(done)
    return [
        *(
            _row(prompt, "" if key_of(prompt.item) in have else "time ran out")
            for unit in units
            for prompt in unit.prompts
        ),
        *refused,
    ]
