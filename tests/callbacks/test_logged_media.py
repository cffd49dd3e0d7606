"""What protocols in the loop send to W&B, TensorBoard and the CSV log: scalars, a table, a plot."""

import csv
import json

import pytest
import torch
from gym_files import ROWS, reference, reference_row, write
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from tape_files import write_jsonl
from traced_training import trained

from lcframework.callbacks.logged_media import log_picture, log_table, markdown
from lcframework.callbacks.proteingym_in_loop import ProteinGymInLoop
from lcframework.callbacks.tape_probe import TapeProbeInLoop
from lcframework.run.csv_log import RunCSVLogger
from lcframework.run.wandb_log import wandb_logger

TABLES = ("proteingym_summary", "proteingym_assays")


def protocols(tmp_path):
    gym, tape = tmp_path / "gym", tmp_path / "tape"
    gym.mkdir()
    tape.mkdir()
    reference(gym, [reference_row("A_1"), reference_row("A_2", kind="Binding")])
    write(gym / "A_1.csv", ROWS)
    write(gym / "A_2.csv", ROWS[:3])
    for split in ("train", "valid", "test"):
        rows = [{"primary": one, "ss3": [0, 1, 2, 0, 1]} for one in ("MKTAY", "MATWY", "GKSAF")]
        write_jsonl(tape / f"secondary_structure_{split}.jsonl", rows)
    return [
        ProteinGymInLoop(tmp_path / "run", gym, every_n_steps=2, resamples=10),
        TapeProbeInLoop(tmp_path / "run", tape, every_n_steps=4),
    ]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A training with both protocols and three loggers, beside one without any of them."""
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_SILENT"):
        monkeypatch.setenv(name, {"WANDB_MODE": "offline"}.get(name, "true"))
    plain = trained(tmp_path, monkeypatch)
    loggers = [
        RunCSVLogger(tmp_path / "run"),
        TensorBoardLogger(str(tmp_path / "run"), name="tensorboard", version=""),
        wandb_logger(str(tmp_path / "run"), "tests"),
    ]
    looked = trained(tmp_path, monkeypatch, *protocols(tmp_path), loggers=loggers)
    wandb.finish()
    wandb.teardown()  # it would keep settings for the next test
    return tmp_path / "run", plain, looked


def test_scalars_table_and_plot_reach_every_logger_and_the_training_is_the_same(run):
    folder, (without, plain), (with_both, looked) = run
    assert without.values == with_both.values and without.modes == with_both.modes
    for name, value in plain.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name
    check_csv(folder)
    check_tensorboard(folder / "tensorboard")
    (offline,) = (folder / "wandb").glob("offline-run-*")
    check_wandb(offline / "files" / "media", folder / "figures")


def check_csv(folder):
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["proteingym/spearman"]]
    assert [row["step"] for row in rows] == ["1", "3", "4"]


def check_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    for name, steps in (("proteingym", [1, 3, 4]), ("tape_probe", [3, 4])):
        pictures = events.Images(f"{name}/picture")
        assert [one.step for one in pictures] == steps
        assert pictures[0].encoded_image_string.startswith(b"\x89PNG") and pictures[0].width > 400
    (text, *_) = events.Tensors("proteingym/tables/proteingym_summary/text_summary")
    assert b"| BLOSUM62 |" in text.tensor_proto.string_val[0]
    assert len(events.Tensors("tape_probe/tables/tape_probe/text_summary")) == 2


def check_wandb(media, figures):
    tables = media / "table"
    for name in TABLES:
        assert len(list(tables.glob(f"proteingym/tables/{name}_*.table.json"))) == 3
    last = max(tables.glob("tape_probe/tables/tape_probe_*"), key=lambda one: one.stat().st_mtime)
    logged, written = (
        json.loads(last.read_text()),
        json.loads((figures / "tape_probe.json").read_text()),
    )
    assert [dict(zip(logged["columns"], row, strict=True)) for row in logged["data"]] == written
    images = sorted((media / "images").rglob("*.png"))
    assert sorted(one.parent.name for one in images) == ["proteingym"] * 3 + ["tape_probe"] * 2
    assert (figures / "proteingym.png").read_bytes() in [one.read_bytes() for one in images]


@pytest.mark.parametrize(("rank", "calls"), [(0, 2), (1, 0)])
def test_rank_0_alone_logs(rank, calls, tmp_path, monkeypatch):
    logged = []
    for name in ("log_table", "log_image"):
        monkeypatch.setattr(WandbLogger, name, lambda *a, **k: logged.append((a, k)))

    class Trainer:
        is_global_zero = rank == 0
        loggers = (WandbLogger.__new__(WandbLogger), RunCSVLogger(tmp_path))

    log_table(Trainer(), "t", [{"method": "a", "value": None}], 3)
    log_picture(Trainer(), "p", tmp_path / "p.png", 3)
    assert len(logged) == calls
    if calls:
        (_, table), (picture, _) = logged
        assert table == {"columns": ["method", "value"], "data": [["a", None]], "step": 3}
        assert picture[1:] == ("p", [str(tmp_path / "p.png")])


def test_a_table_as_markdown():
    rows = [{"method": "a|b", "value": 0.123456, "n": 3}, {"method": "c", "value": None, "n": 0}]
    assert markdown(rows).splitlines() == [
        "| method | value | n |",
        "| --- | --- | --- |",
        "| a\\|b | 0.1235 | 3 |",
        "| c | undefined | 0 |",
    ]
