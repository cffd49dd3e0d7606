"""`lcf export`: a run becomes a folder; what it refuses."""

import pytest
import torch
from lightning import pytorch as pl

from lcframework.cli.main import main
from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.models.esm2.model import ESM2
from lcframework.models.lcplm import LCPLM
from lcframework.paths import sample_dir
from lcframework.tasks.masked_lm import MaskedLMTask


def trained(folder, network, monkeypatch):
    """Two steps of training; the checkpoint file."""
    monkeypatch.setenv("LCF_STORES", str(folder / "stores"))
    data = UniRef50DataModule(
        train=str(sample_dir() / "train.fasta.gz"), valid=None, max_tokens=2048
    )
    trainer = pl.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, use_distributed_sampler=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(MaskedLMTask(network), datamodule=data)
    path = folder / "00000002.ckpt"
    trainer.save_checkpoint(path)
    return path


def test_exports_what_was_trained_and_never_overwrites(tmp_path, monkeypatch, capsys):
    from transformers import AutoModelForMaskedLM

    network = LCPLM(d_model=12, n_layers=1, d_state=4)
    path = trained(tmp_path, network, monkeypatch)
    main(["export", str(path), "--to", str(tmp_path / "out")])
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    tokens = torch.tensor([0, 5, 6, 2])
    expected = network.eval()(tokens, torch.tensor([0, 4], dtype=torch.int32))[:, :33]
    torch.testing.assert_close(model(tokens[None]).logits[0], expected, atol=1e-6, rtol=1e-5)
    assert "00000002.ckpt" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(SystemExit) as caught:
        main(["export", str(path), "--to", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert not list(tmp_path.glob(".out*"))


def test_a_transformer_is_refused_with_its_own_way(tmp_path, monkeypatch, capsys):
    path = trained(tmp_path, ESM2(d_model=16, n_layers=1, n_heads=2), monkeypatch)
    with pytest.raises(SystemExit):
        main(["export", str(path), "--to", str(tmp_path / "out")])
    assert "EsmForMaskedLM already" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_run_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "nowhere"), "--to", str(tmp_path / "out")])
    assert "nowhere" in capsys.readouterr().err
