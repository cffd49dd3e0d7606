"""Exported folders: loaded in a process that knows nothing of them, and what is refused."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, EsmConfig

from lcframework.data.alphabet import TOKENS
from lcframework.errors import CheckpointError
from lcframework.models.lcplm.huggingface import LCPLMForMaskedLM

PLAIN_CODE = """
import sys, torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline
IMPORT
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder TRUST)
model = AutoModelForMaskedLM.from_pretrained(folder TRUST).eval()
inputs = tokenizer(["MKTAYIAKQR", "LAG"], padding=True, return_tensors="pt")
logits = model(**inputs).logits
assert torch.equal(logits, torch.load(folder + "/expected.pt", weights_only=True))
guesses = pipeline("fill-mask", model=folder TRUST)("MKT<mask>YIAKQR")
assert abs(guesses[0]["score"] - pipeline("fill-mask", model=model, tokenizer=tokenizer)(
    "MKT<mask>YIAKQR")[0]["score"]) < 1e-6
model.save_pretrained(folder + "/again")
"""


@pytest.mark.parametrize(
    ("statement", "argument"),
    [("import lcframework.models.lcplm.huggingface", ""), ("", ", trust_remote_code=True")],
    ids=["import", "trust_remote_code"],
)
def test_plain_transformers_code_in_a_new_process_gives_equal_logits(
    folder, network, statement, argument, tmp_path, monkeypatch
):
    batch = AutoTokenizer.from_pretrained(folder)(
        ["MKTAYIAKQR", "LAG"], padding=True, return_tensors="pt"
    )
    logits = network.forward_padded(batch.input_ids, batch.attention_mask)[..., : len(TOKENS)]
    torch.save(logits.detach().clone(), folder / "expected.pt")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    code = PLAIN_CODE.replace("IMPORT", statement).replace(" TRUST", argument)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (folder / "again").iterdir()} == {
        "config.json",
        "model.safetensors",
        "modeling_lcplm.py",
    }


def test_the_folder_holds_safetensors_and_one_import(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "vocab.txt", "README.md"} <= names
    assert [name for name in names if name.endswith((".py", ".bin"))] == ["modeling_lcplm.py"]
    _, statement = (folder / "modeling_lcplm.py").read_text().split("\n\n")
    assert statement.startswith("from lcframework.models.lcplm.huggingface import ")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "lcplm"
    assert {value.split(".")[1] for value in config["auto_map"].values()} <= set(
        statement.replace(",", "").split()
    )
    assert (folder / "model.safetensors").stat().st_mode == (folder / "vocab.txt").stat().st_mode


def test_another_architecture_is_refused_by_name(tmp_path):
    EsmConfig(vocab_size=33, hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="names the architecture 'esm'"):
        LCPLMForMaskedLM.from_pretrained(tmp_path)


def test_another_vocabulary_is_refused(folder):
    lines = (folder / "vocab.txt").read_text().splitlines()
    lines[4], lines[5] = lines[5], lines[4]
    (folder / "vocab.txt").write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match="id 4 is 'L' in config"):
        AutoModelForMaskedLM.from_pretrained(folder)


def test_a_missing_shard_is_named(network, tmp_path):
    LCPLMForMaskedLM.from_network(network).save_pretrained(tmp_path, max_shard_size="10KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        LCPLMForMaskedLM.from_pretrained(tmp_path)


def test_weights_that_are_not_all_there_are_refused_by_the_key(folder):
    """transformers alone draws what is missing at random and warns."""
    weights = load_file(folder / "model.safetensors")
    del weights["lcplm.blocks.1.mixer.dt_proj"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for auto in (AutoModelForMaskedLM, AutoModel):
        with pytest.raises(CheckpointError, match=r"lacks 1 .*blocks\.1\.mixer\.dt_proj"):
            auto.from_pretrained(folder)


def test_weights_of_a_deeper_network_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layers": 1}))
    with pytest.raises(CheckpointError, match=r"holds 10 keys .*blocks\.1\.mixer\.A_log"):
        AutoModelForMaskedLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
        ("model.safetensors.index.json", b"{"),
        ("model.safetensors.index.json", b"[]"),
    ],
)
def test_damaged_files_are_refused_by_name(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{folder}.*again"):
        AutoModelForMaskedLM.from_pretrained(folder)


def test_a_head_is_added_to_an_encoder(folder, tmp_path):
    """The one thing that may be missing: a saved encoder has no head."""
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "encoder")
    model, about = AutoModelForMaskedLM.from_pretrained(
        tmp_path / "encoder", output_loading_info=True
    )
    assert set(about["missing_keys"]) == {"lm_head.weight"}
    assert model.lm_head.weight.isfinite().all()
