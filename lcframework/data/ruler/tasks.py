"""The tasks: each makes a prompt of a given size, in its own units, from a seed.

With the same seed a larger size keeps question and answers, so that the size can be searched that
fills a wanted length.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lcframework.data.ruler import text


@dataclass(frozen=True)
class Draft:
    """A prompt of some size.

    Attributes:
        fixed: text up to the question.
        question: the rest.
        references: what the answer must contain.
    """

    fixed: str
    question: str
    references: tuple[str, ...]


Make = Callable[[str, int], Draft]
"""(seed, size) to a draft; a size of 0 must be possible."""


@dataclass(frozen=True)
class RulerTask:
    """A task.

    Attributes:
        make: makes a draft.
        max_new_tokens: tokens generated at most.
    """

    make: Make
    max_new_tokens: int


def needles(
    seed: str, size: int, *, n_keys: int = 1, n_values: int = 1, n_asked: int = 1,
    only_needles: bool = False,
) -> Draft:  # fmt: skip
    """Facts "the number of KEY is VALUE" between other sentences, or between more such facts.

    Args:
        seed: of everything.
        size: sentences around the facts.
        n_keys: keys that have facts.
        n_values: facts of each key.
        n_asked: keys that are asked for.
        only_needles: the sentences around are facts of other keys.
    """
    rng, around = random.Random(f"{seed}/facts"), random.Random(f"{seed}/around")
    names = text.keys(rng, n_keys)
    values = text.numbers(rng, n_keys * n_values)
    facts = [
        (name, values[number * n_values + place])
        for number, name in enumerate(names)
        for place in range(n_values)
    ]
    rng.shuffle(facts)
    if only_needles:
        taken, other = set(values), text.keys(around, size + n_keys)
        free = [name for name in other if name not in names][:size]
        drawn = (str(around.randrange(10**6, 10**7)) for _ in iter(int, 1))
        haystack = [_fact(name, next(one for one in drawn if one not in taken)) for name in free]
    else:
        haystack = text.sentences(around, size)
    lines = text.scatter(rng, haystack, [_fact(*one) for one in facts])
    asked = names[:n_asked]
    wanted = tuple(value for name in asked for who, value in facts if who == name)
    many = len(wanted) > 1
    what = "are all the magic numbers" if many else "is the magic number"
    listed = ", ".join(asked[:-1]) + " and " + asked[-1] if len(asked) > 1 else asked[0]
    are = "magic numbers" if many else "magic number"
    return Draft(
        "Some magic numbers are hidden in the text below. Remember them: you will be asked about "
        f"them afterwards.\n\n{_joined(lines)}\n\n",
        f"What {what} of {listed} in the text above? The {are} of {listed} "
        f"{'are' if many else 'is'}",
        wanted,
    )


def _fact(name: str, value: str) -> str:
    return f"A magic number of {name} is {value}."


def _joined(lines: list[str]) -> str:
    """Paragraphs of eight sentences."""
    return "\n".join(" ".join(lines[place : place + 8]) for place in range(0, len(lines), 8))


def variable_tracking(seed: str, size: int, *, chains: int = 1, hops: int = 4) -> Draft:
    """A value handed from variable to variable; asked are all that hold the first chain's value.

    Args:
        seed: of everything.
        size: sentences around.
        chains: independent chains.
        hops: assignments after the first.
    """
    rng, around = random.Random(f"{seed}/chains"), random.Random(f"{seed}/around")
    names = text.variables(rng, chains * (hops + 1))
    values = text.numbers(rng, chains, digits=5)
    waiting = []
    for chain, value in enumerate(values):
        own = names[chain * (hops + 1) : (chain + 1) * (hops + 1)]
        steps = [f"VAR {own[0]} = {value}."]
        steps += [f"VAR {to} = VAR {of}." for of, to in zip(own, own[1:], strict=False)]
        waiting.append(steps)
    lines = []
    while waiting:  # chains interleave, each in its order
        chosen = rng.choice(waiting)
        lines.append(chosen.pop(0))
        waiting = [one for one in waiting if one]
    mixed = text.scatter(rng, text.sentences(around, size), lines)
    return Draft(
        "Variables are assigned in the text below. Keep track of them.\n\n"
        + _joined(mixed)
        + "\n\n",
        f"Which variables hold the value {values[0]}? There are {hops + 1}, they are:",
        tuple(names[: hops + 1]),
    )


def common_words(
    seed: str, size: int, *, n_common: int = 10, often: int = 30, seldom: int = 3
) -> Draft:
    """A numbered list in which some words occur often and the others seldom.

    Args:
        seed: of everything.
        size: number of words that occur seldom.
        n_common: number of words that are asked for.
        often: occurrences of each of them.
        seldom: occurrences of each other word.
    """
    rng, order = random.Random(f"{seed}/words"), random.Random(f"{seed}/order")
    words = text.made_words(rng, n_common + size)
    common, others = words[:n_common], words[n_common:]
    shown = common * often + others * seldom
    order.shuffle(shown)
    listed = " ".join(f"{number}. {word}" for number, word in enumerate(shown, 1))
    return Draft(
        f"In the numbered list below some words occur more often than others.\n\n{listed}\n\n",
        f"Which {n_common} words occur most often in the list above? They are:",
        tuple(common),
    )


def frequent_words(seed: str, size: int, *, alpha: float = 2.0, asked: int = 3) -> Draft:
    """A coded text whose word frequencies follow a power law; asked are the most frequent words.

    Args:
        seed: of everything.
        size: words; the k-th most frequent occurs in proportion to k ** -alpha.
        alpha: exponent.
        asked: number of words asked for.
    """
    rng, order = random.Random(f"{seed}/words"), random.Random(f"{seed}/order")
    words = text.made_words(rng, 60, syllables=2)
    weight = sum(rank**-alpha for rank in range(1, len(words) + 1))
    counts = [int(size * rank**-alpha / weight) for rank in range(1, len(words) + 1)]
    # The asked words are ahead of each other and of the rest, however short the text is.
    for place in range(asked - 1, -1, -1):
        counts[place] = max(counts[place], counts[place + 1] + 1)
    shown = [word for word, n in zip(words, counts, strict=True) for _ in range(n)]
    order.shuffle(shown)
    return Draft(
        "Below is a coded text. Pay attention to how often each coded word occurs.\n\n"
        f"{' '.join(shown)}\n\n",
        f"Which {asked} coded words occur most often in the text above? They are:",
        tuple(words[:asked]),
    )


def noisy_qa(seed: str, size: int) -> Draft:
    """One document answers the question, the others are of the same kind.

    Args:
        seed: of everything.
        size: number of other documents.
    """
    rng, around = random.Random(f"{seed}/gold"), random.Random(f"{seed}/around")
    towns = [one.capitalize() for one in text.made_words(random.Random(f"{seed}/towns"), 40)]
    (who,) = text.made_words(rng, 1)
    town = rng.choice(towns)
    people = [one for one in text.made_words(around, size + 1) if one != who][:size]
    documents = [_person(around, one, around.choice(towns)) for one in people]
    place = round(rng.random() * size)
    documents.insert(place, _person(rng, who, town))
    shown = "\n\n".join(f"Document {n}: {one}" for n, one in enumerate(documents, 1))
    return Draft(
        "Answer the question from the documents below. Give only the answer.\n\n" + shown + "\n\n",
        f"Question: In which town was {who.capitalize()} born?\nAnswer:",
        (town,),
    )


def _person(rng: random.Random, name: str, town: str) -> str:
    before, after = text.sentences(rng, 2)
    return f"{before} {name.capitalize()} was born in the town of {town}. {after}"


TASKS: dict[str, RulerTask] = {
    "niah_single": RulerTask(needles, 32),
    "niah_multikey": RulerTask(partial(needles, n_keys=4), 32),
    "niah_multikey_only": RulerTask(partial(needles, only_needles=True), 32),
    "niah_multivalue": RulerTask(partial(needles, n_values=4), 128),
    "niah_multiquery": RulerTask(partial(needles, n_keys=4, n_asked=4), 128),
    "variable_tracking": RulerTask(variable_tracking, 48),
    "common_words": RulerTask(common_words, 120),
    "frequent_words": RulerTask(frequent_words, 50),
    "qa": RulerTask(noisy_qa, 32),
}
