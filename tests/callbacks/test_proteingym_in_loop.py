"""ProteinGym in the loop leaves the training as it is."""

import lightning.pytorch as pl
import pytest
import torch
from gym_files import ROWS, reference, reference_row, write

from lcframework.callbacks.proteingym_in_loop import ProteinGymInLoop
from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.errors import ConfigError, DataError
from lcframework.models.lcplm import LCPLM
from lcframework.paths import sample_dir
from lcframework.tasks.masked_lm import MaskedLMTask


class Noisy(LCPLM):
    """Draws random numbers when it trains and when it does not, as dropout would."""

    def encode(self, *arguments, **keywords):
        hidden = super().encode(*arguments, **keywords)
        noise = torch.randn_like(hidden)
        return hidden + 0.1 * noise if self.training else hidden


class Losses(pl.Callback):
    def __init__(self):
        self.values, self.modes = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())
        self.modes.append([module.training for module in pl_module.modules()])


@pytest.fixture
def gym(tmp_path):
    folder = tmp_path / "gym"
    folder.mkdir()
    reference(folder, [reference_row("A_1"), reference_row("A_2", kind="Binding")])
    write(folder / "A_1.csv", ROWS)
    write(folder / "A_2.csv", ROWS[:3])
    return folder


def trained(tmp_path, monkeypatch, *callbacks):
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    pl.seed_everything(5, verbose=False)
    task = MaskedLMTask(Noisy(d_model=12, n_layers=1, d_state=4))
    data = UniRef50DataModule(train=str(sample_dir() / "train.fasta.gz"), max_tokens=1024)
    losses = Losses()
    trainer = pl.Trainer(
        max_steps=5, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, use_distributed_sampler=False, default_root_dir=tmp_path,
        callbacks=[*callbacks, losses],
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return losses, task


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
