"""`lcf score-variants`: scores of a real command, and every kind of bad file."""

import csv
import re

import pytest
import torch

from lcframework.cli.main import main
from lcframework.models.lcplm import LCPLM
from lcframework.models.lcplm.huggingface import LCPLMForMaskedLM
from lcframework.run.networks import load_network
from lcframework.tasks.variant_effects import reference

TARGET = "MKTAYIAKQR"
CSV = "mutant,note\nK2A,first\nT3C:R10K,second\nA4A,silent\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("model") / "export"
    network = LCPLM(d_model=12, n_layers=1, d_state=4)
    torch.nn.init.normal_(network.lm_head.weight, std=1.0)
    LCPLMForMaskedLM.from_network(network).save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path):
    (tmp_path / "wt.fasta").write_text(f">sp|P1|X a protein\n{TARGET[:5]}\n{TARGET[5:]}\n")
    (tmp_path / "variants.csv").write_text(CSV)
    return tmp_path


def call(files, model, *more, out="scores.csv"):
    paths = [str(files / name) for name in ("wt.fasta", "variants.csv")]
    main(["score-variants", *paths, "--model", str(model), "-o", str(files / out), *more])
    with (files / out).open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_definition(files, model):
    network = load_network(model)
    rows = call(files, model)
    assert [row["mutant"] for row in rows] == ["K2A", "T3C:R10K", "A4A"]
    assert [row["note"] for row in rows] == ["first", "second", "silent"]
    found = [float(row["masked_marginals"]) for row in rows]
    wanted = [reference.masked_marginals(network, TARGET, row["mutant"]) for row in rows]
    assert found == pytest.approx(wanted, abs=2e-5)
    assert found[2] == 0.0
    assert abs(found[0]) > 1e-3
    rows = call(files, model, "--strategy", "wt-marginals", out="wt.csv")
    wanted = [reference.wt_marginals(network, TARGET, row["mutant"]) for row in rows]
    assert [float(row["wt_marginals"]) for row in rows] == pytest.approx(wanted, abs=2e-5)


def test_insertions_and_deletions_by_their_sequence(files, model):
    (files / "variants.csv").write_text("mutated_sequence\nMKTAYIAKQ\nMKTAYIAKQRW\n")
    rows = call(files, model, "--strategy", "pseudo-log-likelihood")
    network = load_network(model)
    wild = reference.pseudo_log_likelihood(network, TARGET)
    for row in rows:
        wanted = reference.pseudo_log_likelihood(network, row["mutated_sequence"]) - wild
        assert float(row["pseudo_log_likelihood"]) == pytest.approx(wanted, abs=5e-5)


def test_bad_variants_can_be_left_out(files, model, caplog):
    (files / "variants.csv").write_text("mutant\nK2A\nA2K\nR99K\n")
    assert [row["mutant"] for row in call(files, model, "--drop-bad")] == ["K2A"]
    assert "2 of 3 mutants do not fit" in caplog.text


@pytest.mark.parametrize(
    ("fasta", "table", "more", "message"),
    [
        (None, "mutant\nA2K\nK2A\n", (), "1 of 2 mutants .* 1 wrong wild type .line 2, A2K"),
        (None, "mutant\nK2A:Q99R\n", (), "position out of range"),
        (None, "mutant,mutated_sequence\nK2A,MKTAYIAKQR\n", (), "mutated_sequence is not"),
        (None, "mutant\nA2K\n", ("--drop-bad",), "1 of 1 mutants do not fit"),
        (None, "variant\nK2A\n", (), "neither `mutant` nor `mutated_sequence`"),
        (None, "mutated_sequence\nMK\n", (), "--strategy pseudo-log-likelihood"),
        (None, "mutated_sequence\nM1\n", ("--strategy", "pseudo-log-likelihood"), "line 2"),
        (None, "mutant,masked_marginals\nK2A,1\n", (), "column 'masked_marginals' already"),
        (None, "", (), "no rows and no header"),
        (None, "mutant\n", (), "has no rows"),
        ("", None, (), "wt.fasta is empty"),
        (">a\nMKT\n>b\nMKT\n", None, (), "holds 2 proteins; the wild type must be one"),
        (None, "mutant;note\nK2A;x\n", (), "separate columns by commas"),
        (">a\nMK7\n", None, (), "no amino-acid letter"),
        (None, None, ("--window", "7"), "even number"),
        (None, None, ("--strategy", "wt-marginals", "--window", "8"), "no effect"),
        (None, None, ("--official-off-by-one",), "pseudo-log-likelihood only"),
        (None, None, ("--max-tokens", "0"), "at least 1"),
        (None, None, ("--model", "nowhere"), "no such file or run directory"),
    ],
)
def test_bad_files_are_one_paragraph_and_write_nothing(
    files, model, fasta, table, more, message, capsys
):
    for name, text in (("wt.fasta", fasta), ("variants.csv", table)):
        if text is not None:
            (files / name).write_text(text)
    with pytest.raises(SystemExit) as caught:
        call(files, model, *more)
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not [path for path in files.iterdir() if "scores" in path.name]


def test_a_directory_is_no_table(files, model, capsys):
    (files / "variants.csv").unlink()
    (files / "variants.csv").mkdir()
    with pytest.raises(SystemExit):
        call(files, model)
    assert "variants.csv is a directory" in capsys.readouterr().err


def test_nothing_is_overwritten(files, model, capsys):
    (files / "scores.csv").write_text("precious")
    with pytest.raises(SystemExit):
        call(files, model)
    assert "exists already" in capsys.readouterr().err
    assert (files / "scores.csv").read_text() == "precious"
    with pytest.raises(SystemExit):
        call(files, model, out="absent/scores.csv")
    assert "does not exist" in capsys.readouterr().err
