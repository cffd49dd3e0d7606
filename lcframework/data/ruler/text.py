"""Text without meaning for long contexts, made here: sentences, words, names. Seeded, no files.

RULER's own filler repeats one sentence or takes essays from the web; these sentences are all
different combinations, so that nothing can be found by being the only varied text.
"""

import random
import string

SUBJECTS = (
    "The gardener", "A clerk", "The old ferry", "Our neighbour", "The night train", "A painter",
    "The committee", "A grey heron", "The baker's son", "The lighthouse", "A travelling choir",
    "The librarian", "The mountain road", "A young surveyor", "The harbour office", "The orchard",
)  # fmt: skip
VERBS = (
    "waited for", "spoke about", "passed by", "remembered", "looked across", "drew a map of",
    "returned to", "counted the steps to", "wrote a letter about", "walked around", "described",
    "kept away from", "found nothing new in", "took a picture of", "had never seen", "slept near",
)  # fmt: skip
OBJECTS = (
    "the market square", "a field of barley", "the wooden bridge", "the empty station",
    "a row of lamps", "the northern wall", "the river bend", "a closed bakery", "the school yard",
    "the second floor", "a stack of chairs", "the old mill", "the frozen pond", "a narrow street",
    "the cinema", "the village well",
)  # fmt: skip
ENDINGS = (
    "before sunrise", "for the third time", "without much hurry", "in the rain",
    "after the meeting", "on a quiet afternoon", "as the bells rang", "with a borrowed umbrella",
    "while it was still warm", "during the holidays", "and thought no more of it",
    "although it was late", "once the wind fell", "against all advice",
    "in the first week of March", "under a low sky",
)  # fmt: skip
ADJECTIVES = (
    "amber", "brisk", "calm", "dusty", "eager", "faint", "gentle", "hollow", "ivory", "jolly",
    "keen", "lunar", "mellow", "nimble", "oblique", "plain", "quick", "rusty", "silent", "tender",
    "upper", "velvet", "weary", "young", "zesty", "bitter", "crimson", "distant", "elder", "frosty",
)  # fmt: skip
NOUNS = (
    "anchor", "basket", "candle", "dolphin", "engine", "falcon", "garden", "hammer", "island",
    "jacket", "kettle", "ladder", "mirror", "needle", "oyster", "pepper", "quarry", "ribbon",
    "saddle", "teapot", "urchin", "violin", "walnut", "yonder", "zither", "barrel", "cobweb",
    "dagger", "ember", "fiddle",
)  # fmt: skip
ONSETS, NUCLEI = "bdfgklmnprstvz", "aeiou"


def sentences(rng: random.Random, n: int) -> list[str]:
    """n sentences, each drawn anew from 65,536."""
    return [
        f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)} {rng.choice(ENDINGS)}."
        for _ in range(n)
    ]


def keys(rng: random.Random, n: int) -> list[str]:
    """n different names such as "amber-anchor-31"."""
    found: dict[str, None] = {}
    while len(found) < n:
        found[f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}-{rng.randrange(10, 100)}"] = None
    return list(found)


def numbers(rng: random.Random, n: int, digits: int = 7) -> list[str]:
    """n different numbers of so many digits."""
    return [str(one) for one in rng.sample(range(10 ** (digits - 1), 10**digits), n)]


def made_words(rng: random.Random, n: int, syllables: int = 3) -> list[str]:
    """n different words that mean nothing, all equally long, so that none contains another."""
    found: dict[str, None] = {}
    while len(found) < n:
        parts = (rng.choice(ONSETS) + rng.choice(NUCLEI) for _ in range(syllables))
        found["".join(parts)] = None
    return list(found)


def variables(rng: random.Random, n: int) -> list[str]:
    """n different names of five capitals."""
    found: dict[str, None] = {}
    while len(found) < n:
        found["".join(rng.choices(string.ascii_uppercase, k=5))] = None
    return list(found)


def scatter(rng: random.Random, haystack: list[str], needles: list[str]) -> list[str]:
    """The haystack with the needles between its lines at random depths, the needles in order."""
    depths = sorted(rng.random() for _ in needles)
    mixed, start = [], 0
    for depth, needle in zip(depths, needles, strict=True):
        place = round(depth * len(haystack))
        mixed += [*haystack[start:place], needle]
        start = place
    return [*mixed, *haystack[start:]]
