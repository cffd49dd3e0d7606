"""The task under lightning.Trainer alone, without Hydra: learning, stopping, limits, resuming."""

import math

import lightning.pytorch as pl
import pytest
import torch

from lcframework.callbacks.masked_lm_report import MaskedLMReport
from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.errors import NonFiniteLossError
from lcframework.models.esm2 import ESM2
from lcframework.models.lcplm import LCPLM
from lcframework.paths import sample_dir
from lcframework.tasks.masked_lm import MaskedLMTask
from lcframework.tasks.optimizers import WarmupCosineAdamW


def data(tmp_path, **options):
    valid = str(sample_dir() / "valid.fasta.gz")
    settings = {"max_tokens": 4096, "store_dir": tmp_path / "stores", **options}
    return UniRef50DataModule(train=valid, valid=valid, test=valid, **settings)


def task(family="lcplm", lr=1e-2):
    torch.manual_seed(0)
    model = LCPLM(16, 1) if family == "lcplm" else ESM2(16, 1, 2)
    return MaskedLMTask(model, WarmupCosineAdamW(lr=lr))


def trainer(tmp_path, **options):
    settings = {
        "max_steps": 5,
        "logger": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
    }
    settings |= {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(default_root_dir=tmp_path, log_every_n_steps=1, **{**settings, **options})


@pytest.mark.parametrize("family", ["lcplm", "esm2"])
def test_learns_in_a_plain_script(tmp_path, family):
    fitted, one = trainer(tmp_path, max_steps=25, limit_val_batches=4), task(family)
    module = data(tmp_path)
    before = fitted.validate(one, datamodule=module, verbose=False)[0]["val/loss"]
    fitted.fit(one, datamodule=module)
    after = fitted.validate(one, datamodule=module, verbose=False)[0]["val/loss"]
    assert after < before - 0.1
    logged = fitted.callback_metrics
    assert math.isclose(logged["val/perplexity"], math.exp(logged["val/loss"]), rel_tol=1e-5)


def test_everything_promised_is_logged(tmp_path):
    fitted = trainer(tmp_path)
    fitted.fit(task(), datamodule=data(tmp_path))
    names = (
        "loss",
        "perplexity",
        "accuracy",
        "grad_norm",
        "lr",
        "tokens",
        "tokens_per_s",
        "model_flops_per_s",
    )
    assert {f"train/{name}" for name in names} <= set(fitted.callback_metrics)
    assert fitted.callback_metrics["train/tokens"] == fitted.lightning_module.tokens_seen
    assert fitted.callback_metrics["train/model_flops_per_s"] > 0


def test_a_loss_that_is_not_finite_stops_with_names_and_state(tmp_path):
    one = task()
    with torch.no_grad():
        one.model.lm_head.weight[5] = float("nan")
    module = data(tmp_path)
    with pytest.raises(
        NonFiniteLossError, match="loss became nan at step 0 on the proteins"
    ) as error:
        trainer(tmp_path).fit(one, datamodule=module)
    assert module.store("train").name(0)[:1].isalpha()
    path = tmp_path / "checkpoints" / "nonfinite_step=0.ckpt"
    assert path.name in str(error.value)
    assert torch.load(path, weights_only=True)["global_step"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"limit_train_batches": 2, "max_steps": -1, "max_epochs": 2},
        {"overfit_batches": 2, "max_steps": 4},
        {"accumulate_grad_batches": 3, "max_steps": 2},
        {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None},
    ],
    ids=["limit", "overfit", "accumulate", "validate-mid-epoch"],
)
def test_trainer_switches_work(tmp_path, options):
    fitted = trainer(tmp_path, **options)
    fitted.fit(task(), datamodule=data(tmp_path))
    expected = 4 if options.get("max_steps") == -1 else options.get("max_steps", 5)
    assert fitted.global_step == expected


def test_overfitting_two_batches_learns_them(tmp_path):
    fitted, one = trainer(tmp_path, overfit_batches=2, max_steps=80), task("esm2", lr=2e-2)
    losses = []

    class Record(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(float(outputs["loss"]))

    fitted.callbacks.append(Record())
    fitted.fit(one, datamodule=data(tmp_path))
    assert min(losses[-2:]) < losses[0] - 0.5


def test_ckpt_path_last_resumes(tmp_path):
    saving = pl.callbacks.ModelCheckpoint(tmp_path / "c", save_last=True, every_n_train_steps=2)
    first = trainer(tmp_path, max_steps=4, enable_checkpointing=True, callbacks=[saving])
    first.fit(task(), datamodule=data(tmp_path))
    again = pl.callbacks.ModelCheckpoint(tmp_path / "c", save_last=True, every_n_train_steps=2)
    second = trainer(tmp_path, max_steps=6, enable_checkpointing=True, callbacks=[again])
    one = task()
    second.fit(one, datamodule=data(tmp_path), ckpt_path="last")
    assert second.global_step == 6
    assert one.tokens_seen > first.lightning_module.tokens_seen


def test_report_scores_corpus_and_baselines(tmp_path):
    report = MaskedLMReport(tmp_path)
    one, module = task(), data(tmp_path)
    trainer(tmp_path, callbacks=[report]).test(one, datamodule=module, verbose=False)
    metrics = report.results["metrics"]
    assert metrics["baseline/uniform_perplexity"]["value"] == pytest.approx(20)
    assert 17 < metrics["baseline/unigram_perplexity"]["value"] < 19
    assert metrics["baseline/neighbour_perplexity"]["value"] < 18
    # by hand: one pass over everything, loss averaged over all scored residues at once
    total = count = 0.0
    one.eval()
    with torch.no_grad():
        module.trainer = None
        for batch in module.test_dataloader():
            logits, targets, _ = one.score(batch)
            total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
            count += len(targets)
    assert metrics["test/loss"]["value"] == pytest.approx(total / count, rel=1e-5)
    rows = report.results["tables"]["amino_acids"]
    assert len(rows) == 20
    assert sum(row["n"] for row in rows) == count
    assert sum(row["n"] for row in report.results["tables"]["length_bins"]) == 300
