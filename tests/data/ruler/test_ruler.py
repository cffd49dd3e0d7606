"""Synthetic items: their length, their seeds, and that the answer can be read off the text."""

import re
from collections import Counter

import pytest

from lcframework.data.ruler import TASKS, make_items
from lcframework.data.ruler.generate import RulerDataModule
from lcframework.data.ruler.tasks import common_words, frequent_words, needles, variable_tracking
from lcframework.data.ruler.text import made_words, scatter, sentences
from lcframework.errors import ConfigError
from lcframework.scoring.suites import score_answer


class Words:
    """A tokenizer of words and marks."""

    def __call__(self, text):
        return type("Encoded", (), {"input_ids": re.findall(r"\w+|[^\w\s]", text)})


LENGTH = 2200


@pytest.fixture(scope="module")
def items():
    return make_items(Words(), LENGTH, n=2, seed=3)


def test_items_fill_the_length_and_no_more(items):
    assert Counter(one.task.split()[0] for one in items) == dict.fromkeys(TASKS, 2)
    for one in items:
        used = len(Words()(one.prompt).input_ids) + one.max_new_tokens + 64
        # one more unit (a sentence, a fact, a word three times, a document) would be too much
        assert LENGTH - 60 <= used <= LENGTH, one.task


def test_the_same_seed_makes_the_same_items(items):
    assert make_items(Words(), LENGTH, n=2, seed=3) == items
    other = make_items(Words(), LENGTH, n=2, seed=4)
    assert all(a.references != b.references for a, b in zip(items, other, strict=True))
    assert len({one.references for one in items}) == len(items)


def test_every_reference_is_in_the_text_and_the_question_does_not_tell_it(items):
    for one in items:
        assert all(answer in one.fixed for answer in one.references), one.task
        if one.task.split()[0] != "variable_tracking":
            assert not any(answer in one.question for answer in one.references)
        assert score_answer("ruler", one.task, " ".join(one.references), one.references) == 1.0
        assert score_answer("ruler", one.task, "no idea", one.references) == 0.0


def facts(draft):
    return re.findall(r"A magic number of (\S+) is (\d{7})\.", draft.fixed)


def test_needles_by_reading_the_text():
    draft = needles("s", 40, n_keys=4, n_values=2, n_asked=2)
    found = facts(draft)
    assert len(found) == 8 and len({value for _, value in found}) == 8
    asked = [name for name in {name for name, _ in found} if name in draft.question]
    assert len(asked) == 2
    assert set(draft.references) == {value for name, value in found if name in asked}
    alone = needles("s", 30, only_needles=True)
    assert len(facts(alone)) == 31
    by_key = dict(facts(alone))
    assert len(by_key) == 31  # no other key is the asked one
    (name,) = [one for one in by_key if one in alone.question]
    assert alone.references == (by_key[name],)


def test_a_larger_size_keeps_question_and_answers():
    for name, task in TASKS.items():
        small, large = task.make("s", 2), task.make("s", 90)
        assert (small.question, small.references) == (large.question, large.references), name
        assert len(large.fixed) > len(small.fixed)


def test_variables_by_running_the_program():
    draft = variable_tracking("s", 25, chains=3, hops=3)
    held = {}
    for name, value in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", draft.fixed):
        held[name] = held.get(value, value)  # in order: a variable is assigned before it is used
    value = re.search(r"the value (\d+)", draft.question)[1]
    assert {name for name, has in held.items() if has == value} == set(draft.references)
    assert len(held) == 12 and len(draft.references) == 4


def test_words_by_counting():
    draft = common_words("s", 50)
    counted = Counter(re.findall(r"\d+\. (\w+)", draft.fixed))
    assert [n for _, n in counted.most_common(11)] == [30] * 10 + [3]
    assert {word for word, _ in counted.most_common(10)} == set(draft.references)
    for size in (0, 7, 500):
        draft = frequent_words("s", size)
        counted = Counter(draft.fixed.split("\n\n")[1].split()).most_common(4)
        assert tuple(word for word, _ in counted[:3]) == draft.references
        assert counted[0][1] > counted[1][1] > counted[2][1]
        assert len(counted) == 3 or counted[2][1] > counted[3][1]


def test_text_pieces():
    import random

    rng = random.Random(0)
    words = made_words(rng, 500)
    assert len(set(words)) == 500 and {len(one) for one in words} == {6}
    assert len(set(sentences(rng, 1000))) > 950
    mixed = scatter(rng, [str(one) for one in range(20)], ["a", "b", "c"])
    assert [one for one in mixed if one.isdigit()] == [str(one) for one in range(20)]
    assert [one for one in mixed if not one.isdigit()] == ["a", "b", "c"]


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ConfigError, match="common_words: its smallest prompt has"):
        make_items(Words(), 400, ["common_words"])
    with pytest.raises(ConfigError, match="no task"):
        RulerDataModule(tasks=["niah"])
    with pytest.raises(ConfigError, match="tokenizer"):
        RulerDataModule(length=500).setup()
    with pytest.raises(ValueError, match="at least 1"):
        RulerDataModule(n=0)


def test_the_data_module_makes_several_lengths():
    data = RulerDataModule([600, 900], ["qa", "niah_single"], n=2, tokenizer=Words())
    data.setup()
    tasks = {"qa 600", "niah_single 600", "qa 900", "niah_single 900"}
    assert Counter(one.task for one in data.items) == dict.fromkeys(tasks, 2)
    assert data.fingerprint("test")["n"] == 8
    assert [one.key for one in data.test_dataloader()] == [one.key for one in data.items]
