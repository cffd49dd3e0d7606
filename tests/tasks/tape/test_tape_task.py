"""Downstream tasks end to end: losses and counts by hand, fine-tuning, frozen heads, stopping."""

import json
import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from tape_files import write_json, write_jsonl, write_lmdb

from lcframework.callbacks.best_weights import BestWeights
from lcframework.callbacks.tape_report import TapeReport
from lcframework.data.tape.batch import make_batch
from lcframework.data.tape.datamodule import TapeDataModule
from lcframework.data.tape.proteins import protein_of
from lcframework.data.tape.tasks import TASKS
from lcframework.errors import ConfigError, DataError
from lcframework.models.esm2.model import ESM2
from lcframework.models.lcplm import LCPLM
from lcframework.tasks.optimizers import WarmupCosineAdamW
from lcframework.tasks.tape.task import TapeTask

LETTERS = "LAGVSERTIDPKQNFYMHWC"


def proteins(task, count, seed=0):
    """Proteins whose label can be read off the sequence."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        sequence = "".join(generator.choice(list(LETTERS), int(generator.integers(9, 25))))
        row = {"id": f"p{index}", "primary": sequence, "protein_length": len(sequence)}
        numbers = np.array([LETTERS.index(letter) for letter in sequence])
        if task == "secondary_structure":
            row["ss3"] = [int(n) % 3 if n < 18 else -1 for n in numbers]
        elif task == "contact_prediction":
            row["tertiary"] = (generator.normal(size=(len(sequence), 3)) * 6).tolist()
            row["valid_mask"] = [bool(n < 18) for n in numbers]
        elif task == "stability":
            row["stability_score"] = [float((numbers < 5).mean())]
        elif task == "fluorescence":
            row["log_fluorescence"] = [float((numbers < 5).mean())]
        else:
            row["label" if task == "go_function" else "fold_label"] = int(
                (numbers < 5).mean() > 0.25
            )
        rows.append(row)
    return rows


def folder_of(path, task, writer=write_jsonl, suffix="jsonl", count=40, test="test"):
    stem = TASKS[task].stem
    for seed, split in enumerate(("train", "valid", test)):
        writer(path / f"{stem}_{split}.{suffix}", proteins(task, count, seed))
    return path


def network(kind="lcplm"):
    torch.manual_seed(1)
    return LCPLM(16, 1, d_state=4) if kind == "lcplm" else ESM2(16, 1, 2)


def fitted(tmp_path, task, epochs=2, lr=3e-3, kind="lcplm", callbacks=(), data=None, **options):
    pl.seed_everything(3, verbose=False)
    module = TapeTask(network(kind), task, WarmupCosineAdamW(lr=lr), **options)
    data = data or TapeDataModule(tmp_path, task, max_tokens=256)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        use_distributed_sampler=False, log_every_n_steps=1,
        callbacks=[TapeReport(tmp_path / "run"), *callbacks],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    report: TapeReport = next(one for one in trainer.callbacks if isinstance(one, TapeReport))
    return module, report, trainer


def batch_of(task, count=4):
    spec = TASKS[task]
    rows = [protein_of("here", row, spec, 0) for row in proteins(task, count)]
    return make_batch(rows, np.arange(count), spec.kind), rows


def test_residue_loss_and_counts_protein_by_protein():
    batch, rows = batch_of("secondary_structure")
    task = TapeTask(network(), "secondary_structure").eval()
    outputs = task(batch)
    right, scored = task.counts_of(outputs, batch)
    losses = []
    for index, protein in enumerate(rows):
        start = int(batch.pack.cu_seqlens[index]) + 1
        logits = outputs[start : start + len(protein.tokens)]
        said = logits.argmax(-1).numpy()
        kept = protein.label >= 0
        assert scored[index] == kept.sum()
        assert right[index] == ((said == protein.label) & kept).sum()
        log_probs = logits.log_softmax(-1)
        losses += [-log_probs[i, protein.label[i]] for i in np.flatnonzero(kept)]
    torch.testing.assert_close(task.loss_of(outputs, batch), torch.stack(losses).mean())


def test_contact_loss_and_counts():
    batch, rows = batch_of("contact_prediction")
    task = TapeTask(network(), "contact_prediction").eval()
    outputs = task(batch)
    assert outputs.shape == (sum(len(one.tokens) ** 2 for one in rows), 2)
    kept = batch.targets >= 0
    wanted = torch.nn.functional.cross_entropy(outputs[kept], batch.targets[kept].long())
    torch.testing.assert_close(task.loss_of(outputs, batch), wanted)
    right, chosen = task.counts_of(outputs, batch)
    assert (right <= chosen).all() and (
        chosen <= torch.tensor([len(p.tokens) // 5 for p in rows])
    ).all()


@pytest.mark.parametrize("task", ["secondary_structure", "fluorescence", "go_function"])
def test_fine_tuning_learns_what_can_be_read_off(tmp_path, task):
    folder_of(tmp_path, task)
    _, report, _ = fitted(tmp_path, task, epochs=30, lr=1e-2)
    (value,) = [one["value"] for one in report.results["metrics"].values()]
    assert value > {"secondary_structure": 0.9, "fluorescence": 0.6, "go_function": 0.65}[task]
    assert report.results["metrics"].keys() == {f"test/{TASKS[task].metric}"}
    rows = json.loads((tmp_path / "run" / "figures" / "tape.json").read_text())
    assert {row["note"] for row in rows} == {
        "rebuilt split, not comparable with TAPE's leaderboard"
    }
    assert len({row["method"] for row in rows}) >= 2 and rows[0]["value"] == value
    assert (tmp_path / "run" / "figures" / "tape.png").is_file()


def test_a_frozen_network_stays_as_it_is(tmp_path):
    folder_of(tmp_path, "secondary_structure")
    module, report, _ = fitted(tmp_path, "secondary_structure", frozen=True)
    fresh = network()
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, module.model.state_dict()[name]), name
    other = TapeTask(network(), "secondary_structure")
    assert not torch.equal(module.head.second.bias, other.head.second.bias)
    assert "frozen" in report.results["tables"]["tape"][0]["method"]
    module.train()
    assert module.head.training and not module.model.training


@pytest.mark.parametrize("kind", ["lcplm", "esm2"])
def test_every_trained_parameter_takes_part(kind):
    """Distributed training refuses parameters without a gradient."""
    batch, _ = batch_of("secondary_structure")
    task = TapeTask(network(kind), "secondary_structure")
    task.loss_of(task(batch), batch).backward()
    idle = [n for n, one in task.named_parameters() if one.requires_grad and one.grad is None]
    assert not idle


@pytest.mark.parametrize("task", ["contact_prediction", "remote_homology", "stability"])
def test_official_layout_splits_and_formats(tmp_path, task):
    writer, suffix = (write_lmdb, "lmdb") if task == "contact_prediction" else (write_json, "json")
    test = TASKS[task].tests[0]
    folder_of(tmp_path / TASKS[task].stem, task, writer, suffix, count=6, test=test)
    data = TapeDataModule(tmp_path, task, official=True, max_tokens=256)
    _, report, _ = fitted(tmp_path, task, epochs=1, data=data)
    rows = report.results["tables"]["tape"]
    assert {row["note"] for row in rows} == {"TAPE's split"}
    assert {row["test"] for row in rows} == {test}
    assert data.fingerprint("test")["n"] == 6


def test_the_best_weights_come_back_and_training_stops(tmp_path):
    folder_of(tmp_path, "fluorescence", count=10)

    class Spoil(pl.Callback):
        """After the second validation nothing is any good."""

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch >= 2:
                with torch.no_grad():
                    pl_module.head.main[0].bias.fill_(-1e6)

    best = BestWeights(patience=3)
    module, _, trainer = fitted(tmp_path, "fluorescence", 40, callbacks=[best, Spoil()])
    assert trainer.current_epoch < 10
    assert float(module.head.main[0].bias.detach().min()) > -1e5
    assert 0 < best.best_step < trainer.global_step
    again = BestWeights()
    again.load_state_dict(best.state_dict())
    assert again.best == best.best and again._weights.keys() == best._weights.keys()
    with pytest.raises(ConfigError, match="Nothing logs val/other"):
        fitted(tmp_path, "fluorescence", 1, callbacks=[BestWeights("val/other")])


def test_a_resumed_fine_tuning_ends_like_the_unbroken_one(tmp_path):
    """Stopped within an epoch: data position, best weights and schedule go on."""
    folder_of(tmp_path, "fluorescence", count=12)

    def run(steps, resume=None):
        pl.seed_everything(3, verbose=False)
        recipe = WarmupCosineAdamW(lr=3e-3, total_steps=20)
        module = TapeTask(network(), "fluorescence", recipe)
        best = BestWeights(patience=None)
        trainer = pl.Trainer(
            max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_checkpointing=False, enable_model_summary=False, callbacks=[best],
            use_distributed_sampler=False, default_root_dir=tmp_path,
        )  # fmt: skip
        data = TapeDataModule(tmp_path, "fluorescence", max_tokens=64)
        trainer.fit(module, datamodule=data, ckpt_path=resume)
        return module, best

    whole, best = run(11)
    stop = 6  # of 11 steps, inside the second epoch

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == stop:
                trainer.save_checkpoint(tmp_path / "part.ckpt")

    # The checkpoint is written while training, before the best weights are put back.
    pl.seed_everything(3, verbose=False)
    part = TapeTask(network(), "fluorescence", WarmupCosineAdamW(lr=3e-3, total_steps=20))
    pl.Trainer(
        max_steps=stop, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[BestWeights(patience=None), Save()], default_root_dir=tmp_path,
    ).fit(part, datamodule=TapeDataModule(tmp_path, "fluorescence", max_tokens=64))  # fmt: skip
    batches = len(TapeDataModule(tmp_path, "fluorescence", max_tokens=64).train_dataloader())
    assert batches < stop < 2 * batches
    resumed, again = run(11, resume=str(tmp_path / "part.ckpt"))
    assert again.best == best.best and again.best_step == best.best_step
    for name, value in whole.state_dict().items():
        if name != "tokens_seen":
            assert torch.equal(value, resumed.state_dict()[name]), name


def test_an_undefined_score_is_worse_than_any():
    best = BestWeights()

    class Fake:
        state = type("state", (), {"fn": "fit"})
        sanity_checking, global_step, should_stop = False, 1, False
        callback_metrics: dict = {}  # noqa: RUF012

    module = torch.nn.Linear(1, 1)
    for value, wanted in ((math.nan, math.nan), (-0.5, -0.5), (math.nan, -0.5)):
        Fake.callback_metrics = {"val/score": value}
        best.on_validation_end(Fake(), module)
        assert best.best == wanted or math.isnan(wanted)


def test_bad_settings(tmp_path):
    with pytest.raises(ConfigError, match="data.path=DIR"):
        TapeDataModule(None, "stability")
    with pytest.raises(ConfigError, match="choose one of secondary_structure"):
        TapeDataModule(tmp_path, "ss8")
    with pytest.raises(ConfigError, match="TAPE has no task go_function"):
        TapeDataModule(tmp_path, "go_function", official=True)
    with pytest.raises(DataError, match="holds no stability_train"):
        TapeDataModule(tmp_path, "stability").setup("fit")
    folder_of(tmp_path, "stability", count=5)
    with pytest.raises(DataError, match="at most 3 residues"):
        TapeDataModule(tmp_path, "stability", max_length=3).setup("fit")
    assert len(TapeDataModule(tmp_path, "stability", max_proteins=2).proteins("valid")) == 2


def test_valid_as_test_is_said(tmp_path):
    folder_of(tmp_path, "stability", count=6)
    (tmp_path / "stability_test.jsonl").unlink()
    _, report, _ = fitted(tmp_path, "stability", 1)
    rows = report.results["tables"]["tape"]
    assert {row["test"] for row in rows} == {"valid"}
    assert "tested on valid, which also chose the weights" in rows[0]["note"]
