"""Prompts that fill a wanted number of tokens of a given tokenizer."""

from collections.abc import Sequence
from typing import Any

from lcframework.data.generation import GenerationDataModule, GenerationItem
from lcframework.data.ruler.tasks import TASKS, Draft, RulerTask
from lcframework.errors import ConfigError

SUITE = "ruler"
SPARE = 64
"""Tokens left for a chat template."""


def make_items(
    tokenizer: Any,
    length: int,
    tasks: Sequence[str] | None = None,
    n: int = 10,
    seed: int = 0,
    spare: int = SPARE,
) -> list[GenerationItem]:
    """Items whose prompt, `spare` tokens for a chat template, and answer fill `length` tokens.

    Args:
        tokenizer: a transformers tokenizer.
        length: tokens; the prompt is the largest of its kind that fits.
        tasks: names of `TASKS`; None: all.
        n: items of each task.
        seed: the same seed, length and tokenizer give the same items.
        spare: tokens left for a chat template.

    Raises:
        ConfigError: an unknown task, or a length that not even the smallest prompt fits.
    """
    items = []
    for name in TASKS if tasks is None else tasks:
        if name not in TASKS:
            raise ConfigError(f"{name!r} is no task: choose from {', '.join(TASKS)}.")
        task = TASKS[name]
        room = length - task.max_new_tokens - spare
        guess = 0
        for number in range(n):
            label = f"{seed}/{name}/{number}"
            guess, draft = fill(tokenizer, task, label, room, guess, name)
            items.append(
                GenerationItem(
                    suite=SUITE,
                    task=f"{name} {length}",
                    key=f"{name}/{length}/{seed}/{number}",
                    number=number,
                    document=f"{name}/{length}/{seed}/{number}",
                    fixed=draft.fixed,
                    question=draft.question,
                    references=draft.references,
                    max_new_tokens=task.max_new_tokens,
                    length=length,
                )
            )
    return items


def fill(
    tokenizer: Any, task: RulerTask, seed: str, room: int, guess: int, name: str
) -> tuple[int, Draft]:
    """The largest draft of at most `room` tokens, by bisection; `guess` is a size to begin with.

    Raises:
        ConfigError: the smallest draft is larger than that.
    """

    def tokens(size: int) -> int:
        draft = task.make(seed, size)
        return len(tokenizer(draft.fixed + draft.question).input_ids)

    smallest = tokens(0)
    if smallest > room:
        raise ConfigError(
            f"{name}: its smallest prompt has {smallest} tokens where length leaves {room} beside "
            "the answer. Choose a larger length, or leave the task out."
        )
    low, step = 0, 16
    if guess and tokens(guess) <= room:
        low = guess
    while tokens(low + step) <= room:
        low, step = low + step, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tokens(middle) <= room else (low, middle)
    return low, task.make(seed, low)


class RulerDataModule(GenerationDataModule):
    """Synthetic items of one or several lengths, one per batch.

    Args:
        length: tokens of prompt, template and answer: a number or several.
        tasks: names of `TASKS`; None: all.
        n: items of each task and length.
        seed: of the items.
        spare: tokens left for a chat template.
        tokenizer: whose tokens are counted; None: that of the task under test.

    Raises:
        ConfigError: an unknown task.
        ValueError: no item or no length.
    """

    def __init__(
        self,
        length: int | Sequence[int] = 4096,
        tasks: Sequence[str] | None = None,
        n: int = 10,
        seed: int = 0,
        spare: int = SPARE,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        self.lengths = (length,) if isinstance(length, int) else tuple(length)
        if n < 1 or not self.lengths:
            raise ValueError("n and the number of lengths must be at least 1")
        for name in tasks or ():
            if name not in TASKS:
                raise ConfigError(f"{name!r} is no task: choose from {', '.join(TASKS)}.")
        self.tasks, self.n, self.seed, self.spare = tasks, n, seed, spare
        self.tokenizer = tokenizer
        self.inputs = {"test": "generated"}

    def read(self) -> list[GenerationItem]:
        """Make the items.

        Raises:
            ConfigError: a length that not even the smallest prompt fits, or no tokenizer.
        """
        tokenizer = self.tokenizer
        if tokenizer is None and self.trainer is not None:
            tokenizer = getattr(self.trainer.lightning_module, "tokenizer", None)
        if tokenizer is None:
            raise ConfigError("Lengths are counted in tokens: give the data module a tokenizer.")
        return [
            item
            for length in self.lengths
            for item in make_items(tokenizer, length, self.tasks, self.n, self.seed, self.spare)
        ]
