"""Readers, NQd's splits and distractors, retrieval, prompts, pools."""

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from focused_examples import TEXTS, custom_rows, example, nq_files
from tiny_decoders import byte_tokenizer

from lcframework.data.focused.datamodule import CustomDataModule, QualityDataModule
from lcframework.data.focused.item import PromptTemplate
from lcframework.data.focused.nqd import (
    NO_ANSWER,
    Distractors,
    holds_answer,
    read_nq,
    split_by_title,
)
from lcframework.data.focused.nqd_data import NQdDataModule
from lcframework.data.focused.pools import PoolSampler
from lcframework.data.focused.qasper import read_qasper
from lcframework.data.focused.readers import read_custom, read_quality
from lcframework.data.retrieval.chunkers import (
    Paragraphs,
    SentenceWindows,
    TokenWindows,
    WordWindows,
)
from lcframework.data.retrieval.retrievers import BM25, BM25Index, Dense, Everything, Oracle, Random
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import CheckpointError, ConfigError, DataError
from lcframework.models.llm.token_spans import TokenSpans

REAL = Path(os.environ.get("LCF_REAL_DATA", "../shared/data")) / "qa"


def nqd(folder, cache=True, **options):
    rule = Retrieval(BM25(), top_k=1, cache_dir=str(folder / "cache"))
    given = {
        "split_sizes": (6, 4, 4), "train_documents": (2, 3), "test_documents": (3, 2),
        "retrieval": rule, "pool_size": 2,
    }  # fmt: skip
    return NQdDataModule(*nq_files(folder), **given | options)


def words(text):
    return " ".join(text.lower().split())


def leaks(module):
    """Questions, titles and passages that two splits share."""
    seen = {}
    for split in ("train", "valid", "test"):
        questions, pool = module.part(split)
        seen[split] = {words(q.question) for q in questions}
        seen[split] |= {f"title {p.title}" for p in [*pool, *(q.gold for q in questions)]}
        seen[split] |= {words(p.text) for p in [*pool, *(q.gold for q in questions)]}
        for item in module.examples(split):
            seen[split] |= {words(text.split("](Title: ")[1]) for text in item.chunk_texts}
    return [one & two for name, one in seen.items() for other, two in seen.items() if name < other]


def test_nqd_splits_share_nothing(tmp_path):
    module = nqd(tmp_path)
    assert [len(module.part(name)[0]) for name in ("train", "valid", "test")] == [6, 4, 4]
    assert not any(leaks(module))


@pytest.mark.realdata
def test_nqd_splits_of_real_questions_share_nothing(tmp_path):
    files = REAL / "nqd_oracle.jsonl.xz", REAL / "nqd_passages.jsonl.xz"
    module = NQdDataModule(*files, test_documents=(10,))
    assert [len(module.part(name)[0]) for name in ("train", "valid", "test")] == [1200, 100, 355]
    assert not any(leaks(module))


def test_nqd_test_has_every_place_with_the_same_distractors(tmp_path):
    module = nqd(tmp_path)
    rows = module.examples("test")
    tasks = ["gold only", "3 docs, gold at 0", "3 docs, gold at 1", "3 docs, gold at 2",
             "2 docs, gold at 0", "2 docs, gold at 1"]  # fmt: skip
    assert [one.task for one in rows[:6]] == tasks and len(rows) == 24
    for one in rows:
        n = 1 if one.task == "gold only" else int(one.task[0])
        assert len(one.chunks) == n
        gold = one.evidence[0]
        assert one.task == "gold only" or one.task.endswith(f"gold at {gold}")
        for place, text in enumerate(one.chunk_texts):
            assert text.startswith(f"Document [{place + 1}](Title: ")
            assert holds_answer(text.split(")", 1)[1], one.answers) == (place == gold)
    bodies = [{t.split("](")[1] for t in one.chunk_texts} for one in rows[1:4]]
    assert bodies[0] == bodies[1] == bodies[2]


def test_pages_that_share_a_question_or_a_passage_are_on_one_side(tmp_path):
    """Two titles of one passage, two questions of one wording: what a split by title would leak."""
    questions, passages = nq_files(tmp_path, 30)
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    pool = [json.loads(line) for line in passages.read_text().splitlines()]
    for n in range(0, 20, 4):
        rows[n + 1]["question"] = f" {rows[n]['question'].upper()}"
        pool[n + 2] |= {"text": pool[n]["text"]}
        rows[n + 2]["ctxs"][0]["text"] = rows[n]["ctxs"][0]["text"]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    passages.write_text("".join(json.dumps(row) + "\n" for row in pool))
    found, texts = read_nq(questions, passages)
    parts = split_by_title(found, texts, (12, 6, 12), seed=1)
    sides = {one.name: name for name, (some, _) in parts.items() for one in some}
    assert len(sides) == 30
    for n in range(0, 20, 4):
        assert sides[f"n{n}"] == sides[f"n{n + 1}"] == sides[f"n{n + 2}"]
    seen = [{words(p.text) for p in some} for _, some in parts.values()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_passages_as_released(tmp_path):
    questions, passages = nq_files(tmp_path, 4)
    assert read_nq(questions, questions) == read_nq(questions, passages)


def test_nqd_test_with_other_kinds_and_without_gold(tmp_path):
    kinds = {"random": Distractors("random")}
    module = nqd(tmp_path, test_documents=(3,), test_positions=(1,), test_no_gold=True,
                 test_distractors=kinds, split_sizes=(4, 3, 7))  # fmt: skip
    rows = module.examples("test")
    tasks = ["gold only", "3 docs, gold at 1", "3 docs, no gold", "3 docs, gold at 1, random",
             "3 docs, no gold, random"]  # fmt: skip
    assert [one.task for one in rows[:5]] == tasks and len(rows) == 35
    assert len({one.key for one in rows}) == 35
    for one in rows:
        without = "no gold" in one.task
        assert (one.answers == (NO_ANSWER,)) == without and bool(one.evidence) != without
        assert len(one.chunks) == (1 if one.task == "gold only" else 3)
    main, other = ({t.split("](")[1] for t in one.chunk_texts} for one in (rows[1], rows[3]))
    assert len(main & other) < 3
    with pytest.raises(ValueError, match="no name of letters"):
        nqd(tmp_path, test_distractors={"very hard": Distractors()})


@pytest.mark.parametrize("kind", ["bm25", "random", "dense"])
def test_distractors_hold_no_answer_and_are_hard_first(tmp_path, kind):
    def encoder(texts):
        return np.stack([[t.count(letter) for letter in "abrst "] for t in texts]).astype("f4")

    questions, pool = nqd(tmp_path).part("train")
    drawn = Distractors(kind, encoder if kind == "dense" else None).draw(questions, pool, 3)
    for one, chosen in zip(questions, drawn, strict=True):
        assert len({p.title for p in chosen}) == 3 and one.gold.title not in [
            p.title for p in chosen
        ]
        assert not any(holds_answer(p.text, one.answers) for p in chosen)
    if kind == "bm25":
        scores = BM25Index([f"{p.title}\n{p.text}" for p in pool]).scores(questions[0].question)
        ranks = [scores[pool.index(p)] for p in drawn[0]]
        assert ranks == sorted(ranks, reverse=True)
    with pytest.raises(DataError, match="has .* without its answers, 40 are wanted"):
        Distractors("random").draw(questions, pool, 40)


def test_no_gold_questions_have_another_answer(tmp_path):
    module = nqd(tmp_path, no_gold=0.6)
    rows = module.examples("train")
    without = [one for one in rows if one.answers == (NO_ANSWER,)]
    assert 0 < len(without) < len(rows)
    assert all(not one.evidence for one in without)
    assert all(one.answers != (NO_ANSWER,) for one in module.examples("valid"))


def test_answers_are_whole_words():
    assert holds_answer("In 1901, Röntgen won.", ["röntgen"])
    assert not holds_answer("It has 1901 rooms", ["190"])


def test_custom_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"question": "q", "answers": ["a"], "document": "One two.\n\nThree four.",
         "evidence": ["Three"]},
        {"question": "q", "answers": ["a", "b"], "documents": ["x", "y"]},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two = read_custom(path, Paragraphs())
    assert one.chunk_texts == ["One two.", "Three four."] and one.evidence == (1,)
    assert two.chunk_texts == ["x", "y"] and two.answers == ("a", "b")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": " ", "answers": ["a"], "document": "d"}, "question is empty"),
        ({"question": "q", "answers": [], "document": "d"}, "answers must be a list"),
        ({"question": "q", "answers": ["a", " "], "document": "d"}, "one of the answers is empty"),
        ({"question": "q", "answers": ["a"], "document": "  "}, "document is empty"),
        ({"question": "q", "answers": ["a"]}, "either document .* or documents"),
        ({"question": 3, "answers": ["a"], "document": "d"}, "question must be a text"),
    ],
)
def test_bad_custom_rows_are_named_by_their_line(tmp_path, row, message):
    path = tmp_path / "a.jsonl"
    good = {"question": "q", "answers": ["a"], "document": "d"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"a.jsonl, line 2.*{message}"):
        read_custom(path, Paragraphs())
    path.write_text("{\n")
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_custom(path, Paragraphs())


def quality_row(**changes):
    question = {"question": "Who?", "options": ["a", "b", "c", "d"], "gold_label": 2} | changes
    return {"article_id": "7", "article": "Some words in a story. " * 20, "questions": [question]}


def test_quality(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [quality_row(difficult=1), quality_row(difficult=0), quality_row()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_quality(path, WordWindows(10))
    assert [one.task for one in found] == ["quality hard", "quality easy", "quality"]
    assert {one.answers for one in found} == {("B",)}
    assert len({one.key for one in found}) == 3  # an article's second line counts on
    module = QualityDataModule(test=path, retrieval=Retrieval(BM25(), cache_dir=str(tmp_path)))
    module.setup("test")
    assert "A. a\nB. b\nC. c\nD. d\nAnswer:" in module.items[0].question
    for label in (0, 5, None):
        path.write_text(json.dumps(quality_row(gold_label=label)) + "\n")
        with pytest.raises(DataError, match="line 1, question 1: gold_label .* 1 to 4"):
            read_quality(path, WordWindows())


def test_qasper_has_one_item_per_reference_in_training_only(tmp_path):
    def answer(**what):
        empty = {"unanswerable": False, "extractive_spans": [], "free_form_answer": "",
                 "yes_no": None, "evidence": []}  # fmt: skip
        return {"answer": empty | what}

    qas = [
        {"question_id": "1", "question": "What?", "answers": [
            answer(extractive_spans=["one", "two"], evidence=["Second paragraph."]),
            answer(free_form_answer="free", evidence=["FLOAT SELECTED: Table 1"]),
            answer(yes_no=False), answer(yes_no=True), answer(unanswerable=True)]},
    ]  # fmt: skip
    text = [{"section_name": "s", "paragraphs": ["First paragraph.", "", "Second paragraph."]}]
    paper = {"abstract": "Abstract.", "full_text": text, "qas": qas}
    path = tmp_path / "qasper.json"
    path.write_text(json.dumps({"p": paper}))
    training = read_qasper(path, training=True)
    wanted = ["one, two", "free", "No", "Yes", "Unanswerable"]
    assert [one.answers for one in training] == [(text,) for text in wanted]
    assert len({one.question_id for one in training}) == 1
    assert training[0].chunk_texts == ["Abstract.", "First paragraph.", "Second paragraph."]
    assert training[0].evidence == (2,) and training[1].evidence == ()
    (one,) = read_qasper(path, training=False)
    assert one.answers == tuple(wanted) and one.evidence == (2,)
    qas[0]["answers"] = [answer()]
    path.write_text(json.dumps({"p": paper}))
    with pytest.raises(DataError, match="question 1: the answer is neither"):
        read_qasper(path, training=False)


class Letters:
    """A tokenizer whose tokens are pairs of characters, white space too."""

    identity = "pairs"

    def __call__(self, text):
        return [(n, min(n + 2, len(text))) for n in range(0, len(text), 2)]


TEXT = "One two. Three four!\n\nFive six? Seven.\n \nEight nine ten"


@pytest.mark.parametrize(
    "chunker",
    [
        Paragraphs(), Paragraphs(min_words=5), SentenceWindows(2), SentenceWindows(3, overlap=2),
        WordWindows(3), WordWindows(4, overlap=1), WordWindows(100),
        TokenWindows(Letters(), 4), TokenWindows(Letters(), 5, overlap=3),
    ],
)  # fmt: skip
def test_chunkers_lose_no_character(chunker):
    spans = chunker(TEXT)
    covered = {n for low, high in spans for n in range(low, high)}
    assert all(TEXT[n].isspace() for n in range(len(TEXT)) if n not in covered)
    assert list(spans) == sorted(spans) and all(TEXT[low:high].strip() for low, high in spans)
    assert chunker("  \n ") == ()


def test_chunk_sizes():
    assert [TEXT[a:b] for a, b in SentenceWindows(2, overlap=1)(TEXT)][:2] == [
        "One two. Three four!", "Three four!\n\nFive six?",
    ]  # fmt: skip
    assert len(Paragraphs()(TEXT)) == 3 and len(Paragraphs(min_words=5)(TEXT)) == 2
    assert [TEXT[a:b] for a, b in WordWindows(4, 1)(TEXT)][1] == "four!\n\nFive six? Seven."
    with pytest.raises(ValueError, match="overlap below"):
        WordWindows(3, 3)
    with pytest.raises(ValueError, match="overlap below"):
        TokenWindows(Letters(), 3, 3)


def test_token_windows_of_a_models_tokenizer(tmp_path):
    byte_tokenizer().save_pretrained(tmp_path)
    chunker = TokenWindows(TokenSpans(tmp_path), 8, overlap=2)
    assert [TEXT[a:b] for a, b in chunker(TEXT)][:2] == ["One two. T", ". Three fo"]
    assert chunker.identity.startswith("TokenWindows(") and chunker.identity.endswith("8, 2)")
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        TokenSpans(tmp_path / "..")


def test_retrievers():
    one = example()
    assert BM25().rank(one)[0] == 1 and sorted(BM25().rank(one)) == [0, 1, 2, 3]
    assert Oracle().rank(one) == [1] and Everything().rank(one) == [0, 1, 2, 3]
    assert Random(1).rank(one) == Random(1).rank(one) != Random(2).rank(one)

    def encoder(texts):
        return np.stack([[float("Kyoto" in t or "old?" in t), 0.5] for t in texts])

    encoder.identity = "test"
    assert Dense(encoder).rank(one) == [3, 0, 1, 2]
    with pytest.raises(DataError, match="mine, line 3 has no evidence, .*unknown=whole"):
        Oracle().rank(example(evidence=(), source="mine, line 3"))
    assert Oracle("whole").rank(example(evidence=())) == []
    with pytest.raises(ValueError, match="refuse or whole"):
        Oracle("guess")
    assert BM25().rank(example(question="the of and?")) == [0, 1, 2, 3]  # nothing but stop words


def test_retrieval_counts_misses_and_short_documents(tmp_path):
    rows = [example(0), example(1, question="Where are temples?"), example(2, evidence=())]
    options = {"cache_dir": str(tmp_path)}
    kept, counts = Retrieval(BM25(), 1, **options)(rows)
    assert [one.chunks for one in kept] == [(1,), (3,), (1,)] and all(one.contrast for one in kept)
    assert counts["missed"] == 1 and counts["with_evidence"] == 2 and counts["recall@1"] == 0.5
    kept, _ = Retrieval(BM25(), 1, "union", **options)(rows)
    assert kept[1].chunks == (1, 3)
    kept, counts = Retrieval(BM25(), 1, "drop", **options)(rows)
    assert [one.contrast for one in kept] == [True, False, True] and counts["dropped"] == 1
    kept, counts = Retrieval(BM25(), 4, **options)(rows)
    assert counts["short"] == counts["dropped"] == 3 and not kept[0].contrast
    kept, counts = Retrieval(Oracle("whole"), 1, **options)(rows)
    assert [one.chunks for one in kept] == [(1,), (1,), (0, 1, 2, 3)]
    assert [one.contrast for one in kept] == [True, True, False] and counts["unranked"] == 1
    with pytest.raises(ValueError, match="on_miss='guess'"):
        Retrieval(BM25(), 1, "guess")


def test_a_documents_chunks_are_embedded_once():
    seen = []

    def encoder(texts):
        seen.append(len(texts))
        return np.stack([[float("Kyoto" in t or "old?" in t), 0.5] for t in texts])

    one = Dense(encoder)
    for question in ("Which city is old?", "Which is older?", "Is Kyoto old?"):
        one.rank(example(question=question))
    assert seen == [4, 1, 1, 1]
    one.rank(example(document="Kyoto!", chunks=((0, 6),), evidence=()))
    assert seen[4:] == [1, 1]


def test_a_dense_retriever_without_its_model_names_the_cure(tmp_path, monkeypatch):
    from lcframework.models.llm.sentence_encoder import SentenceEncoder

    monkeypatch.setenv("LCF_MODELS", str(tmp_path))
    with pytest.raises(CheckpointError, match="minilm has not been fetched.*lcf models get minilm"):
        SentenceEncoder()


def test_retrieval_is_cached_by_content(tmp_path):
    calls = []

    class Counting(Random):
        def rank(self, one):
            calls.append(one.key)
            return super().rank(one)

    rows = [example(0), example(1)]
    rule = Retrieval(Counting(), 2, cache_dir=str(tmp_path))
    assert rule(rows) == rule(rows) and len(calls) == 2
    Retrieval(Counting(seed=3), 2, cache_dir=str(tmp_path))(rows)
    rule([example(0, question="Another?"), rows[1]])
    assert len(calls) == 6
    for path in tmp_path.glob("*.json"):
        path.write_text("{")
    with pytest.raises(DataError, match="cached retrieval is damaged"):
        rule(rows)


def test_prompt_templates(tmp_path):
    before, after = PromptTemplate("quality").render("Who?", ["x", "y"])
    assert before.endswith("\n\n") and after == "\n\nQuestion: Who?\nA. x\nB. y\nAnswer:"
    path = tmp_path / "p.jinja"
    for text, message in [
        ("{{ question }}", "exactly once"),
        ("{{ document }}{{ document }} {{ question }}", "exactly once"),
        ("{{ document }} {{ query }}", "query"),
        ("{{ document", "not a Jinja template"),
        ("{{ document }}{{ question.__class__.__mro__ }}", "unsafe"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            PromptTemplate(str(path)).render("Who?")
    with pytest.raises(ConfigError, match="templates custom, nqd, qasper, quality"):
        PromptTemplate("nothing")


def test_pools_share_out_and_resume():
    ranks = [PoolSampler(20, 3, seed=1, rank=r, ranks=2) for r in range(2)]
    epochs = []
    for epoch in range(2):
        for one in ranks:
            one.set_epoch(epoch)
        pools = [pool for one in ranks for pool in one]
        assert len(pools) == 6 == 2 * len(ranks[0])
        flat = [n for pool in pools for n in pool]
        assert len(set(flat)) == 18
        epochs.append(flat)
    assert epochs[0] != epochs[1]
    ranks[0].set_epoch(1)
    whole = list(ranks[0])
    again = PoolSampler(20, 3, seed=1, rank=0, ranks=2)
    again.resume_at(1, 2)
    assert list(again) == whole[2:]


def test_a_fingerprint_tells_another_retrieval(tmp_path):
    path = custom_rows(tmp_path / "a.jsonl")
    marks = []
    for k in (1, 2):
        rule = Retrieval(BM25(), k, cache_dir=str(tmp_path / "c"))
        module = CustomDataModule(path, retrieval=rule)
        marks.append(module.fingerprint("train"))
    assert marks[0]["fingerprint"] != marks[1]["fingerprint"]
    assert marks[0]["n"] == 8 and marks[0]["retrieval"]["recall@1"] == 1.0
    assert TEXTS[0] in module.split("train")[0].document_text


@pytest.mark.realdata
def test_real_quality_is_read():
    with lzma.open(REAL / "quality_dev.jsonl.xz", "rt") as file:
        rows = [json.loads(line) for line in file]
    found = read_quality(REAL / "quality_dev.jsonl.xz", WordWindows())
    assert len(found) == sum(len(row["questions"]) for row in rows)
    gold = rows[0]["questions"][0]
    assert found[0].answers[0] == "ABCD"[gold["gold_label"] - 1]
    assert found[0].options[gold["gold_label"] - 1] == gold["options"][gold["gold_label"] - 1]
