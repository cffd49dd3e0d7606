"""Edge lists and sequences: every spelling read alike, and what is refused or counted."""

import gzip

import numpy as np
import pytest

from lcframework.data.alphabet import encode
from lcframework.data.graphs.edge_lists import EdgeListCounts, read_edges
from lcframework.data.graphs.protein_graph import read_protein_graph
from lcframework.errors import DataError

NUMBERS = {"a": 0, "b": 1, "c": 2}
FASTA = ">a\nMKV\n>b\nMKL\n>c\nMKVAA\n>twin of_a\nMKV\n"


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


def refusal(folder, text, **settings):
    with pytest.raises(DataError) as error:
        read_edges([write(folder, "edges.tsv", text)], NUMBERS, **settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.tsv", "protein1\tprotein2\tlabel\tscore\na\tb\t1\t900\nb\tc\t1\t100\n"),
        ("e.tsv.gz", "protein1\tprotein2\tlabel\tscore\na\tb\t1\t900\nb\tc\t1\t100"),
        ("links.txt", "protein1 protein2 combined_score\na b 900\nb c 100\n"),
        ("e.csv", "a,b,0.9\r\nb,c,0.1\r\n"),
        ("e.txt", "# comment\n\na b\nb c\n"),
    ],
)
def test_every_spelling_gives_the_same_pairs(tmp_path, name, text):
    pairs = read_edges([write(tmp_path, name, text)], NUMBERS)
    assert pairs.tolist() == [[0, 1], [1, 2]]


def test_a_threshold_leaves_out_and_counts(tmp_path):
    counts = EdgeListCounts()
    path = write(tmp_path, "e.tsv", "protein1\tprotein2\tscore\na\tb\t900\nb\tc\t699\na\tc\t700\n")
    assert read_edges([path], NUMBERS, 700, counts=counts).tolist() == [[0, 1], [0, 2]]
    assert (counts.lines, counts.low_scores) == (3, 1)


def test_unknown_proteins_are_refused_or_counted(tmp_path):
    text = "a b\na x\ny x\n"
    assert "line 2: no sequence is known for the protein 'x'" in refusal(tmp_path, text)
    counts = EdgeListCounts()
    path = write(tmp_path, "e.txt", text)
    assert len(read_edges([path], NUMBERS, drop_unknown=True, counts=counts)) == 1
    assert (counts.unknown, counts.unknown_names) == (2, ["x", "y"])


@pytest.mark.parametrize("score", ["-1", "1001", "high", "nan"])
def test_impossible_scores_are_refused(tmp_path, score):
    text = f"protein1\tprotein2\tscore\na\tb\t10\nb\tc\t{score}\n"
    assert f"line 3: the score '{score}' is not a number from 0 to 1000" in refusal(tmp_path, text)


def test_other_broken_lists_are_refused(tmp_path):
    assert "line 2: 1 columns where 2 are wanted" in refusal(tmp_path, "a b\nb\n")
    assert "no score column" in refusal(tmp_path, "a b\n", min_score=1)
    assert "holds no edge" in refusal(tmp_path, "protein1\tprotein2\n")


def test_the_same_sequence_under_two_names_is_one_node(tmp_path):
    fasta = write(tmp_path, "p.fasta", FASTA)
    edges = write(tmp_path, "e.txt", "a b\ntwin c\ntwin a\n")
    found = read_protein_graph(fasta, edges)
    assert found.names == ["a", "b", "c"]
    assert found.graph.pairs().tolist() == [[0, 1], [0, 2]]
    assert (found.residues(2) == encode("MKVAA")).all()
    assert found.lengths().tolist() == [3, 3, 5]
    report = found.report()
    assert (report["names_merged_by_sequence"], report["self_loops"]) == (1, 1)
    assert (report["proteins"], report["edges"], report["isolated"]) == (3, 2, 0)


@pytest.mark.parametrize(
    ("fasta", "edges", "words"),
    [
        (FASTA + ">a\nMMM\n", "a b\n", "line 9: the protein 'a' stood there before"),
        (FASTA, "a a\n", "no edge is left of 1 lines"),
        (">a\nMKV\n>b\nMKV\n", "a b\n", "needs two proteins"),
    ],
)
def test_impossible_graphs_are_refused(tmp_path, fasta, edges, words):
    paths = write(tmp_path, "p.fasta", fasta), write(tmp_path, "e.txt", edges)
    with pytest.raises(DataError, match=words):
        read_protein_graph(*paths)


@pytest.mark.realdata
def test_the_shared_human_graphs_merge_by_sequence(real_data):
    folder = real_data / "ppi"
    found = read_protein_graph(folder / "human*.fasta.gz", folder / "human*_edges.tsv.gz")
    assert found.merged == 665
    assert found.graph.edges > 13_630
    assert np.diff(found.starts).max() == 34_350
