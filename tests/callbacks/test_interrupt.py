"""Ctrl-C and SIGTERM under lightning.Trainer alone: the step is finished, saved, and resumable."""

import signal

import lightning.pytorch as pl
import pytest
import torch

from lcframework.callbacks.exact_resume import ExactResume
from lcframework.callbacks.interrupt import SaveOnInterrupt
from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.errors import RunInterrupted
from lcframework.models.lcplm import LCPLM
from lcframework.paths import sample_dir
from lcframework.run.checkpoints import AtomicCheckpointIO
from lcframework.tasks.masked_lm import MaskedLMTask

STEPS, ACCUMULATED = 6, 3


class Send(pl.Callback):
    """Sends this process a signal while the given batch is computed."""

    def __init__(self, batch: int, signum: int) -> None:
        self.batch, self.signum = batch, signum

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.batch:
            # To this thread: one sent to the process may arrive late, two of them as one.
            signal.raise_signal(self.signum)


def fit(tmp_path, *callbacks, ckpt_path=None):
    torch.manual_seed(0)
    task = MaskedLMTask(LCPLM(16, 1))
    sample = str(sample_dir() / "valid.fasta.gz")
    data = UniRef50DataModule(train=sample, store_dir=tmp_path / "stores", max_tokens=2048)
    trainer = pl.Trainer(
        max_steps=STEPS,
        accumulate_grad_batches=ACCUMULATED,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ExactResume(), SaveOnInterrupt(tmp_path / "checkpoints"), *callbacks],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data, ckpt_path=ckpt_path)
    return task.state_dict()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_saved_after_the_step_and_resumed_exactly(tmp_path, signum, capfd):
    expected = fit(tmp_path)
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    # Batch 7 is the second of the third step's three.
    with pytest.raises(RunInterrupted, match="after step 3") as stopped:
        fit(tmp_path, Send(7, signum))
    assert stopped.value.signum == signum
    assert "finished and saved first" in capfd.readouterr().err
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = fit(tmp_path, ckpt_path=str(tmp_path / "checkpoints" / "00000003.ckpt"))
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    with pytest.raises(SystemExit) as stopped:  # what Lightning makes of it
        fit(tmp_path, Send(7, signal.SIGINT), Send(7, signal.SIGINT))
    assert isinstance(stopped.value.__context__, KeyboardInterrupt)
    assert not (tmp_path / "checkpoints").exists()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it ignored


def test_a_signal_that_the_process_ignores_stays_ignored(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `nohup` or a script's background job does
    fit(tmp_path, Send(7, signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert not (tmp_path / "checkpoints").exists()
