"""Checkpoints: whole or absent, verified, and never unpickled."""

import os
import pickle
import zipfile

import pytest
import torch

from lcframework.errors import CheckpointError
from lcframework.run.checkpoints import (
    AtomicCheckpointIO,
    checksum_path,
    is_valid,
    load_checkpoint,
    newest_valid,
    resolve_resume,
)


@pytest.fixture
def two(tmp_path):
    """Two checkpoints, the second newer."""
    paths = [tmp_path / "00000001.ckpt", tmp_path / "00000002.ckpt"]
    for step, path in enumerate(paths, 1):
        AtomicCheckpointIO().save_checkpoint({"global_step": step, "w": torch.arange(1000.0)}, path)
        os.utime(path, ns=(step * 10**9, step * 10**9))
    return paths


def test_round_trip_leaves_no_temporary_file(two):
    assert torch.equal(load_checkpoint(two[1])["w"], torch.arange(1000.0))
    names = sorted(path.name for path in two[0].parent.iterdir())
    assert names == [f"0000000{i}.ckpt{end}" for i in (1, 2) for end in ("", ".sha256")]


def test_newest_valid_wins(two):
    assert newest_valid(two[0].parent) == two[1]
    assert resolve_resume(None, two[0].parent) == two[1]


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_damaged_one_is_skipped_with_a_warning(two, damage, caplog):
    data = bytearray(two[1].read_bytes())
    data[len(data) // 2] ^= 1
    two[1].write_bytes(data if damage == "flip" else data[:-100])
    assert not is_valid(two[1])
    assert newest_valid(two[0].parent) == two[0]
    assert "00000002.ckpt is damaged" in caplog.text


def test_failed_write_keeps_the_earlier_file(two, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match=r"No space.*MB are free.*same run_id"):
        AtomicCheckpointIO().save_checkpoint({}, two[1])
    assert load_checkpoint(two[1])["global_step"] == 2
    assert len(list(two[1].parent.iterdir())) == 4  # two files and their checksums


def test_a_cut_checkpoint_without_checksum_is_damaged(two, caplog):
    checksum_path(two[1]).unlink()
    assert newest_valid(two[0].parent) == two[1]
    two[1].write_bytes(two[1].read_bytes()[:-2000])
    assert newest_valid(two[0].parent) == two[0]
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_checkpoint(two[1])


def test_a_zip_file_that_is_no_checkpoint_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as file:
        file.writestr("readme", "no tensors")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_resume_rule(two, tmp_path):
    empty = tmp_path / "none"
    assert resolve_resume(None, empty) is None
    assert resolve_resume(str(two[0]), empty) == two[0]
    assert resolve_resume("last", two[0].parent) == two[1]
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        resolve_resume("last", empty)
    with pytest.raises(CheckpointError, match="no such file"):
        resolve_resume("nowhere.ckpt", empty)


class Evil:
    def __reduce__(self):
        return (os.system, ("touch evil-was-here",))


def test_code_in_a_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.ckpt", pickle_module=pickle)
    with pytest.raises(CheckpointError, match="foreign code"):
        load_checkpoint("evil.ckpt")
    assert not (tmp_path / "evil-was-here").exists()


def test_removing_takes_the_checksum_along(two):
    AtomicCheckpointIO().remove_checkpoint(str(two[0]))
    assert not two[0].exists()
    assert not checksum_path(two[0]).exists()
