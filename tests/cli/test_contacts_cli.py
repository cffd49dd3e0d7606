"""`lcf contacts`: files, precision against structures and TAPE's arrays, bad input."""

import csv

import numpy as np
import pytest
import torch
from tape_files import write_jsonl

from lcframework.cli.main import main
from lcframework.models.lcplm import LCPLM
from lcframework.models.lcplm.huggingface import LCPLMForMaskedLM
from lcframework.run.networks import load_network
from lcframework.scoring.contacts import precision_table
from lcframework.tasks.contacts import predicted_contacts
from lcframework.tasks.variant_effects.inference import Inference

SEQUENCE = "MKTAYIAKQRQISF"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("model")
    LCPLMForMaskedLM.from_network(LCPLM(12, 1, d_state=4)).save_pretrained(folder)
    return folder


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "protein.fasta"
    path.write_text(f">P1 x\n{SEQUENCE}\n")
    return path


def call(fasta, model, *more, out="map"):
    main(["contacts", str(fasta), "--model", str(model), "-o", str(fasta.parent / out), *more])
    return np.load(fasta.parent / f"{out}.npz")


def tape_file(folder, sequence=SEQUENCE):
    places = [[1.3 * i, 0.0, 0.0] for i in range(len(sequence))]
    valid = [i != 2 for i in range(len(sequence))]
    row = {"id": "x", "primary": sequence, "tertiary": places, "valid_mask": valid}
    return write_jsonl(folder / "proteinnet_test.jsonl", [row])


def test_scores_and_picture_without_a_structure(fasta, model, caplog):
    with caplog.at_level("INFO"):
        found = call(fasta, model)
    wanted = predicted_contacts(Inference(load_network(model)), SEQUENCE)
    np.testing.assert_allclose(found["scores"], wanted, atol=1e-6)
    assert str(found["sequence"]) == SEQUENCE and "contacts" not in found
    assert (fasta.parent / "map.png").is_file() and not (fasta.parent / "map.csv").exists()
    assert "Precision: not measured" in caplog.text


def test_precision_against_tapes_arrays(fasta, model):
    found = call(fasta, model, "--structure", str(tape_file(fasta.parent)))
    known = found["contacts"]
    assert known[0, 6] == 1 and known[0, 7] == 0 and (known[2] == -1).all()
    with (fasta.parent / "map.csv").open() as file:
        rows = list(csv.DictReader(file))
    wanted = precision_table(found["scores"], known)
    for row, one in zip(rows, wanted, strict=True):
        for key, value in one.items():
            assert row[key] == ("no pairs" if value is None else str(value))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--chain", "A"), "--chain has no effect without --structure"),
        (("--structure", "{folder}/absent.pdb"), "no such file"),
        (("--structure", "{folder}/proteinnet_test.jsonl"), "no record's `primary`"),
        (("--structure", "{folder}/proteinnet_test.jsonl", "--chain", "A"), "a file of TAPE"),
    ],
)
def test_bad_input_is_one_paragraph_and_writes_nothing(fasta, model, capsys, more, message):
    tape_file(fasta.parent, "GGGG")
    with pytest.raises(SystemExit) as caught:
        call(fasta, model, *(one.format(folder=fasta.parent) for one in more))
    assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not list(fasta.parent.glob("map.*"))


def test_nothing_is_overwritten(fasta, model, capsys):
    (fasta.parent / "map.csv").write_text("mine")
    with pytest.raises(SystemExit):
        call(fasta, model)
    assert "map.csv exists already" in capsys.readouterr().err
    assert not (fasta.parent / "map.npz").exists()
