"""`load_llm`: folders and GGUF files give the model that was written; all else is refused."""

import json
import shutil

import pytest
import torch
from tiny_llms import gguf_tensors, tiny_config, tiny_tokenizer, write_folder, write_gguf
from transformers import (
    BertConfig,
    BertModel,
    FalconConfig,
    GPT2Config,
    T5Config,
    T5ForConditionalGeneration,
)

from lcframework.errors import CheckpointError, ConfigError
from lcframework.models.llm.load import find_device, load_llm
from lcframework.models.llm.prompts import prompt_parts

IDS = torch.tensor([[1, 40, 41, 42, 99, 7]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_folder(path)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(error, words, *args, **kwargs):
    with pytest.raises(error) as caught:
        load_llm(*args, **kwargs)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_gives_what_was_saved_in_evaluation_mode(tmp_path):
    written = write_folder(tmp_path / "m")
    model, tokenizer = load_llm(tmp_path / "m", device="cpu")
    assert not model.training
    assert torch.equal(model(IDS).logits, written(IDS).logits)
    assert tokenizer("the\n\n5").input_ids == tiny_tokenizer()("the\n\n5").input_ids
    assert prompt_parts(tokenizer).before == "<|start|>user\n"


def test_dtype_and_attention_are_as_asked(folder):
    model, _ = load_llm(folder, dtype="bf16", attn_implementation="eager", device="cpu")
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"
    squeezed, _ = load_llm(str(folder), dtype=torch.float32, attn_implementation="squeezed")
    assert squeezed.dtype == torch.float32
    assert squeezed.config._attn_implementation == "squeezed"


def test_auto_dtype_is_the_folders_own(tmp_path):
    write_folder(tmp_path / "m", tiny_config(dtype="bfloat16"))
    edit(tmp_path / "m" / "config.json", dtype="bfloat16")
    assert load_llm(tmp_path / "m", device="cpu")[0].dtype == torch.bfloat16


def test_shards_are_read_and_a_missing_one_is_named(tmp_path):
    written = write_folder(tmp_path / "m", max_shard_size="20KB")
    shards = sorted((tmp_path / "m").glob("model-*.safetensors"))
    assert len(shards) > 1
    model, _ = load_llm(tmp_path / "m", device="cpu")
    assert torch.equal(model(IDS).logits, written(IDS).logits)
    shards[-1].unlink()
    refused(CheckpointError, [shards[-1].name, "lacks 1 of"], tmp_path / "m")


def test_paths_that_are_no_model(tmp_path, folder):
    refused(CheckpointError, ["no model at", "smollm2"], tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused(CheckpointError, ["config.json", "save_pretrained"], tmp_path / "empty")
    (tmp_path / "empty" / "x.gguf").write_bytes(b"GGUF")
    refused(CheckpointError, ["x.gguf"], tmp_path / "empty")
    refused(CheckpointError, ["config.json", "four letters GGUF"], folder / "config.json")


def test_pickled_weights_are_refused_without_being_opened(copy):
    (copy / "model.safetensors").unlink()
    refused(CheckpointError, ["holds no weights"], copy)
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04not even read")
    refused(CheckpointError, ["pytorch_model.bin", "can run code", "save_pretrained"], copy)


def test_damaged_weights_are_refused(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    refused(CheckpointError, ["model.safetensors", "cut short"], copy)
    weights.write_bytes(b"nothing of the kind, and long enough to be read")
    refused(CheckpointError, ["no safetensors file"], copy)
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    refused(CheckpointError, ["git lfs pull"], copy)


def test_weights_that_are_missing_are_never_made_up(copy):
    edit(copy / "config.json", num_hidden_layers=3, layer_types=None)
    refused(CheckpointError, ["lacks 9 weights", "model.layers.2", "random"], copy)


def test_other_architectures(tmp_path, copy):
    T5ForConditionalGeneration(
        T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=99)
    ).save_pretrained(tmp_path / "t5")
    refused(ConfigError, ["encoder-decoder (t5)"], tmp_path / "t5")
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    refused(ConfigError, ["BertModel", "does not generate text"], tmp_path / "bert")
    edit(copy / "config.json", model_type="from_tomorrow", architectures=None)
    refused(ConfigError, ["'from_tomorrow'"], copy)
    edit(copy / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"})
    refused(ConfigError, ["auto_map", "never run"], copy)
    (copy / "config.json").write_text("{\n oops")
    refused(CheckpointError, ["config.json, line 2"], copy)


def test_no_tokenizer(copy):
    for path in copy.glob("*token*"):
        path.unlink()
    refused(CheckpointError, ["has no tokenizer", "tokenizer.save_pretrained"], copy)


def test_squeezed_attention_refuses_a_model_without_rotary_positions(tmp_path):
    config = GPT2Config(
        n_embd=8, n_layer=1, n_head=2, vocab_size=300, bos_token_id=1, eos_token_id=0
    )
    write_folder(tmp_path / "gpt2", config)
    load_llm(tmp_path / "gpt2", device="cpu")
    refused(ConfigError, ["rotary"], tmp_path / "gpt2", attn_implementation="squeezed")


def test_squeezed_attention_refuses_a_model_without_the_attention_interface(tmp_path):
    config = FalconConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=300, bos_token_id=1,
        eos_token_id=0,
    )  # fmt: skip
    write_folder(tmp_path / "falcon", config)
    words = ["attention of falcon", "another architecture"]
    refused(ConfigError, words, tmp_path / "falcon", attn_implementation="squeezed")


def test_unknown_settings(folder):
    refused(ConfigError, ["dtype='int3'", "bfloat16"], folder, dtype="int3")
    refused(ConfigError, ["device", "lcf doctor"], folder, device="tpu9")
    assert find_device("auto").type in ("cpu", "cuda")


# -- GGUF -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory, folder):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    model, _ = load_llm(folder, device="cpu")
    write_gguf(path, model)
    return path


def test_a_gguf_file_gives_the_same_model_tokenizer_and_template(folder, gguf_file):
    expected, reference = load_llm(folder, device="cpu")
    model, tokenizer = load_llm(gguf_file, device="cpu")
    torch.testing.assert_close(model(IDS).logits, expected(IDS).logits, atol=1e-5, rtol=1e-5)
    assert model.config.max_position_embeddings == 512
    text = "the  cat\n\n5. In 2018: the\n<|start|>x"
    assert tokenizer(text).input_ids == reference(text).input_ids
    assert prompt_parts(tokenizer) == prompt_parts(reference)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", "<|end|>")
    half, _ = load_llm(gguf_file, dtype="bfloat16", device="cpu", attn_implementation="squeezed")
    assert half.dtype == torch.bfloat16


def test_a_gguf_model_can_be_saved_as_a_folder(gguf_file, tmp_path):
    model, tokenizer = load_llm(gguf_file, device="cpu")
    model.save_pretrained(tmp_path / "out")
    tokenizer.save_pretrained(tmp_path / "out")
    again, same = load_llm(tmp_path / "out", device="cpu")
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert same("\n\n5").input_ids == tokenizer("\n\n5").input_ids


def test_reading_a_gguf_file_leaves_the_package_as_it_was(gguf_file):
    import gguf

    before = gguf.GGUFReader
    load_llm(gguf_file, device="cpu")
    assert gguf.GGUFReader is before


@pytest.mark.parametrize("kept", [3, 20, 200, 5000, -1])
def test_a_gguf_file_cut_short_is_refused(gguf_file, tmp_path, kept):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[:kept])
    refused(CheckpointError, ["cut.gguf"], cut)


def test_a_gguf_file_that_would_load_wrongly_is_refused(gguf_file, folder, tmp_path):
    model, _ = load_llm(folder, device="cpu")
    write_gguf(tmp_path / "yarn.gguf", model, extra={"llama.rope.scaling.type": "yarn"})
    refused(ConfigError, ["yarn.gguf", "scaling 'yarn'"], tmp_path / "yarn.gguf")
    tensors = {**gguf_tensors(model), "rope_freqs.weight": torch.ones(4)}
    write_gguf(tmp_path / "llama31.gguf", model, tensors=tensors)
    refused(ConfigError, ["rope_freqs.weight"], tmp_path / "llama31.gguf")
    write_gguf(tmp_path / "new.gguf", model, architecture="hyperllama")
    refused(ConfigError, ["'hyperllama'", "llama"], tmp_path / "new.gguf")
    tensors = gguf_tensors(model)
    del tensors["blk.1.attn_k.weight"]
    write_gguf(tmp_path / "part.gguf", model, tensors=tensors)
    refused(
        CheckpointError, ["lacks 1 weights", "layers.1.self_attn.k_proj"], tmp_path / "part.gguf"
    )


def test_gguf_without_its_package_says_what_to_install(gguf_file, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gguf" else real(name, *a)
    )
    refused(ConfigError, ["pip install gguf"], gguf_file)
