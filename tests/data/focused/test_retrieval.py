"""Chunkers, retrievers, what is kept, the cache."""

import numpy as np
import pytest
from focused_examples import example
from tiny_decoders import byte_tokenizer

from lcframework.data.retrieval.chunkers import (
    Paragraphs,
    SentenceWindows,
    TokenWindows,
    WordWindows,
)
from lcframework.data.retrieval.retrievers import BM25, Dense, Everything, Oracle, Random
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import CheckpointError, DataError
from lcframework.models.llm.token_spans import TokenSpans


class Letters:
    """A tokenizer whose tokens are pairs of characters, white space too."""

    identity = "pairs"

    def __call__(self, text):
        return [(n, min(n + 2, len(text))) for n in range(0, len(text), 2)]


TEXT = "One two. Three four!\n\nFive six? Seven.\n \nEight nine ten"


@pytest.mark.parametrize(
    "chunker",
    [
        Paragraphs(), Paragraphs(min_words=5), Paragraphs(max_words=2), SentenceWindows(2),
        SentenceWindows(3, overlap=2),
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
    cut = Paragraphs(min_words=2, max_words=2)
    assert [TEXT[a:b] for a, b in cut(TEXT)][:3] == ["One two.", "Three four!", "Five six?"]
    with pytest.raises(ValueError, match="max_words=2 is less than min_words=3"):
        Paragraphs(min_words=3, max_words=2)
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
