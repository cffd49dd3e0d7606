"""Homologues of test proteins leave the training set: with a stand-in for mmseqs, and with it."""

import gzip
import lzma
import os
import sys

import pytest
from fake_proteins import random_proteins

from lcframework.data.homologues import HomologueRule, find_mmseqs
from lcframework.data.split_list import read_split_list
from lcframework.data.split_long import LongChoice, split_long
from lcframework.errors import ConfigError, DataError

STAND_IN = """#!{python}
import sys
if sys.argv[1] == "version":
    print("stand-in 1")
    sys.exit()
query, target, result = sys.argv[2:5]
names = dict.fromkeys(line[1:].strip() for line in open(target) if line[0] == ">")
test = [line[1:].strip() for line in open(query) if line[0] == ">"]
{body}
"""
# Query, target, identity, coverage of the query, coverage of the target.
HITS = """
def hexed(name):
    return name.encode().hex()
rows = [("near", 0.5, 0.8, 0.1), ("fragment", 0.9, 0.1, 0.8), ("gi|5|x", 1.0, 1.0, 1.0),
        ("other", 0.49, 1.0, 1.0), ("local", 0.9, 0.79, 0.79)]
with open(result, "w") as file:
    for name, *numbers in rows:
        assert hexed(name) in names
        print(test[0], hexed(name), *numbers, sep="\\t", file=file)
"""


@pytest.fixture
def fasta(tmp_path):
    long, *short = random_proteins(1, 200, 201), *random_proteins(6, 30, 40)
    names = ["near", "fragment", "gi|5|x", "other", "local", "far"]
    text = f">long\n{long[0]}\n" + "".join(
        f">{name}\n{residues}\n" for name, residues in zip(names, short, strict=True)
    )
    path = tmp_path / "proteins.fasta"
    path.write_text(text)
    return path


def stand_in(tmp_path, monkeypatch, body):
    program = tmp_path / "bin" / "mmseqs"
    program.parent.mkdir()
    program.write_text(STAND_IN.replace("{python}", sys.executable).replace("{body}", body))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def names_in(path):
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return [line[1:] for line in lines if line.startswith(">")]


def test_the_rule_is_identity_and_coverage_of_the_shorter(fasta, tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, HITS)
    counts = split_long(fasta, tmp_path / "out", LongChoice(count=1, min_length=100))
    assert (counts.train, counts.test, counts.removed) == (3, 1, 3)
    split = read_split_list(tmp_path / "out" / "split.txt")
    assert split.removed == {"near", "fragment", "gi|5|x"}
    assert "stand-in 1, identity >= 0.5" in split.header["homologue removal"]
    assert names_in(tmp_path / "out" / "train.fasta.gz") == ["other", "local", "far"]
    assert names_in(tmp_path / "out" / "test.fasta.gz") == ["long"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("print('no memory'); sys.exit(3)", r"exit code 3, saying last: no memory\. Nothing was"),
        ("", "wrote no result"),
        ("open(result, 'w').write('a b c')", "wrote 'a b c' as line 1 .* Install a current"),
    ],
)
def test_a_search_that_fails_leaves_nothing(fasta, tmp_path, monkeypatch, body, reason):
    stand_in(tmp_path, monkeypatch, body)
    with pytest.raises(DataError, match=reason):
        split_long(fasta, tmp_path / "out", LongChoice(count=1, min_length=100))
    assert {path.name for path in tmp_path.iterdir()} == {"proteins.fasta", "bin"}


@pytest.mark.parametrize("values", [{"identity": 0.0}, {"coverage": 1.01}])
def test_a_rule_out_of_range_is_refused(values):
    with pytest.raises(ConfigError, match="give a share above 0 and at most 1"):
        HomologueRule(**values)


NO_MMSEQS = pytest.mark.skipif(find_mmseqs() is None, reason="mmseqs is not installed")


@pytest.mark.realdata
@NO_MMSEQS
def test_known_relatives_of_real_proteins_are_removed_and_no_others(tmp_path, real_data):
    """The validation proteins are within 50% identity of none another; a copy and a half are."""
    with lzma.open(real_data / "proteins" / "valid.fasta.xz", "rt") as file:
        lines = file.read().split("\n")
    records = dict(zip(lines[::2][:400], lines[1::2][:400], strict=True))
    longest = max(records, key=lambda name: len(records[name]))
    text = "".join(f"{name}\n{residues}\n" for name, residues in records.items())
    residues = records[longest]
    text += f">copy\n{residues[:-1]}\n>half\n{residues[: len(residues) // 2]}\n"
    (tmp_path / "p.fasta").write_text(text)
    split_long(
        tmp_path / "p.fasta", tmp_path / "out", LongChoice(count=1, min_length=len(residues))
    )
    split = read_split_list(tmp_path / "out" / "split.txt")
    assert split.test == {longest[1:]}
    assert split.removed == {"copy", "half"}


@pytest.mark.slow
@NO_MMSEQS
def test_mmseqs_itself_finds_relatives_and_fragments_and_leaves_strangers(tmp_path):
    long, stranger, donor = random_proteins(3, 400, 401, seed=4)
    relative = "".join(a if i % 4 else b for i, (a, b) in enumerate(zip(long, donor, strict=True)))
    distant = "".join(b if i % 4 else a for i, (a, b) in enumerate(zip(long, donor, strict=True)))
    records = {
        "long": long + "A",
        "relative": relative,
        "fragment": long[100:220],
        "sp|Q|NAME": long[:399],
        "stranger": stranger,
        "distant": distant,
        "repeats": "ACGT" * 60,
    }
    path = tmp_path / "p.fasta"
    path.write_text("".join(f">{name}\n{residues}\n" for name, residues in records.items()))
    split_long(path, tmp_path / "out", LongChoice(count=1, min_length=401))
    split = read_split_list(tmp_path / "out" / "split.txt")
    assert split.test == {"long"}
    assert {"relative", "fragment", "Q"} == split.removed
