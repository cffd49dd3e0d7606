"""ProteinGym in the loop leaves the training as it is."""

import pytest
import torch
from gym_files import ROWS, reference, reference_row, write
from traced_training import trained

from lcframework.callbacks.proteingym_in_loop import ProteinGymInLoop
from lcframework.errors import ConfigError, DataError


@pytest.fixture
def gym(tmp_path):
    folder = tmp_path / "gym"
    folder.mkdir()
    reference(folder, [reference_row("A_1"), reference_row("A_2", kind="Binding")])
    write(folder / "A_1.csv", ROWS)
    write(folder / "A_2.csv", ROWS[:3])
    return folder


def test_the_loss_trace_is_the_same_with_and_without(tmp_path, monkeypatch, gym):
    without, plain = trained(tmp_path, monkeypatch)
    looking = ProteinGymInLoop(tmp_path / "run", gym, every_n_steps=2, resamples=10)
    with_it, looked = trained(tmp_path, monkeypatch, looking)
    assert without.values == with_it.values
    assert len(set(without.values)) == 5
    assert without.modes == with_it.modes
    for name, value in plain.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name
    assert [row["step"] for row in looking.steps] == [2, 4, 5]
    tables = looking.results["tables"]
    assert {row["DMS_id"] for row in tables["proteingym_assays"]} == {"A_1", "A_2"}
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"proteingym.png", "proteingym_steps.csv", "proteingym_summary.csv"} <= figures


def test_a_look_at_the_end_only_and_after_a_resume(tmp_path, monkeypatch, gym):
    looking = ProteinGymInLoop(tmp_path / "run", gym, resamples=10)
    trained(tmp_path, monkeypatch, looking)
    assert [row["step"] for row in looking.steps] == [5]
    again = ProteinGymInLoop(tmp_path / "run", gym)
    again.load_state_dict(looking.state_dict())
    assert again.steps == looking.steps


def test_bad_settings_and_files_stop_before_training(tmp_path, monkeypatch, gym):
    with pytest.raises(ConfigError, match="callbacks.proteingym.path=DIR"):
        ProteinGymInLoop(tmp_path, None)
    with pytest.raises(ConfigError, match="every_n_steps=0"):
        ProteinGymInLoop(tmp_path, gym, every_n_steps=0)
    write(gym / "A_2.csv", [("A2K", ROWS[0][1], 1, 1)])
    with pytest.raises(DataError, match="wrong wild type"):
        trained(tmp_path, monkeypatch, ProteinGymInLoop(tmp_path / "run", gym))
