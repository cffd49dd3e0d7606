"""FASTA parsing against a plain line-by-line reader, every rule and every refusal."""

import gzip
import lzma

import numpy as np
import pytest
import zstandard
from fake_proteins import fasta_text, random_proteins
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.data.alphabet import decode
from lcframework.data.fasta import read_fasta
from lcframework.data.fasta_files import expand_inputs
from lcframework.data.fasta_rules import FastaCounts
from lcframework.errors import DataError

PROTEIN = "MKVLAWHERE"


def read(path, counts=None, block_bytes=4 << 20):
    """(identifier, sequence, line) of each record."""
    records = []
    for block in read_fasta([path], counts, block_bytes):
        pieces = np.split(block.tokens, np.cumsum(block.lengths)[:-1])
        for number, piece in enumerate(pieces if len(block.lengths) else []):
            records.append((block.name(number), decode(piece), int(block.lines[number])))
    return records


def plain_reader(text):
    """The reference: one line at a time."""
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip("\r \t")
        if line.startswith(">"):
            records.append([line[1:].split()[0], "", number])
        elif line:
            records[-1][1] += line
    rules = str.maketrans({"-": None, ".": None, " ": None, "\t": None, "J": "X"})
    found = []
    for name, sequence, number in records:
        sequence = sequence.upper().translate(rules).rstrip("*").replace("*", "X")
        found.append((name, sequence, number))
    return found


line = st.text("ACDEFGHIKLMNPQRSTVWYXBZUOJacdx*-. ", max_size=12)
record = st.tuples(st.text("abcXYZ019_|.:>", min_size=1, max_size=8), st.lists(line, max_size=4))


@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(record, min_size=1, max_size=8),
    newline=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    block_bytes=st.integers(1, 60),
)
def test_any_file_reads_as_by_the_plain_reader(
    tmp_path_factory, records, newline, last, block_bytes
):
    lines = []
    for name, body in records:
        lines += [f">{name} some words", *body, "WHERE"]
    text = newline.join(lines) + (newline if last else "")
    path = tmp_path_factory.mktemp("any") / "a.fasta"
    path.write_bytes(text.encode())
    assert read(path, block_bytes=block_bytes) == plain_reader(text)


def compress(kind, data):
    if kind == "zst frames":
        middle = len(data) // 2
        return zstandard.compress(data[:middle]) + zstandard.compress(data[middle:])
    tools = {"plain": bytes, "gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}
    return tools[kind](data)


@pytest.mark.parametrize("kind", ["plain", "gz", "xz", "zst", "zst frames"])
def test_compression_is_told_by_content(tmp_path, kind):
    proteins = random_proteins(300)
    path = tmp_path / "misleading.txt"
    path.write_bytes(compress(kind, fasta_text(proteins).encode()))
    assert [sequence for _, sequence, _ in read(path, block_bytes=1000)] == proteins


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_files_are_named(tmp_path, kind, damage):
    data = bytearray(compress(kind, fasta_text(random_proteins(300)).encode()))
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif kind == "zst":
        data[4:12] = b"\xff" * 8  # the frame header: zstd has no checksum by default
    else:
        data[len(data) // 2] ^= 0xFF
    path = tmp_path / f"broken.{kind}"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"broken\.{kind} is truncated or damaged"):
        read(path)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("UniRef50_A0A5A9P0L4 Peptidylprolyl isomerase n=1 Tax=X", "UniRef50_A0A5A9P0L4"),
        ("sp|P12345|AATM_RABIT Aspartate OS=Rabbit", "P12345"),
        ("tr|A0A0B4J2F0|A0A0B4J2F0_HUMAN", "A0A0B4J2F0"),
        ("sp|P12345", "P12345"),
        ("sp|", "sp|"),
        ("sp||x", "sp||x"),
        ("gi|129295|sp|P01013", "gi|129295|sp|P01013"),
        ("ssp|P12345|x", "ssp|P12345|x"),
        ("s", "s"),
        ("1abc_A\tchain A", "1abc_A"),
        ("x>y|z", "x>y|z"),
    ],
)
def test_identifiers(tmp_path, header, name):
    path = tmp_path / "a.fasta"
    path.write_text(f">{header}\n{PROTEIN}\n>other|x y\n{PROTEIN}\n")
    assert [found for found, _, _ in read(path)] == [name, "other|x"]


def test_rules_are_counted(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text("\ufeff\n\n>a\nMKlv*\n>b\nM*K-.JXBj**\n\n>c\nMZUO W\n", encoding="utf-8")
    counts = FastaCounts()
    sequences = [(name, sequence) for name, sequence, _ in read(path, counts)]
    assert sequences == [("a", "MKLV"), ("b", "MXKXXBX"), ("c", "MZUOW")]
    assert counts == FastaCounts(
        records=3,
        residues=16,
        lower_case=3,
        ambiguous=5,
        j_to_x=2,
        stop_dropped=3,
        stop_to_x=1,
        gaps_removed=2,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.fasta is empty"),
        ("\n \n\n", "a.fasta is empty"),
        ("\n\nMKV\n>a\nMKV\n", "line 3: text before the first '>' .'MKV'"),
        (f">a\n{PROTEIN}\n>b\nMK\nM1K\n", "line 5: record b holds '1'"),
        (f">a\n{PROTEIN}\n>b\nMK?\n", "line 4: record b holds '.'"),
        (f">a\n{PROTEIN}>\n", "line 2: record a holds '>'"),
        (f">a\n{PROTEIN}\n>b x\n\n>c\n{PROTEIN}\n", "line 3: record b has no residues"),
        (f">a\n{PROTEIN}\n>b\n*-*\n", "line 3: record b has no residues"),
        (f">a\n{PROTEIN}\n>\n{PROTEIN}\n", "line 3: the header has no identifier"),
        (f"> a\n{PROTEIN}\n", "line 1: the header has no identifier"),
        (">a\nACGTACGTNNACGU\n>b\nacgtacgt\n", "looks like nucleotides: 100%"),
        ("\x1f\x8a not gzip", "text before the first '>'"),
    ],
)
@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_bad_files_are_refused(tmp_path, text, message, block_bytes):
    path = tmp_path / "a.fasta"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read(path, block_bytes=block_bytes)


def test_nucleotides_are_refused_before_the_whole_file_is_read(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(fasta_text(["ACGTTGCA"] * 1000 + ["MKVLW"] * 3000))
    with pytest.raises(DataError, match="looks like nucleotides"):
        next(iter(read_fasta([path], block_bytes=20_000)))


def test_one_long_record_is_read_whole(tmp_path):
    protein = PROTEIN * 30_000
    path = tmp_path / "a.fasta"
    lines = "\n".join(protein[i : i + 60] for i in range(0, len(protein), 60))
    path.write_text(f">long\n{lines}\n>short\n{PROTEIN}\n")
    assert read(path, block_bytes=1000) == [("long", protein, 1), ("short", PROTEIN, 5002)]


def test_inputs_are_expanded_in_order(tmp_path):
    for name in ("b.fasta", "a.fasta", "c[1].fasta", "z.txt"):
        (tmp_path / name).write_text(">x\nMKV\n")
    names = [path.name for path in expand_inputs([tmp_path / "z.txt", f"{tmp_path}/[ab].fasta"])]
    assert names == ["z.txt", "a.fasta", "b.fasta"]
    assert [path.name for path in expand_inputs(f"{tmp_path}/c[1].fasta")] == ["c[1].fasta"]
    assert len(expand_inputs([f"{tmp_path}/*.fasta", tmp_path / "a.fasta"])) == 3


def test_missing_inputs_are_named(tmp_path):
    with pytest.raises(DataError, match=r"No FASTA file at .*none\.fasta"):
        expand_inputs(tmp_path / "none.fasta")
    with pytest.raises(DataError, match=r"No FASTA file at .*\*\.fa"):
        expand_inputs(f"{tmp_path}/*.fa")
    with pytest.raises(DataError, match="is a folder"):
        expand_inputs(tmp_path)
    with pytest.raises(DataError, match="No FASTA input is given"):
        expand_inputs([])
