"""Configurations of real families: read without torch, and no weight of the model left out.

The count of trained scalars over all components must equal the real model's, which transformers
builds from the same file (on the meta device): a part that was overlooked would be missing.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lcframework.circuits.assemble import assemble, totals
from lcframework.circuits.read_model import read_model
from lcframework.paths import conf_dir

CONFIGS = Path(__file__).parents[1] / "fixtures" / "model_configs"
SMALL = {
    "vocab_size": 96,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
FAMILIES = {
    "llama": GROUPED,
    "llama-bias": {**GROUPED, "attention_bias": True, "mlp_bias": True, "head_dim": 16},
    "llama-tied": {**GROUPED, "tie_word_embeddings": True},
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 16},
    "qwen3-default": GROUPED,
    "gemma": {**GROUPED, "head_dim": 16},
    "gemma2": GROUPED,
    "gemma3_text": {**GROUPED, "head_dim": 16},
    "mixtral": {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen3_moe": {
        **GROUPED,
        "head_dim": 16,
        "moe_intermediate_size": 40,
        "num_experts": 5,
        "num_experts_per_tok": 2,
    },
    "qwen3_moe-mixed": {
        **GROUPED,
        "head_dim": 16,
        "moe_intermediate_size": 40,
        "num_experts": 5,
        "mlp_only_layers": [0],
    },
    "esm": {
        **SMALL,
        "vocab_size": 33,
        "pad_token_id": 1,
        "mask_token_id": 32,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "emb_layer_norm_before": False,
    },
    "esm-absolute": {
        **SMALL,
        "vocab_size": 33,
        "pad_token_id": 1,
        "mask_token_id": 32,
        "max_position_embeddings": 50,
        "position_embedding_type": "absolute",
        "emb_layer_norm_before": True,
    },
    "mamba": {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3},
    "mamba-bias": {
        "vocab_size": 96,
        "hidden_size": 40,
        "num_hidden_layers": 2,
        "use_bias": True,
        "state_size": 8,
        "expand": 3,
        "tie_word_embeddings": False,
    },
}


def parameters(where):
    return totals(assemble(read_model(where))).parameters


@pytest.mark.parametrize("name", FAMILIES)
def test_no_weight_is_left_out(name, tmp_path):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    family, values = name.split("-")[0], FAMILIES[name]
    config = AutoConfig.for_model(family, **values)
    config.save_pretrained(tmp_path)
    masked = family == "esm"
    with torch.device("meta"):
        auto = AutoModelForMaskedLM if masked else AutoModelForCausalLM
        model = auto.from_config(config)
    total = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    if masked:  # reads attention maps, and is no part of the logits
        total -= sum(p.numel() for p in model.esm.contact_head.parameters())
    read = read_model(tmp_path)
    assert read.unknown == ()
    assert parameters(tmp_path) == total
    # The same where a file leaves out what is transformers' default.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **values}))
    assert parameters(tmp_path) == total


@pytest.mark.parametrize(
    ("name", "millions"),
    [("llama-3.1-8b", 8030), ("qwen3-8b", 8191), ("esm2_t33_650M_UR50D", 651)],
)
def test_public_models_have_their_published_size(name, millions):
    model = read_model(CONFIGS / name)
    assert model.unknown == ()
    assert round(parameters(CONFIGS / name) / 1e6) == millions


@pytest.mark.parametrize(
    "path",
    sorted((conf_dir() / "model").glob("[!h]*_*.yaml")),  # hf*.yaml name somebody else's
    ids=lambda p: p.stem,
)
def test_every_model_of_ours_is_read_completely(path):
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    if path.stem.split("_")[1] not in ("tiny", "2m", "8m"):  # the others are the same code, larger
        assert read_model(path).unknown == ()
        return
    with torch.device("meta"):
        model = instantiate(OmegaConf.load(path))
    assert parameters(path) == model.num_parameters()


def test_our_export_gives_the_same_as_our_yaml(tmp_path):
    from lcframework.models.lcplm.hf_config import LCPLMConfig

    LCPLMConfig(d_model=128, n_layers=4).save_pretrained(tmp_path)
    exported, ours = read_model(tmp_path), read_model(conf_dir() / "model" / "lcplm_tiny.yaml")
    assert exported.unknown == ()
    assert (exported.blocks, exported.width, exported.vocabulary) == (
        ours.blocks,
        ours.width,
        ours.vocabulary,
    )


def test_a_runs_config_is_read(tmp_path):
    text = (
        "model:\n  _target_: lcframework.models.lcplm.model.LCPLM\n  d_model: 64\n  n_layers: 2\n"
    )
    (tmp_path / "config.yaml").write_text("experiment: x\n" + text)
    assert read_model(tmp_path / "config.yaml").layers == 2


def test_reading_imports_no_torch():
    code = (
        "import sys\n"
        "from lcframework.circuits.read_model import read_model\n"
        "from lcframework.circuits.assemble import assemble\n"
        f"assemble(read_model({str(CONFIGS / 'qwen3-8b')!r}))\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_multimodal_config_counts_the_text_and_names_the_rest(tmp_path):
    text = {"model_type": "gemma3_text", **FAMILIES["gemma3_text"]}
    raw = {"model_type": "gemma3", "text_config": text, "vision_config": {"depth": 3}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    model = read_model(tmp_path)
    assert model.family == "gemma3_text"
    assert [part for part, _ in model.unknown] == ["vision_config"]
    assert "d[vision_config]" in totals(assemble(model)).depth.variables


def test_scaled_rope_and_quantisation_are_noted(tmp_path):
    model = read_model(CONFIGS / "llama-3.1-8b")
    assert any("llama3" in note for note in model.notes)
    raw = {"model_type": "llama", **GROUPED, "quantization_config": {"bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert any("precision, not the depth" in note for note in read_model(tmp_path).notes)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"hidden_act": "xielu"}, "activation xielu"),
        ({"rope_scaling": {"rope_type": "spiral"}}, "rope spiral"),
        ({"memory_slots": 12}, "memory_slots"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "custom code"),
    ],
)
def test_unknown_parts_are_named_and_stay_in_the_total(change, part, tmp_path):
    raw = {"model_type": "llama", **GROUPED, **change}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    model = read_model(tmp_path)
    assert part in [name for name, _ in model.unknown]
    total = totals(assemble(model))
    assert f"d[{part}]" in total.depth.variables
    assert total.tag == "unknown"
    assert total.depth.coefficients()[f"d[{part}]"] == 3  # at most once per layer


def test_settings_that_are_off_are_no_unknown_parts(tmp_path):
    raw = {"model_type": "llama", **GROUPED, "memory_slots": 0, "fancy": False, "more": None}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert read_model(tmp_path).unknown == ()


def test_a_family_that_is_not_known_keeps_its_blocks_unknown(tmp_path):
    raw = {"model_type": "rwkv9", "vocab_size": 10, "n_embd": 8, "n_layer": 5, "n_positions": 77}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    model = read_model(tmp_path)
    assert (model.kind, model.max_length) == ("unknown", 77)
    assert totals(assemble(model)).depth.coefficients()["d[rwkv9 block]"] == 5
