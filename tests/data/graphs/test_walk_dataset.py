"""Walks as tokens and as masked packs, against the layout written out by hand."""

import numpy as np
import pytest

from lcframework.data.alphabet import MASK_ID, encode
from lcframework.data.graphs.layout import (
    BON_ID,
    EDGE_ID,
    EON_ID,
    NO_EDGE_ID,
    cut_walks,
    lay_out,
    walk_tokens,
)
from lcframework.data.graphs.protein_graph import read_protein_graph
from lcframework.data.graphs.walk_dataset import WalkDataset, WalkRule
from lcframework.data.graphs.walks import NO_NODE

SEQUENCES = ["MKV", "MLLAG", "MW", "MKKKKKKK"]
LENGTHS = np.array([len(one) for one in SEQUENCES])
STARTS = np.concatenate([[0], np.cumsum(LENGTHS)])
RESIDUES = np.concatenate([encode(one) for one in SEQUENCES])
WALKS = np.array([[0, 1, 0], [2, NO_NODE, NO_NODE], [3, 2, NO_NODE]], np.int32)


def by_hand(walk, negative):
    out = []
    for place, node in enumerate(node for node in walk if node != NO_NODE):
        out += [NO_EDGE_ID if negative else EDGE_ID] if place else []
        out += [BON_ID, *encode(SEQUENCES[node]).tolist(), EON_ID]
    return out


def test_tokens_are_those_written_by_hand():
    negative = np.array([False, True, True])
    laid = lay_out(WALKS, negative, RESIDUES, STARTS)
    expected = [by_hand(walk, no) for walk, no in zip(WALKS.tolist(), negative, strict=True)]
    assert laid.tokens.tolist() == [token for one in expected for token in one]
    assert walk_tokens(WALKS, LENGTHS).tolist() == [len(one) for one in expected]
    assert laid.starts.tolist() == [0, len(expected[0]), len(expected[0]) + len(expected[1])]
    assert laid.nodes.tolist() == [0, 1, 0, 2, 3, 2]
    assert (laid.tokens[laid.node_starts] == BON_ID).all()


@pytest.mark.parametrize("budget", range(1, 22))
def test_walks_are_cut_at_a_nodes_border(budget):
    found, cut = cut_walks(WALKS, LENGTHS, budget)
    for walk, whole in zip(found.tolist(), WALKS.tolist(), strict=True):
        kept = [node for node in walk if node != NO_NODE]
        assert kept == whole[: len(kept)]
        fits = [n for n in (1, 2, 3) if len(by_hand(whole[:n], False)) <= budget]
        longest = sum(node != NO_NODE for node in whole)
        assert len(kept) == min(max(fits, default=1), longest)
    assert cut == (found != WALKS).any(1).sum()


@pytest.fixture
def proteins(tmp_path):
    fasta = "".join(f">p{i}\n{sequence}\n" for i, sequence in enumerate(SEQUENCES))
    (tmp_path / "p.fasta").write_text(fasta)
    (tmp_path / "e.txt").write_text("p0 p1\np1 p2\n")
    return read_protein_graph(tmp_path / "p.fasta", tmp_path / "e.txt")


def dataset(proteins, **settings):
    rule = WalkRule(**{"length": 4, "per_node": 3, "negative_share": 0.5, **settings})
    return WalkDataset(proteins, proteins.graph, np.arange(4), rule, seed=5)


def unmasked(pack):
    labels = pack.labels
    return np.where(labels.numpy() >= 0, labels.numpy(), pack.tokens.numpy())


def test_packs_hold_the_epochs_walks_and_mask_residues_alone(proteins):
    data = dataset(proteins)
    drawn = data.epoch_walks(2)
    assert len(data) == len(drawn.walks) == 12
    ids = np.array([7, 0, 11, 3])
    pack = data[2, ids]
    expected = [by_hand(drawn.walks[i].tolist(), drawn.negative[i]) for i in ids]
    assert unmasked(pack).tolist() == [token for one in expected for token in one]
    assert pack.cu_seqlens.diff().tolist() == drawn.tokens[ids].tolist()
    assert pack.max_len == max(len(one) for one in expected)
    structure = unmasked(pack) >= BON_ID
    assert (pack.labels.numpy()[structure] == -100).all()
    assert (pack.tokens == MASK_ID).any()


def test_walks_change_by_epoch_and_not_by_batch(proteins):
    data = dataset(proteins)
    assert (data.epoch_walks(0).walks != data.epoch_walks(1).walks).any()
    one = data[3, np.array([5])]
    many = data[3, np.array([1, 5])]
    at = int(many.cu_seqlens[1])
    assert many.tokens[at:].tolist() == one.tokens.tolist()
    fixed = WalkDataset(proteins, proteins.graph, np.arange(4), data.rule, fixed_epoch=0)
    assert fixed[0, np.array([2])].tokens.tolist() == fixed[9, np.array([2])].tokens.tolist()


def test_edges_and_strangers_are_told_by_the_token_between(proteins):
    drawn = dataset(proteins, per_node=40, negative_share=0.25).epoch_walks(0)
    assert 0.15 < drawn.negative.mean() < 0.35
    for walk, negative in zip(drawn.walks, drawn.negative, strict=True):
        pairs = np.stack([walk[:-1], walk[1:]], 1)
        pairs = pairs[(pairs != NO_NODE).all(1)]
        assert (proteins.graph.has_edges(pairs) != negative).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": 0}, "at least 1"),
        ({"q": 0.0}, "above 0"),
        ({"negative_share": 1.5}, r"\[0, 1\]"),
    ],
)
def test_impossible_rules_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        WalkRule(**settings)
