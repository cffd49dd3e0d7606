"""ProteinGym and the downstream probe in the loop on two processes: the same tables as on one, and
the training as it is without them."""

import json

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from gym_files import ROWS, TARGET, reference, reference_row, write
from tape_files import write_jsonl

from lcframework.callbacks.proteingym_in_loop import ProteinGymInLoop
from lcframework.callbacks.proteingym_report import ProteinGymReport
from lcframework.callbacks.tape_probe import TapeProbeInLoop
from lcframework.data.proteingym.datamodule import ProteinGymDataModule
from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.models.lcplm import LCPLM
from lcframework.paths import sample_dir
from lcframework.tasks.masked_lm import MaskedLMTask
from lcframework.tasks.variant_effects.inference import Inference
from lcframework.tasks.variant_effects.task import VariantEffectTask

OTHER = TARGET[::-1]
THIRD = TARGET[1:]


def rows_of(target):
    rows = []
    for number, position in enumerate((2, 4, 7)):
        mutated = target[: position - 1] + "W" + target[position:]
        rows.append((f"{target[position - 1]}{position}W", mutated, (number * 7) % 5, number % 2))
    return rows


@pytest.fixture
def gym(tmp_path):
    """Three targets, which two ranks cannot share evenly, and two assays of one of them."""
    folder = tmp_path / "gym"
    folder.mkdir()
    rows = [
        reference_row("A_1"),
        reference_row("A_2", kind="Binding"),
        reference_row("B_1", OTHER),
        reference_row("C_1", THIRD, kind="Stability"),
    ]
    reference(folder, rows)
    write(folder / "A_1.csv", ROWS)
    write(folder / "A_2.csv", ROWS[:3])
    write(folder / "B_1.csv", rows_of(OTHER))
    write(folder / "C_1.csv", rows_of(THIRD))
    return folder


def tape(tmp_path):
    """An odd number of proteins, whose secondary structure follows the letters."""
    folder = tmp_path / "tape"
    folder.mkdir()
    for seed, split in enumerate(("train", "valid", "test")):
        generator = np.random.default_rng(seed)
        words = ["".join(generator.choice(list("LAGVSERT"), 12)) for _ in range(9)]
        rows = [{"primary": one, "ss3": ["LAGVSERT".index(x) % 3 for x in one]} for one in words]
        write_jsonl(folder / f"secondary_structure_{split}.jsonl", rows)
    return folder


def trained(tmp_path, *callbacks):
    pl.seed_everything(5, verbose=False)
    task = MaskedLMTask(LCPLM(d_model=12, n_layers=1, d_state=4))
    data = UniRef50DataModule(
        train=str(sample_dir() / "valid.fasta.gz"), store_dir=tmp_path / "stores", max_tokens=1024
    )
    trainer = pl.Trainer(
        max_steps=4, accelerator="cpu", devices=2, strategy="ddp_spawn", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=tmp_path, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return task


def rounded(rows):
    """Scores differ in the last bits by the sizes of packs; the tables are rounded already."""
    return sorted((row["DMS_id"], row["method"], row["spearman"]) for row in rows)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds_and_train_as_without(tmp_path, gym):
    plain = trained(tmp_path)
    looking = ProteinGymInLoop(tmp_path / "run", gym, every_n_steps=2, resamples=10)
    probing = TapeProbeInLoop(tmp_path / "run", tape(tmp_path), every_n_steps=2)
    looked = trained(tmp_path, looking, probing)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name
    figures = tmp_path / "run" / "figures"
    steps = (figures / "proteingym_steps.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in steps] == ["step", "2", "4"]
    check_probe(looked, figures, tmp_path)
    report = ProteinGymReport(tmp_path / "alone", resamples=10)
    alone = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[report], enable_progress_bar=False,
        enable_checkpointing=False,
    )  # fmt: skip
    alone.test(VariantEffectTask(looked.model), datamodule=ProteinGymDataModule(gym), verbose=False)
    found = json.loads((figures / "proteingym_assays.json").read_text())
    assert rounded(found) == rounded(report.results["tables"]["proteingym_assays"])
    assert {row["DMS_id"] for row in found} == {"A_1", "A_2", "B_1", "C_1"}
    summary = json.loads((figures / "proteingym_summary.json").read_text())
    assert summary == report.results["tables"]["proteingym_summary"]


def check_probe(looked, figures, tmp_path):
    """What the two ranks found, against a look of one process at the same weights."""
    steps = (figures / "tape_probe_steps.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in steps] == ["step", "2", "4"]
    alone = TapeProbeInLoop(tmp_path / "alone", tmp_path / "tape")
    alone.prepare()

    class One:
        global_rank, world_size = 0, 1

    found = alone.look(One(), looked, Inference(looked.model))
    (score,) = [one["value"] for one in found.values()]
    row = json.loads((figures / "tape_probe.json").read_text())[0]
    assert row["value"] == pytest.approx(score) and 0.3 < score <= 1
