"""The downstream probe in the loop: it finds what can be read off, and leaves the training as it
is."""

import json

import numpy as np
import pytest
import torch
from tape_files import write_jsonl
from traced_training import trained

from lcframework.callbacks.tape_probe import TapeProbeInLoop
from lcframework.data.tape.proteins import read_split
from lcframework.data.tape.tasks import TASKS
from lcframework.errors import ConfigError, DataError
from lcframework.models.hidden_states import hidden_states
from lcframework.scoring.tape.ridge import PENALTIES, RidgeProbe
from lcframework.tasks.tape.linear_probe import SEPARATION, baselines
from lcframework.tasks.variant_effects.masked_copies import token_row

LETTERS = "LAGVSERTIDPKQNFYMHWC"


def write_split(folder, split, count, seed):
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        sequence = "".join(generator.choice(list(LETTERS), int(generator.integers(5, 30))))
        rows.append({"primary": sequence, "ss3": [LETTERS.index(one) % 3 for one in sequence]})
    return write_jsonl(folder / f"secondary_structure_{split}.jsonl", rows)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "tape"
    made.mkdir()
    for seed, split in enumerate(("train", "valid", "test")):
        write_split(made, split, 30, seed)
    return made


def test_the_loss_trace_is_the_same_with_and_without(tmp_path, monkeypatch, folder):
    without, plain = trained(tmp_path, monkeypatch)
    probe = TapeProbeInLoop(tmp_path / "run", folder, every_n_steps=2, max_proteins=None)
    with_it, looked = trained(tmp_path, monkeypatch, probe)
    assert without.values == with_it.values and without.modes == with_it.modes
    for name, value in plain.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name
    assert [row["step"] for row in probe.steps] == [2, 4, 5]
    key = "tape_probe/secondary_structure/accuracy"
    rows = json.loads((tmp_path / "run" / "figures" / "tape_probe.json").read_text())
    assert rows[0]["value"] == probe.results["metrics"][key]["value"]
    assert rows[0]["value"] == pytest.approx(slowly(looked.model, folder))
    assert rows[1]["method"].startswith("one-hot window") and rows[1]["value"] > 0.99
    assert {row["note"] for row in rows} == {
        "rebuilt split, not comparable with TAPE's leaderboard"
    }


def slowly(network, folder):
    """Accuracy of the best-on-valid ridge probe, protein by protein."""
    network.eval()

    def rows(split):
        spec = TASKS["secondary_structure"]
        for protein in read_split(folder / f"secondary_structure_{split}.jsonl", spec):
            letters = "".join(LETTERS[token - 4] for token in protein.tokens)
            tokens = torch.from_numpy(token_row(letters))
            borders = torch.tensor([0, len(tokens)], dtype=torch.int32)
            with torch.no_grad():
                states = hidden_states(network, tokens, borders, len(tokens))
            yield states[1:-1].numpy(), protein.label

    probe = RidgeProbe((states, np.eye(3)[label]) for states, label in rows("train"))

    def accuracy(penalty, split):
        said = [(probe.solve(penalty).predict(x).argmax(1) == y) for x, y in rows(split)]
        return np.concatenate(said).mean()

    best = max(PENALTIES, key=lambda one: accuracy(one, "valid"))
    return accuracy(best, "test")


def test_bad_settings(tmp_path, folder):
    with pytest.raises(ConfigError, match="callbacks.tape_probe.path=DIR"):
        TapeProbeInLoop(tmp_path, None)
    with pytest.raises(ConfigError, match="experiment=tape/contact_prediction"):
        TapeProbeInLoop(tmp_path, folder, "contact_prediction")
    with pytest.raises(ConfigError, match="every_n_steps=0"):
        TapeProbeInLoop(tmp_path, folder, every_n_steps=0)
    with pytest.raises(DataError, match="holds no stability_train"):
        TapeProbeInLoop(tmp_path, folder, "stability").prepare()


def test_contacts_by_separation(tmp_path):
    """Training proteins touch at separation 6 only, so those pairs come first."""
    places = np.zeros((20, 3), dtype=np.float32)
    places[:, 0] = np.arange(20) * 1.3  # 6 apart: 7.8 Angstrom
    row = {"primary": "M" * 20, "tertiary": places.tolist()}
    path = write_jsonl(tmp_path / "proteinnet_train.jsonl", [row])
    proteins = read_split(path, TASKS["contact_prediction"])
    found = baselines(TASKS["contact_prediction"], proteins, proteins, {"test": proteins})
    assert found[SEPARATION]["test"].value == 1.0
