"""`lcf data split-long`: which proteins are set aside, what is written, what is refused."""

import gzip
import lzma

import pytest
from fake_proteins import fasta_text, random_proteins

from lcframework.cli.main import main
from lcframework.data import split_long as module
from lcframework.data.split_list import SplitList, read_split_list
from lcframework.data.split_long import LongChoice, choose, split_from_list, split_long
from lcframework.errors import ConfigError, DataError

PROTEINS = dict(zip((f"p{i}" for i in range(60)), random_proteins(60, 20, 120), strict=True))
LONG = {name for name, residues in PROTEINS.items() if len(residues) >= 70}


@pytest.fixture(autouse=True)
def without_mmseqs(monkeypatch):
    monkeypatch.setattr(module, "find_mmseqs", lambda: None)


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "proteins.fasta"
    path.write_text(fasta_text(list(PROTEINS.values())))
    return path


def read(path):
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return {name[1:]: residues for name, residues in zip(lines[::2], lines[1::2], strict=True)}


def test_every_protein_is_in_one_file_with_its_own_residues(fasta, tmp_path):
    counts = split_long(fasta, tmp_path / "out", LongChoice(count=7, min_length=70))
    train, test = (read(tmp_path / "out" / f"{name}.fasta.gz") for name in ("train", "test"))
    assert (counts.train, counts.test, counts.removed) == (53, 7, 0)
    assert test.keys() <= LONG
    assert train | test == PROTEINS
    assert not train.keys() & test.keys()
    assert read_split_list(tmp_path / "out" / "split.txt").test == test.keys()


def test_the_choice_follows_from_seed_and_accessions_alone(fasta, tmp_path):
    first = split_long(fasta, tmp_path / "a", LongChoice(count=5, min_length=70))
    names = list(PROTEINS)[::-1]
    parts = tmp_path / "parts"
    parts.mkdir()
    for index, chosen in enumerate((names[:25], names[25:])):
        text = "".join(f">{name} words\n{PROTEINS[name]}\n" for name in chosen)
        (parts / f"{index}.fasta.xz").write_bytes(lzma.compress(text.encode()))
    other = split_long(str(parts / "*.xz"), tmp_path / "b", LongChoice(count=5, min_length=70))
    assert first == other
    lists = [read_split_list(tmp_path / one / "split.txt") for one in "ab"]
    assert lists[0].test == lists[1].test
    assert lists[0].header["input fingerprint"] == lists[1].header["input fingerprint"]
    seeds = {choose(LONG, LongChoice(count=5, min_length=70, seed=seed)) for seed in range(9)}
    assert len(seeds) > 5


def test_a_new_protein_moves_the_border_only():
    few = choose(LONG, LongChoice(count=9, min_length=70))
    more = choose(LONG | {"new1", "new2"}, LongChoice(count=9, min_length=70))
    assert len(few - more) <= 2
    assert choose(LONG, LongChoice(count=8, min_length=70)) < few
    assert len(choose(LONG, LongChoice(fraction=0.5, min_length=70))) == int(len(LONG) / 2 + 0.5)


def test_equal_splits_are_equal_files_and_a_list_repeats_its_split(fasta, tmp_path):
    for name in "ab":
        split_long(fasta, tmp_path / name, LongChoice(count=5, min_length=70))
    split_from_list(fasta, tmp_path / "c", tmp_path / "a" / "split.txt")
    for name in ("split.txt", "train.fasta.gz", "test.fasta.gz"):
        assert len({(tmp_path / one / name).read_bytes() for one in "abc"}) == 1


def test_a_list_on_other_inputs_says_so(fasta, tmp_path, caplog):
    split_long(fasta, tmp_path / "a", LongChoice(count=5, min_length=70))
    fasta.write_text(fasta.read_text() + ">more\nMKTAY\n")
    split_from_list(fasta, tmp_path / "b", tmp_path / "a" / "split.txt")
    assert "not those that" in caplog.text
    header = read_split_list(tmp_path / "b" / "split.txt").header
    assert "homologues not searched" in header["applied to other inputs"]
    assert "more" in read(tmp_path / "b" / "train.fasta.gz")


def test_without_mmseqs_the_command_and_the_list_say_so(fasta, tmp_path, caplog, capsys):
    main(["data", "split-long", str(fasta), "--n", "3", "--min-length", "70", "--to",
          str(tmp_path / "out")])  # fmt: skip
    assert "Install MMseqs2" in caplog.text
    assert "not removed: mmseqs" in (tmp_path / "out" / "split.txt").read_text()
    assert "3 test proteins, 57 for training, 0 homologues" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--n", "99"], "proteins of at least 70 residues, and 99 of them"),
        (["--n", "0"], "is 0: give at least 1"),
        (["--fraction", "1.5"], "give 0 < F <= 1"),
        (["--n", "3", "--identity", "2"], "identity is 2.0"),
        (["--n", "3", "--to", "."], "nothing is overwritten"),
        (["--from-list", "LIST"], "--min-length has no effect with --from-list"),
    ],
)
def test_bad_arguments_are_told_in_one_paragraph(fasta, tmp_path, capsys, arguments, reason):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    to = tmp_path / ("taken" if "--to" in arguments else "out")
    command = ["data", "split-long", str(fasta), *arguments, "--min-length", "70", "--to", str(to)]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert reason in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {fasta.name, "taken"}


def test_a_split_without_training_proteins_leaves_nothing(fasta, tmp_path):
    with pytest.raises(DataError, match="No protein is left for training: 60 are test"):
        split_long(fasta, tmp_path / "out", LongChoice(count=60, min_length=1))
    assert list(tmp_path.iterdir()) == [fasta]


def test_an_accession_that_is_gone_is_named(fasta, tmp_path):
    split_long(fasta, tmp_path / "a", LongChoice(count=5, min_length=70))
    gone = sorted(read_split_list(tmp_path / "a" / "split.txt").test)[0]
    fasta.write_text(fasta.read_text().replace(f">{gone}\n", ">other\n"))
    with pytest.raises(DataError, match=rf"{gone} of .* \(1 of 5 accessions are missing"):
        split_from_list(fasta, tmp_path / "b", tmp_path / "a" / "split.txt")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (">p1\nMK\n", "first line is not"),
        ("{first}\ntest p1\n", "line 2: 'test p1' is neither"),
        ("{first}\ntest\tp1\nremoved\tp1\n", "line 3: accession p1 is listed twice"),
        ("{first}\n# removed: 0\n", "names no test protein"),
    ],
)
def test_a_damaged_list_is_named_by_line(tmp_path, text, reason):
    path = tmp_path / "split.txt"
    path.write_text(text.replace("{first}", SplitList(frozenset("x")).to_text().split("\n")[0]))
    with pytest.raises(DataError, match=reason):
        read_split_list(path)


def test_an_amount_is_needed_and_only_one():
    with pytest.raises(ConfigError, match="Give either"):
        LongChoice()
    with pytest.raises(ConfigError, match="Give either"):
        LongChoice(count=1, fraction=0.5)
