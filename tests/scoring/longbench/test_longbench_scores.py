"""LongBench's scores against cases worked by hand from the official metrics.py and eval.py."""

import builtins
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.errors import ConfigError
from lcframework.scoring.longbench import METRICS, chinese, score
from lcframework.scoring.longbench.matching import (
    classification,
    code_line,
    code_similarity,
    count,
    retrieval,
    retrieval_zh,
)
from lcframework.scoring.longbench.rouge_l import rouge_l, rouge_zh
from lcframework.scoring.longbench.tasks import FIRST_LINE_ONLY, post_process
from lcframework.scoring.longbench.token_f1 import normalize, normalize_zh, qa_f1, qa_f1_zh

SENTENCES = st.lists(
    st.sampled_from(["a", "b", "c", "d", "a.", ".", "b. ", "\n", " ", "3.5", "c\nd"]), max_size=25
).map(" ".join)


def test_normalisation_is_in_the_official_order():
    # marks go before articles: "a-an" becomes the word "aan", which is no article
    assert normalize("The  a-an, an apple's; THE end.") == "aan apples end"
    assert (
        normalize_zh("《红楼 梦》，ABC。") == "《红楼梦abc"
    )  # the opening mark is not in the list


@pytest.mark.parametrize(
    ("prediction", "reference", "value"),
    [
        ("The cat sat", "a cat", 2 * (1 / 2) * 1 / (1 / 2 + 1)),  # {cat, sat} against {cat}
        ("red red blue", "red blue blue", 2 / 3),  # bags: one red and one blue in common
        ("", "cat", 0.0),
        ("the", "a", 0.0),  # both empty once articles are gone
        ("dog", "cat", 0.0),
    ],
)
def test_qa_f1(prediction, reference, value):
    assert qa_f1(prediction, reference) == pytest.approx(value)


def test_qa_f1_zh_counts_words_and_drops_marks():
    assert chinese.words("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    # {我 来到 北京 清华大学} against {北京 大学}: one word in common of 4 and of 2
    found = qa_f1_zh("我来到北京清华大学。", "北京，大学")
    assert found == pytest.approx(2 * (1 / 4) * (1 / 2) / (1 / 4 + 1 / 2))
    assert qa_f1_zh("。", "，") == 0.0


def test_chinese_without_jieba_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "jieba":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "jieba", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    chinese._jieba.cache_clear()
    for task in ("multifieldqa_zh", "dureader", "vcsum"):
        with pytest.raises(ConfigError, match=r"lcframework\[zh\]"):
            score(task, "北京", ["北京"])
    assert score("passage_retrieval_zh", "段落3", ["段落3"]) == 1.0  # needs no words
    chinese._jieba.cache_clear()


def f_score(precision, recall):
    return 2 * precision * recall / (precision + recall + 1e-8)


@pytest.mark.parametrize(
    ("prediction", "reference", "value"),
    [
        ("", "a b", 0.0),
        ("...", "a b", 0.0),  # no sentence: the package raises, LongBench takes 0
        ("a b", "", 0.0),
        (" ", "a b", 0.0),  # one sentence of one empty word
        (" ", "\n", f_score(1, 1)),  # which equals another empty word
        ("a b c", "a c", f_score(2 / 3, 1)),
        ("a a a", "a", f_score(1, 1)),  # words are sets
        ("b a", "a b", f_score(1 / 2, 1 / 2)),  # order counts
        ("c d. a b", "a b. c d", f_score(1, 1)),  # but not between sentences
        ("pi is 3.5", "3. 5 pi", f_score(3 / 4, 1)),  # "pi is 3" and "5": only "is" is not common
    ],
)
def test_rouge_l_by_hand(prediction, reference, value):
    assert rouge_l(prediction, reference) == pytest.approx(value, abs=1e-12)


def rouge_package(prediction, reference):
    """What LongBench's rouge_score does."""
    from rouge import Rouge

    try:
        return Rouge().get_scores([prediction], [reference], avg=True)["rouge-l"]["f"]
    except (ValueError, RecursionError):
        return 0.0


@settings(max_examples=150, deadline=None)
@given(SENTENCES, SENTENCES)
def test_rouge_l_equals_the_package(prediction, reference):
    assert rouge_l(prediction, reference) == rouge_package(prediction, reference)


def test_rouge_l_of_sentences_that_overrun_the_packages_stack():
    text = " ".join(f"w{one}" for one in range(1200))
    assert rouge_package(text, "w0") == 0.0
    assert rouge_l(text, "w0") == pytest.approx(f_score(1 / 1200, 1))


def test_rouge_zh_is_rouge_of_words():
    assert rouge_zh("我来到北京", "来到北京") == pytest.approx(f_score(2 / 3, 1))
    assert rouge_zh("", "北京") == 0.0


CLASSES = ["Date", "Date of birth", "birth", "of", "Person"]


@pytest.mark.parametrize(
    ("prediction", "reference", "value"),
    [
        ("Person", "Person", 1.0),
        ("Person or Date", "Person", 1 / 2),
        ("Date", "Date of birth", 0.0),
        # named: Date, Date of birth, birth, of. "Date" is removed, so "Date of birth" is passed
        # over; "birth" is removed, so "of" is passed over and stays: 1 of 2 instead of 1 of 1
        ("Date of birth", "Date of birth", 1 / 2),
        ("nothing of the kind", "Person", 0.0),
        ("Pers", "Person", 0.0),  # the official branch for near misses is never entered
    ],
)
def test_classification_with_its_removal_quirk(prediction, reference, value):
    assert classification(prediction, reference, CLASSES) == value


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=8),
    st.text("ab", max_size=6),
)
def test_classification_equals_removal_during_a_for_loop(classes, prediction):
    reference = classes[0]
    named = [one for one in classes if one in prediction]
    for one in named:
        if one in reference and one != reference:
            named.remove(one)
    want = 1 / len(named) if reference in named else 0.0
    assert classification(prediction, reference, classes) == want


def test_counts_and_paragraphs():
    assert count("7", "7") == 1.0
    assert count("7 of 12, so 7", "7") == pytest.approx(2 / 3)
    assert count("07", "7") == 0.0 and count("seven", "7") == 0.0
    assert retrieval("Paragraph 12, not 3", "Paragraph 12") == 1 / 2
    assert retrieval("", "Paragraph 12") == 0.0
    assert retrieval_zh("段落7", "段落7") == 1.0
    with pytest.raises(ValueError, match="names no paragraph"):
        retrieval("1", "12")


@pytest.mark.parametrize(
    ("prediction", "line"),
    [
        ("\n\nreturn x\nreturn y", "return x"),
        ("```python\n# add\nx = 1  // 2\nreturn x", "return x"),
        ("    x = 1", "    x = 1"),  # leading spaces stay
        ("# only\n`this`", ""),
        (" \nreturn x", " "),  # only line ends are stripped in front
        ("`a`\n\nreturn x", ""),  # an empty line is a line without marks
    ],
)
def test_the_line_of_code(prediction, line):
    assert code_line(prediction) == line


def test_code_similarity_by_hand():
    assert code_similarity("x = 1\nmore", "x = 1") == 1.0
    assert code_similarity("", "x") == 0.0 and code_similarity("#", "") == 1.0
    # difflib: "ab" and "bc" share the block "b": 2 * 1 / 4
    assert code_similarity("ab", "bc") == 0.5
    # 2 * 1 / 3 = 0.667, in whole hundredths
    assert code_similarity("ab", "b") == 0.67


def test_code_similarity_equals_fuzzywuzzy():
    fuzz = pytest.importorskip("fuzzywuzzy.fuzz", reason="fuzzywuzzy is GPL: no dependency of ours")
    if "Levenshtein" in sys.modules:
        pytest.skip("python-Levenshtein is installed, with which fuzzywuzzy computes another ratio")
    pairs = [
        ("return self.x + 1", "return self.y - 1"), ("for i in range(3):", "for j in range(30):"),
        ("a" * 300, "a" * 250 + "b" * 40), ("abcabc", "cbacba"), ("", "x"), ("x", ""), ("", ""),
    ]  # fmt: skip
    for one, other in pairs:
        assert code_similarity(one, other) == fuzz.ratio(one, other) / 100


def test_only_few_shot_answers_are_cut_to_their_first_line():
    for task in METRICS:
        want = "one" if task in FIRST_LINE_ONLY else "\n\none\ntwo"
        assert post_process(task, "\n\none\ntwo") == want
    assert {"trec", "triviaqa", "samsum", "lsht"} == FIRST_LINE_ONLY


def test_an_item_has_its_best_reference():
    assert score("hotpotqa", "Paris", ["London", "Paris", "city"]) == 1.0
    assert score("hotpotqa", "Paris", []) == 0.0
    assert score("trec", "\nPerson\nDate", ["Person"], CLASSES) == 1.0
    with pytest.raises(ValueError, match="list of classes"):
        score("trec", "Person", ["Person"])
    with pytest.raises(ValueError, match="no LongBench task"):
        score("hotpot", "", [])
