"""A run that was interrupted and resumed trains on exactly the batches of an unbroken one."""

import hashlib
import itertools
import warnings
from pathlib import Path

import pytest
import torch
from fake_proteins import random_proteins, write_fasta
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.errors import DataError


class Recorder(LightningModule):
    """Remembers every batch: its proteins, masks, epoch and learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trace: list[tuple] = []
        self.validations: list[int] = []

    def training_step(self, batch, batch_idx):
        digest = hashlib.sha256(batch.tokens.numpy().tobytes() + batch.labels.numpy().tobytes())
        self.trace.append(
            (
                self.current_epoch,
                batch_idx,
                self.global_step,
                self.trainer.fit_loop.epoch_loop._batches_that_stepped,
                self.optimizers().param_groups[0]["lr"],
                tuple(batch.sequence_ids.tolist()),
                digest.hexdigest()[:12],
            )
        )
        return (self.weight - batch.num_tokens % 7) ** 2

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self.validations.append(len(self.trace))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class SaveAt(Callback):
    """Saves a checkpoint in one hook, when a given number of batches is done."""

    def __init__(self, hook: str, batches: int, path: Path) -> None:
        self.batches, self.path = batches, path
        setattr(self, hook, self._save)

    def _save(self, trainer, module, *_):
        if len(module.trace) == self.batches and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


class StopAt(Callback):
    """Asks for a stop after a given number of batches, as a signal handler would."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer, module, *_):
        if len(module.trace) >= self.batches:
            trainer.should_stop = True


@pytest.fixture(scope="module")
def fasta(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fasta")
    return write_fasta(folder / "train.fasta", random_proteins(60))


def data_module(fasta: Path, valid: bool = False, **settings) -> UniRef50DataModule:
    settings = {"max_tokens": 256, "store_dir": fasta.parent / "stores", "seed": 3, **settings}
    return UniRef50DataModule(train=str(fasta), valid=str(fasta) if valid else None, **settings)


def fit(data, ckpt_path=None, callbacks=(), **settings) -> tuple[Trainer, Recorder]:
    module = Recorder()
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "num_sanity_val_steps": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(**{**defaults, **settings}, callbacks=list(callbacks))
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer, module


def epoch_length(fasta: Path) -> int:
    data = data_module(fasta)
    data.setup("fit")
    return len(data.train_dataloader())


# Where the checkpoint is written. "after" is trainer.save_checkpoint once fit has returned.
HOOKS = ("on_train_batch_end", "on_train_epoch_end", "on_validation_end", "after")
EPOCHS = 3


def optimizer_steps(length: int, accumulate: int, batches: int) -> int:
    """Optimizer steps that `batches` batches make; an epoch's last step may be short."""
    whole, rest = divmod(batches, length)
    assert rest % accumulate == 0, "the test must stop at an optimizer step"
    return whole * -(-length // accumulate) + rest // accumulate


def interrupted(fasta, path, stop, how, hook, resume_by, valid=False, workers=0, **settings):
    """The first `stop` batches of one run, and the rest of a second one that resumes from it."""
    length = settings.get("limit_train_batches", epoch_length(fasta))
    accumulate = settings.get("accumulate_grad_batches", 1)
    callbacks = [] if hook == "after" else [SaveAt(hook, stop, path)]
    if how == "max_steps":
        limits = {"max_steps": optimizer_steps(length, accumulate, stop), "max_epochs": -1}
    elif how == "should_stop":
        callbacks.append(StopAt(stop))
        limits = {"max_epochs": EPOCHS}
    else:
        limits = {"max_epochs": stop // length}
    data = data_module(fasta, valid, num_workers=workers)
    trainer, first = fit(data, callbacks=callbacks, **limits, **settings)
    assert len(first.trace) == stop
    if hook == "after":
        trainer.save_checkpoint(path)
    limits = {"max_epochs": EPOCHS}
    if resume_by == "max_steps":
        steps = optimizer_steps(length, accumulate, EPOCHS * length)
        limits = {"max_steps": steps, "max_epochs": -1}
    data = data_module(fasta, valid, num_workers=workers)
    _, second = fit(data, path, **limits, **settings)
    return first, second


@pytest.fixture(scope="module")
def whole(fasta) -> Recorder:
    """An unbroken run; its trace does not depend on workers or validation."""
    return fit(data_module(fasta), max_epochs=EPOCHS)[1]


CASES = [
    case
    for case in itertools.product(
        ("inside", "end", "inside second", "end second"),
        ("max_steps", "should_stop", "max_epochs"),
        HOOKS,
        ("max_epochs", "max_steps"),
    )
    # max_epochs stops at epoch ends only; validation runs at epoch ends only
    if "inside" not in case[0] or (case[1] != "max_epochs" and case[2] != "on_validation_end")
]


@pytest.mark.parametrize(("place", "how", "hook", "resume_by"), CASES)
def test_resume_consumes_exactly_the_rest(fasta, whole, tmp_path, place, how, hook, resume_by):
    length = epoch_length(fasta)
    stop = {"inside": 3, "end": length, "inside second": length + 3, "end second": 2 * length}
    valid = hook in ("on_validation_end", "after")
    first, second = interrupted(
        fasta, tmp_path / "c.ckpt", stop[place], how, hook, resume_by, valid=valid
    )
    assert first.trace + second.trace == whole.trace


def test_the_unbroken_run_shows_every_protein_once_per_epoch(fasta, whole):
    for epoch in range(EPOCHS):
        ids = [i for entry in whole.trace if entry[0] == epoch for i in entry[5]]
        assert sorted(ids) == list(range(60))
    orders = {tuple(entry[5] for entry in whole.trace if entry[0] == e) for e in range(EPOCHS)}
    assert len(orders) == EPOCHS


@pytest.mark.parametrize("hook", ["on_train_batch_end", "after"])
@pytest.mark.parametrize("place", ["inside", "end"])
def test_resume_with_workers(fasta, whole, tmp_path, hook, place):
    stop = epoch_length(fasta) + 3 if place == "inside" else epoch_length(fasta)
    first, second = interrupted(
        fasta, tmp_path / "c.ckpt", stop, "max_steps", hook, "max_epochs", workers=2
    )
    assert first.trace + second.trace == whole.trace


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end", "after"])
@pytest.mark.parametrize("resume_by", ["max_epochs", "max_steps"])
@pytest.mark.parametrize("limit", [None, 5])
def test_resume_with_accumulation_and_limits(fasta, tmp_path, hook, resume_by, limit):
    settings = {"accumulate_grad_batches": 2}
    if limit:
        settings["limit_train_batches"] = limit
    length = limit or epoch_length(fasta)
    for stop in (2, length, length + 4):
        path = tmp_path / f"{stop}.ckpt"
        first, second = interrupted(fasta, path, stop, "max_steps", hook, resume_by, **settings)
        unbroken = fit(data_module(fasta), max_epochs=EPOCHS, **settings)[1]
        assert first.trace + second.trace == unbroken.trace


def test_no_warning_that_the_loader_cannot_resume(fasta, tmp_path, recwarn):
    trainer, _ = fit(data_module(fasta), max_steps=3, max_epochs=-1)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    trainer = Trainer(accelerator="cpu", logger=False, max_steps=4, enable_checkpointing=False)
    trainer.fit(Recorder(), datamodule=data_module(fasta), ckpt_path=tmp_path / "c.ckpt")
    assert not [w for w in recwarn if "not resumable" in str(w.message)]


def test_resume_twice_in_one_epoch(fasta, whole, tmp_path):
    traces = []
    path = None
    for steps in (2, 5, EPOCHS * epoch_length(fasta)):
        trainer, module = fit(data_module(fasta), path, max_steps=steps, max_epochs=-1)
        path = tmp_path / f"{steps}.ckpt"
        trainer.save_checkpoint(path)
        traces += module.trace
    assert traces == whole.trace


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_backward"])
@pytest.mark.parametrize("place", ["first", "inside", "last", "first of the second"])
def test_resume_from_within_a_batch(fasta, whole, tmp_path, hook, place):
    length = epoch_length(fasta)
    batch = {"first": 0, "inside": 4, "last": length - 1, "first of the second": length}[place]

    class Fail(Callback):
        def fail(self, trainer, module, *_):
            done = len(module.trace) - (hook == "on_before_backward")
            if done == batch:
                trainer.save_checkpoint(tmp_path / "c.ckpt")
                raise KeyError("made up")

    callback = Fail()
    setattr(callback, hook, callback.fail)
    with pytest.raises(KeyError, match="made up"):
        fit(data_module(fasta), callbacks=[callback], max_epochs=EPOCHS)
    _, second = fit(data_module(fasta), tmp_path / "c.ckpt", max_epochs=EPOCHS)
    assert second.trace == whole.trace[batch:]


def test_resume_from_an_epoch_start(fasta, whole, tmp_path):
    length = epoch_length(fasta)
    save = SaveAt("on_train_epoch_start", length, tmp_path / "c.ckpt")
    fit(data_module(fasta), callbacks=[save], max_epochs=EPOCHS)
    _, second = fit(data_module(fasta), tmp_path / "c.ckpt", max_epochs=EPOCHS)
    assert second.trace == whole.trace[length:]


@pytest.mark.parametrize("every", [3, 4])
def test_resume_from_last_with_model_checkpoint(fasta, whole, tmp_path, every):
    def checkpoint():
        return ModelCheckpoint(tmp_path, every_n_train_steps=every, save_last=True, save_top_k=1)

    _, first = fit(data_module(fasta), callbacks=[checkpoint()], max_steps=2 * every + 1)
    _, second = fit(data_module(fasta), "last", callbacks=[checkpoint()], max_epochs=EPOCHS)
    assert second.trace == whole.trace[-len(second.trace) :]
    assert len(second.trace) >= len(whole.trace) - len(first.trace)


def test_validation_inside_an_epoch_survives_a_resume(fasta, tmp_path):
    settings = {"val_check_interval": 2, "max_epochs": 2}
    unbroken = fit(data_module(fasta, valid=True), **settings)[1]
    save = SaveAt("on_train_batch_end", 3, tmp_path / "c.ckpt")
    fit(data_module(fasta, valid=True), callbacks=[save], **settings)
    second = fit(data_module(fasta, valid=True), tmp_path / "c.ckpt", **settings)[1]
    assert second.trace == unbroken.trace[3:]
    assert [3 + done for done in second.validations] == unbroken.validations[1:]


def test_other_batches_are_refused_inside_an_epoch_only(fasta, tmp_path):
    for stop in (3, epoch_length(fasta)):
        trainer, _ = fit(data_module(fasta), max_steps=stop, max_epochs=-1)
        trainer.save_checkpoint(tmp_path / f"{stop}.ckpt")
    with pytest.raises(DataError, match=r"inside epoch 0 .*max_tokens 256 \(now 300\)"):
        fit(data_module(fasta, max_tokens=300), tmp_path / "3.ckpt", max_epochs=2)
    _, second = fit(data_module(fasta, max_tokens=300), tmp_path / f"{stop}.ckpt", max_epochs=2)
    assert {entry[0] for entry in second.trace} == {1}


def test_testing_a_checkpoint_needs_no_training_data(fasta, tmp_path):
    trainer, _ = fit(data_module(fasta), max_steps=3, max_epochs=-1)
    trainer.save_checkpoint(tmp_path / "c.ckpt")

    class Tester(Recorder):
        def test_step(self, batch, batch_idx):
            self.trace.append(batch.sequence_ids.tolist())

    module = Tester()
    data = UniRef50DataModule(test=str(fasta), max_tokens=256, store_dir=fasta.parent / "stores")
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.test(module, datamodule=data, ckpt_path=tmp_path / "c.ckpt", verbose=False)
    assert list(itertools.chain(*module.trace)) == list(range(60))


def test_overfit_batches_repeat_the_same_packs(fasta):
    _, module = fit(data_module(fasta, valid=True), overfit_batches=2, max_epochs=3)
    digests = [entry[-1] for entry in module.trace]
    assert digests == digests[:2] * 3
    assert digests[0] != digests[1]
