"""A short training that draws random numbers, with its loss trace and the modes of its modules."""

import lightning.pytorch as pl
import torch

from lcframework.data.uniref50 import UniRef50DataModule
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
        self.modes.append([*(module.training for module in pl_module.modules()), *flags()])


def flags():
    """Process-wide switches that could change what training computes."""
    cudnn = torch.backends.cudnn
    return [
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_autocast_enabled("cpu"),
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
    ]


def trained(tmp_path, monkeypatch, *callbacks, loggers=False):
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    pl.seed_everything(5, verbose=False)
    task = MaskedLMTask(Noisy(d_model=12, n_layers=1, d_state=4))
    data = UniRef50DataModule(train=str(sample_dir() / "train.fasta.gz"), max_tokens=1024)
    losses = Losses()
    trainer = pl.Trainer(
        max_steps=5, accelerator="cpu", logger=loggers, enable_checkpointing=False,
        enable_progress_bar=False, use_distributed_sampler=False, default_root_dir=tmp_path,
        callbacks=[*callbacks, losses],
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return losses, task
