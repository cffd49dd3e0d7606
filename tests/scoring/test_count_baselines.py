"""Counting baselines against hand-worked numbers and a slow dictionary implementation."""

import gzip
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from lcframework.errors import DataError
from lcframework.scoring.count_baselines import (
    NeighbourCounts,
    count_residues,
    reveal_seen,
    uniform_nll,
    unigram_nll,
)

CLS, EOS, L, A, G, X, MASK = 0, 2, 4, 5, 6, 24, 32
SAMPLE = Path(__file__).parents[2] / "data" / "sample"
ALPHABET = "LAGVSERTIDPKQNFYMHWCX"


def mask(sequences, seed, share=0.15):
    """A simple BERT masking: (tokens, labels) of the sequences behind one another."""
    rng = np.random.default_rng(seed)
    parts = [np.concatenate([[CLS], sequence, [EOS]]) for sequence in sequences]
    true = np.concatenate(parts).astype(np.int64)
    scored = (true >= 4) & (true < 24) & (rng.random(len(true)) < share)
    fate, random = rng.random(len(true)), rng.integers(4, 24, len(true))
    tokens = np.where(scored & (fate < 0.8), MASK, true)
    tokens = np.where(scored & (fate >= 0.9), random, tokens)
    return tokens, np.where(scored, true, -100)


def random_sequences(n, seed, letters=20):
    rng = np.random.default_rng(seed)
    return [rng.integers(4, 4 + letters, rng.integers(1, 40)) for _ in range(n)]


def test_uniform_has_perplexity_20_at_scored_positions_only():
    tokens, labels = np.array([CLS, L, MASK, X, A, EOS]), np.array([-100, -100, G, -100, A, -100])
    np.testing.assert_allclose(uniform_nll(tokens, labels), [math.log(20)] * 2)


def test_unigram_by_hand():
    tokens, labels = np.array([CLS, L, MASK, X, A, EOS]), np.array([-100, -100, L, -100, L, -100])
    counts = count_residues(tokens, labels)  # three L: one seen, two by their labels; X is none
    assert counts[:3].tolist() == [3, 0, 0]
    assert counts.sum() == 3
    other = np.array([-100, -100, L, -100, G, -100])
    np.testing.assert_allclose(
        unigram_nll(counts, tokens, other), [-math.log(4 / 23), -math.log(1 / 23)]
    )


def test_reveal_seen_by_hand():
    prior = np.full((2, 20), 0.5 / 18)
    prior[:, 0] = prior[:, 1] = 0.25
    after = np.exp(reveal_seen(np.log(prior), np.array([MASK, L]), 0.5))
    np.testing.assert_allclose(after[0], prior[0])
    # seen L: P(seen | L) = 0.5 + 0.5/20 = 0.525, P(seen | other) = 0.025
    total = 0.25 * 0.525 + 0.75 * 0.025
    assert after[1, 0] == pytest.approx(0.25 * 0.525 / total)
    assert after[1, 1] == pytest.approx(0.25 * 0.025 / total)
    np.testing.assert_allclose(after.sum(axis=1), 1.0)
    with pytest.raises(ValueError, match="true_share"):
        reveal_seen(np.log(prior), np.array([L, L]), 1.0)
    with pytest.raises(ValueError, match="neither"):
        reveal_seen(np.log(prior), np.array([X, L]), 0.5)


class SlowNeighbours:
    """The same model with dictionaries and loops; weights by plain EM with one pseudo-residue."""

    def __init__(self, packs, held_out):
        self.counts = defaultdict(Counter)
        for context, outcome in self.cases(packs):
            for key in self.keys(context):
                self.counts[key][outcome] += 1
        held = list(self.cases(held_out))
        self.weights = defaultdict(lambda: [0.25] * 4)
        for _ in range(500):
            shares = defaultdict(lambda: [1.0] * 4)
            for context, outcome in held:
                bucket = self.bucket(context)
                joint = [
                    weight * p
                    for weight, p in zip(
                        self.weights[bucket], self.estimates(context, outcome), strict=True
                    )
                ]
                for k in range(4):
                    shares[bucket][k] += joint[k] / sum(joint)
            new = {b: [share / sum(row) for share in row] for b, row in shares.items()}
            moved = max(abs(new[b][k] - self.weights[b][k]) for b in new for k in range(4))
            self.weights.update(new)
            if moved < 1e-7:
                break

    @staticmethod
    def cases(packs):
        for tokens, labels in packs:
            for i, (token, label) in enumerate(zip(tokens.tolist(), labels.tolist(), strict=True)):
                true = token if label == -100 else label
                if 4 <= true < 24:
                    yield (int(tokens[i - 1]), int(tokens[i + 1])), true

    @staticmethod
    def keys(context):
        left, right = context
        return [("both", left, right), ("left", left), ("right", right), ("none",)]

    def bucket(self, context):
        return int(math.log2(sum(self.counts[self.keys(context)[0]].values()) + 1))

    def estimates(self, context, outcome):
        *keys, none = (self.counts[key] for key in self.keys(context))
        unigram = (none[outcome] + 1) / (sum(none.values()) + 20)
        return [c[outcome] / sum(c.values()) if c else unigram for c in keys] + [unigram]

    def probability(self, context, outcome):
        pairs = zip(
            self.weights[self.bucket(context)], self.estimates(context, outcome), strict=True
        )
        return sum(weight * p for weight, p in pairs)


def test_neighbour_counts_equal_the_dictionaries():
    packs = [mask(random_sequences(40, seed, letters=6), seed) for seed in range(3)]
    held = [mask(random_sequences(30, 9, letters=7), 9)]
    fast = NeighbourCounts()
    for pack in packs:
        fast.update(*pack)
    fast.finalize(held)
    slow = SlowNeighbours(packs, held)
    table = fast.probabilities()
    np.testing.assert_allclose(table.sum(axis=2), 1.0)
    for context in [(CLS, MASK), (L, A), (MASK, MASK), (G, EOS), (L, X), (X, X), (10, 10)]:
        for outcome in (L, A, 9, 10, 23):
            expected = slow.probability(context, outcome)
            assert table[(*context, outcome - 4)] == pytest.approx(expected, rel=1e-4)
    tokens, labels = mask(random_sequences(5, 11, letters=7), 11)
    expected = [
        -math.log(slow.probability((tokens[i - 1], tokens[i + 1]), labels[i]))
        for i in np.flatnonzero(labels != -100)
    ]
    np.testing.assert_allclose(fast.nll(tokens, labels), expected, rtol=1e-4)


def test_neighbour_counts_find_a_rule():
    # every residue is followed by the next one in the alphabet: the left neighbour tells all
    def cycle(start, n):
        return (np.arange(start, start + n) % 20) + 4

    table = NeighbourCounts()
    table.update(*mask([cycle(s, 50) for s in range(60)], 0))
    table.finalize([mask([cycle(s, 50) for s in range(40)], 1)])
    tokens, labels = mask([cycle(s, 50) for s in range(20)], 2)
    assert np.exp(table.nll(tokens, labels).mean()) < 3.0
    assert table.counts.sum() == 60 * 50


def test_neighbours_must_be_finalized_again_after_an_update():
    table = NeighbourCounts()
    pack = mask(random_sequences(20, 0), 0)
    table.update(*pack)
    with pytest.raises(ValueError, match="finalize"):
        table.nll(*pack)
    with pytest.raises(ValueError, match="others in finalize"):
        table.finalize([])
    table.finalize([mask(random_sequences(20, 1), 1)])
    assert np.isfinite(table.nll(*pack)).all()
    table.update(*pack)
    with pytest.raises(ValueError, match="finalize"):
        table.nll(*pack)


def test_save_and_load(tmp_path):
    table = NeighbourCounts()
    pack = mask(random_sequences(20, 0), 0)
    with pytest.raises(ValueError, match="before save"):
        table.save(tmp_path / "no.npz")
    table.update(*pack)
    table.finalize([mask(random_sequences(20, 1), 1)])
    path = tmp_path / "counts.npz"
    table.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["counts.npz"]
    np.testing.assert_array_equal(NeighbourCounts.load(path).nll(*pack), table.nll(*pack))


def test_damaged_tables_are_refused(tmp_path):
    path = tmp_path / "counts.npz"
    with pytest.raises(DataError, match="count"):
        NeighbourCounts.load(path)
    for content in (b"", b"not a table", b"PK\x03\x04 cut"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"counts\.npz"):
            NeighbourCounts.load(path)
    np.savez(path, format=1, counts=np.zeros((3, 3)), weights=np.ones((32, 4)) / 4)
    with pytest.raises(DataError, match=r"\(3, 3\)"):
        NeighbourCounts.load(path)
    np.savez(path, format=1, counts=np.array([{}], dtype=object), weights=np.zeros(1))
    with pytest.raises(DataError):
        NeighbourCounts.load(path)


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    table = NeighbourCounts()
    table.update(*mask(random_sequences(20, 0), 0))
    table.finalize([mask(random_sequences(20, 1), 1)])
    path = tmp_path / "counts.npz"
    table.save(path)
    before = path.read_bytes()

    def full_disk(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space"):
        table.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["counts.npz"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("tokens", "labels", "message"),
    [
        ([CLS, MASK, EOS], [-100, X, -100], "label 24 at position 1"),
        ([MASK, L, EOS], [L, -100, -100], "border"),
        ([CLS, 33, EOS], [-100, -100, -100], "0 to 32"),
        ([CLS, L], [-100], "alike"),
    ],
)
def test_bad_packs(tokens, labels, message):
    with pytest.raises(ValueError, match=message):
        uniform_nll(tokens, labels)
    with pytest.raises(ValueError, match=message):
        NeighbourCounts().update(tokens, labels)


def read_sample(name):
    with gzip.open(SAMPLE / f"{name}.fasta.gz", "rt") as stream:
        lines = [line.strip() for line in stream if not line.startswith(">")]
    return [np.array([4 + ALPHABET.index(c) if c in ALPHABET else X for c in s]) for s in lines]


def test_on_the_embedded_sample():
    train, valid = read_sample("train"), read_sample("valid")
    counts, table = np.zeros(20, int), NeighbourCounts()
    for epoch in range(2):
        pack = mask(train[:1800], epoch)
        table.update(*pack)
        counts += count_residues(*pack)
    table.finalize([mask(train[1800:], 10)])
    test = mask(valid, 20)
    found = {
        "unigram": unigram_nll(counts, *test),
        "neighbours": table.nll(*test),
        "unigram, seen": unigram_nll(counts, *test, true_share=0.5),
        "neighbours, seen": table.nll(*test, true_share=0.5),
    }
    perplexity = {name: float(np.exp(nll.mean())) for name, nll in found.items()}
    assert 17.5 < perplexity["unigram"] < 18.5
    assert perplexity["neighbours"] < 0.99 * perplexity["unigram"]
    # the masking rule alone, without any context, is worth more than both neighbours
    assert perplexity["unigram, seen"] < 0.87 * perplexity["unigram"]
    assert perplexity["neighbours, seen"] < 0.995 * perplexity["unigram, seen"]
