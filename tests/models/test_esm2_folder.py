"""A Hugging Face folder of ESM-2: the packed network gives transformers' own logits."""

import json

import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM, EsmModel

from lcframework.errors import CheckpointError
from lcframework.models.esm2.model import ESM2
from lcframework.run.networks import find_checkpoint, load_network

PROTEINS = [[0, 20, 32, 7, 4, 9, 2], [0, 5, 6, 2], [0, 32, 32, 11, 2]]


def settings(**changes):
    return {
        "vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1, "hidden_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "position_embedding_type": "rotary", "emb_layer_norm_before": False,
        "token_dropout": True, "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 1026, **changes,
    }  # fmt: skip


def saved(folder, kind=EsmForMaskedLM, **changes):
    torch.manual_seed(0)
    model = kind(EsmConfig(**settings(**changes))).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("token_dropout", [True, False])
def test_each_protein_of_a_pack_gets_transformers_logits(tmp_path, token_dropout):
    theirs = saved(tmp_path / "esm2", token_dropout=token_dropout)
    ours = load_network(find_checkpoint(str(tmp_path / "esm2")))
    assert isinstance(ours, ESM2)
    assert ours.hparams.get("token_dropout", False) == token_dropout
    assert isinstance(ESM2(**ours.hparams), ESM2)
    borders = torch.tensor([0, 7, 11, 16], dtype=torch.int32)
    with torch.no_grad():
        packed = ours(torch.tensor([token for one in PROTEINS for token in one]), borders, 7)
        alone = [theirs(torch.tensor([one])).logits[0] for one in PROTEINS]
    torch.testing.assert_close(packed, torch.cat(alone), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "absolute"}, "position_embedding_type is 'absolute'"),
        ({"emb_layer_norm_before": True}, "emb_layer_norm_before is True"),
        ({"vocab_size": 40}, "vocab_size is 40"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps is 1e-12"),
        ({"intermediate_size": 40}, "no multiple"),
    ],
)
def test_other_kinds_of_esm_are_refused(tmp_path, changes, message):
    saved(tmp_path / "esm", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_network(tmp_path / "esm")


def test_damaged_folders_are_refused(tmp_path):
    folder = tmp_path / "esm"
    saved(folder, EsmModel)
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights.*lm_head"):
        load_network(folder)
    saved(folder)
    (folder / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(CheckpointError, match="not ESM-2's alphabet"):
        load_network(folder)
    (folder / "vocab.txt").unlink()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_network(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(CheckpointError, match="'bert'"):
        load_network(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="no configuration of a model"):
        load_network(folder)
