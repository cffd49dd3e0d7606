"""The context's file, and every bad input told in one paragraph."""

import json
import shutil
import struct

import pytest
import torch
from test_generate import QUESTIONS, build, dense_answer
from tiny_decoders import BASE, DOCUMENT, byte_tokenizer, tiny_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from lcframework.errors import ConfigError, DataError
from lcframework.models.squeezed import Squeeze, SqueezedContext, read_about
from lcframework.models.squeezed import build as building
from lcframework.models.squeezed.artifact import KEY
from lcframework.models.squeezed.diagnosis import diagnose
from lcframework.run.context_compare import compare_sparsities
from lcframework.tasks.squeezed_lm import SqueezedLMTask


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loaded_context_is_the_built_one(family, dtype, tmp_path):
    model, tokenizer = tiny_model(family).to(dtype), byte_tokenizer()
    context = SqueezedContext.build(
        model, tokenizer, DOCUMENT, window=32, levels=3, level_ratio=2, value_centroids=True
    )
    path = context.save(tmp_path / "a.ctx")
    loaded = SqueezedContext.load(path, tiny_model(family).to(dtype), byte_tokenizer())
    for squeeze in (Squeeze(sparsity=0.7), Squeeze(budget=40, correct_values=True)):
        for one, other in zip(
            context.ask(QUESTIONS, squeeze=squeeze, max_new_tokens=6),
            loaded.ask(QUESTIONS, squeeze=squeeze, max_new_tokens=6),
            strict=True,
        ):
            assert one.tokens == other.tokens and one.budget == other.budget
            assert torch.equal(one.kept_prefill, other.kept_prefill)
    assert loaded.plan == context.plan and loaded.facts == context.facts
    assert torch.equal(loaded.ids, context.ids)
    again = loaded.save(tmp_path / "b.ctx")
    assert again.read_bytes() == path.read_bytes()


def test_the_same_seed_gives_the_same_file(tmp_path):
    files = []
    for seed in (3, 3, 4):
        context = build(seed=0)
        context = SqueezedContext.build(
            context.model, context.tokenizer, DOCUMENT, window=32, seed=seed
        )
        context.facts = {}  # seconds
        files.append(context.save(tmp_path / f"{len(files)}.ctx").read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_file_tells_of_itself_without_a_model(tmp_path):
    context = build("gemma3", value_centroids=True)
    about = read_about(context.save(tmp_path / "a.ctx"))
    assert about["tokens"] == context.length
    assert (about["layers"], about["squeezed_layers"], about["heads"]) == (3, [1], 2)
    assert about["clusters"] == context.plan.sizes(about["clustered"])
    assert about["model"]["architecture"] == "Gemma3ForCausalLM"
    assert about["plan"]["window"] == 32 and about["facts"].keys() == context.facts.keys()
    assert about["bytes"] == (tmp_path / "a.ctx").stat().st_size
    assert context.squeezed_layers == [1] and context.dense_layers == [0, 2]


def test_the_tokenizer_is_found_beside_the_model(tmp_path):
    context = build()
    context.model.save_pretrained(tmp_path / "model")
    context.tokenizer.save_pretrained(tmp_path / "model")
    path = context.save(tmp_path / "a.ctx")
    model = type(context.model).from_pretrained(tmp_path / "model", attn_implementation="squeezed")
    answers = SqueezedContext.load(path, model).ask("What?", max_new_tokens=3)
    assert answers[0].tokens == context.ask("What?", max_new_tokens=3)[0].tokens
    with pytest.raises(DataError, match="Give it"):
        SqueezedContext.load(path, context.model)


def test_nothing_is_overwritten_unless_asked(tmp_path):
    context = build()
    path = context.save(tmp_path / "a.ctx")
    with pytest.raises(DataError, match="exists; nothing was written"):
        context.save(path)
    with pytest.raises(DataError, match="exists"):
        context.save(tmp_path, overwrite=True)
    assert context.save(path, overwrite=True) == path


def test_interrupted_or_failed_writing_leaves_nothing(tmp_path, monkeypatch):
    context = build()

    for failure, said in (
        (KeyboardInterrupt(), None),
        (OSError(28, "No space left on device"), "The file needs 0.00 GB"),
    ):

        def interrupt(tensors, path, metadata, failure=failure):
            path.write_bytes(b"half")
            raise failure

        monkeypatch.setattr("lcframework.models.squeezed.artifact.save_file", interrupt)
        with pytest.raises(DataError if said else KeyboardInterrupt, match=said):
            context.save(tmp_path / "a.ctx")
        assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_leaves_the_model_as_it_was(tmp_path):
    model, tokenizer = tiny_model(), byte_tokenizer()

    def stop(what, done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SqueezedContext.build(model, tokenizer, DOCUMENT, window=32, progress=stop)
    assert SqueezedContext.build(model, tokenizer, DOCUMENT, window=32).ask("Why?")


def damaged(path, name, how):
    other = path.with_name(name)
    shutil.copy(path, other)
    how(other)
    return other


def flip_last_byte(path):
    with path.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))


def edit_header(change):
    def edit(path):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        metadata = header["__metadata__"]
        outer = json.loads(metadata.pop(KEY))
        if change(outer) is not None:
            metadata[KEY] = json.dumps(outer)
        new = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return edit


def set_version(outer):
    outer["version"] = 3
    return outer


def scale_a_layer(outer):
    assert '"scale": 0.25' in outer["about"]
    outer["about"] = outer["about"].replace('"scale": 0.25', '"scale": 0.75')
    return outer


def test_damaged_and_foreign_files_are_refused(tmp_path):
    context = build()
    model, tokenizer = context.model, context.tokenizer
    good = context.save(tmp_path / "good.ctx")
    size = good.stat().st_size
    cases = {
        "truncated": (lambda path: path.write_bytes(good.read_bytes()[: size // 2]), "truncated"),
        "empty": (lambda path: path.write_bytes(b""), "truncated or is no context"),
        "text": (lambda path: path.write_text("hello"), "truncated or is no context"),
        "flipped": (flip_last_byte, "checksum differs"),
        "scaled": (edit_header(scale_a_layer), "header is not whole"),
        "future": (edit_header(set_version), "version 3 of the format"),
        "foreign": (edit_header(lambda outer: None), "not of a squeezed context"),
    }  # fmt: skip
    for name, (how, said) in cases.items():
        path = damaged(good, f"{name}.ctx", how)
        with pytest.raises(DataError, match=said) as caught:
            SqueezedContext.load(path, model, tokenizer)
        assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        SqueezedContext.load(tmp_path / "none.ctx", model, tokenizer)
    with pytest.raises(DataError, match="no such file"):
        read_about(tmp_path)


def test_no_changed_bit_of_the_header_is_a_traceback(tmp_path):
    """Or a wrong word of `info`, or a context: spaces apart, every change is told."""
    context = build("gemma3")
    data = context.save(tmp_path / "good.ctx").read_bytes()
    path = tmp_path / "bad.ctx"
    about = read_about(tmp_path / "good.ctx")
    (length,) = struct.unpack("<Q", data[:8])
    told = 0
    for place in range(0, 8 + length, 29):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 7
        path.write_bytes(changed)
        try:
            assert read_about(path) == about
        except DataError:
            told += 1
        with pytest.raises(DataError):
            SqueezedContext.load(path, context.model, context.tokenizer)
    assert told > 60


def test_another_model_dtype_or_tokenizer_is_refused(tmp_path):
    context = build()
    path, tokenizer = context.save(tmp_path / "a.ctx"), context.tokenizer
    for model, said in (
        (tiny_model(seed=1), "other weights"),
        (tiny_model("mistral"), "architecture LlamaForCausalLM"),
        (tiny_model().bfloat16(), "dtype=float32"),
        (tiny_model(num_hidden_layers=2), "other weights"),
        (tiny_model(rope_parameters={"rope_type": "default", "rope_theta": 5e5}), "other weights"),
    ):
        with pytest.raises(DataError, match=said):
            SqueezedContext.load(path, model, tokenizer)
    other = byte_tokenizer()
    other.add_tokens(["coins"])
    with pytest.raises(DataError, match="another tokenizer"):
        SqueezedContext.load(path, context.model, other)


@pytest.mark.parametrize("document", ["", "  \n", []])
def test_empty_documents(document):
    with pytest.raises(DataError, match="document is empty"):
        SqueezedContext.build(tiny_model(), byte_tokenizer(), document)


def test_documents_that_are_too_short_or_too_long():
    model, tokenizer = tiny_model(), byte_tokenizer()
    with pytest.raises(DataError, match=r"no more than the 104 .*window=100, sinks=4"):
        SqueezedContext.build(model, tokenizer, "x" * 104)
    assert SqueezedContext.build(model, tokenizer, "x" * 105).length == 105
    with pytest.raises(ConfigError, match="1,024 positions"):
        SqueezedContext.build(model, tokenizer, "x" * 1024)


def test_questions_that_are_empty_or_do_not_fit():
    context = build()
    for bad, said in (([], "no question"), (["Why?", " "], "Question 2 is empty")):
        with pytest.raises(DataError, match=said):
            context.ask(bad)
    room = 1024 - context.length
    with pytest.raises(DataError, match="does not fit the model's 1,024 positions"):
        context.ask("x" * room, max_new_tokens=1)
    with pytest.raises(DataError, match="lower max_new_tokens"):
        context.ask("Why?", max_new_tokens=room)
    with pytest.raises(ConfigError, match="max_new_tokens=0"):
        context.ask("Why?", max_new_tokens=0)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_outside_0_to_1(sparsity):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\)"):
        build().ask("Why?", sparsity=sparsity)


def test_fewer_clusters_than_one_are_one_and_said_so(caplog):
    context = build(clusters=1e-6)
    assert context.layers[0].fixed.levels[0].sizes.shape[1] == 1
    assert "less than one" in caplog.text
    with pytest.raises(ConfigError, match="chunk=0"):
        build(chunk=0)


def test_settings_that_contradict_each_other():
    context = build()
    with pytest.raises(ConfigError, match="not both"):
        context.ask("Why?", sparsity=0.5, squeeze=Squeeze())
    with pytest.raises(ConfigError, match="value_centroids=True"):
        context.ask("Why?", squeeze=Squeeze(correct_values=True))
    for bad in ({"scope": "token"}, {"group": "median"}, {"budget": 3, "top_p": 0.5},
                {"top_p": 0.0}, {"query_block": 0}):  # fmt: skip
        with pytest.raises(ConfigError):
            Squeeze(**bad)


def test_a_model_of_sliding_windows_alone_stays_dense(tmp_path, caplog):
    """Mistral's default: nothing is clustered, and the answers are the dense model's."""
    model, tokenizer = tiny_model("mistral", sliding_window=24), byte_tokenizer()
    context = SqueezedContext.build(model, tokenizer, DOCUMENT, window=32)
    assert "nothing is squeezed" in caplog.text
    assert context.squeezed_layers == []
    path = context.save(tmp_path / "a.ctx")
    assert read_about(path)["clustered"] == 0
    loaded = SqueezedContext.load(path, model, tokenizer)
    answers = loaded.ask(QUESTIONS, sparsity=0.9, max_new_tokens=12)
    assert [one.tokens for one in answers] == [dense_answer(context, one)[0] for one in QUESTIONS]
    assert all(one.budget == 1.0 for one in answers)
    with pytest.raises(ConfigError, match="nothing to compare"):
        diagnose(context, ["what?"])
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare_sparsities(context, ["what?"], {0.9: Squeeze(sparsity=0.9)})
    with pytest.raises(ConfigError, match="sliding window of 24"):
        SqueezedLMTask((model, tokenizer))


def test_models_the_method_is_not_defined_for():
    tokenizer = byte_tokenizer()
    small = {"vocab_size": 259, "n_embd": 16, "n_layer": 1, "n_head": 2}
    with pytest.raises(ConfigError, match="no rotary positions"):
        SqueezedContext.build(GPT2LMHeadModel(GPT2Config(**small)).eval(), tokenizer, DOCUMENT)
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=9, d_model=8, d_ff=8, num_layers=1))
    with pytest.raises(ConfigError, match="encoder-decoder"):
        SqueezedContext.build(t5.eval(), tokenizer, DOCUMENT)
    with pytest.raises(ConfigError, match="call model.eval"):
        SqueezedContext.build(tiny_model().train(), tokenizer, DOCUMENT)
    with pytest.raises(ConfigError, match="attn_implementation='squeezed'"):
        SqueezedContext.build(tiny_model(attention="sdpa"), tokenizer, DOCUMENT)


TINY = {
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024,
}  # fmt: skip
LATENT = {
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "more"), [("deepseek_v3", LATENT), ("diffllama", {})])
def test_models_that_compute_with_what_their_cache_returns(kind, more):
    """Their attention is "squeezed" by name, but it is not handed the object of the cache."""
    config = AutoConfig.for_model(kind, **TINY, **more)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="squeezed").eval()
    with pytest.raises(ConfigError, match="does not hand its keys straight from the cache"):
        SqueezedContext.build(model, byte_tokenizer(), DOCUMENT, window=32)


def longrope_model(border):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "phi3", **BASE | {"head_dim": 8}, original_max_position_embeddings=border,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4,
            "long_factor": [8.0] * 4, "original_max_position_embeddings": border,
        },
    )  # fmt: skip
    config.sliding_window = None
    model = AutoModelForCausalLM.from_config(config, attn_implementation="squeezed").eval()
    model.generation_config.eos_token_id = None
    return model


@pytest.mark.parametrize("border", [300, 900])
def test_frequencies_that_change_with_the_length(border):
    """Phi-3's 128k models rotate by other frequencies beyond 4k tokens: chunks that end before
    would mix both."""
    context = SqueezedContext.build(
        longrope_model(border), byte_tokenizer(), DOCUMENT, window=32, chunk=100
    )
    assert 300 < context.length < 900 - 100
    want = [dense_answer(context, question)[0] for question in QUESTIONS]
    assert [one.tokens for one in context.ask(QUESTIONS, sparsity=0.0, max_new_tokens=12)] == want
    if border > context.length:
        with pytest.raises(DataError, match=r"900 positions with .* or over 900 tokens"):
            context.ask("Why?", max_new_tokens=border - context.length)


def test_keys_that_are_not_numbers():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.weight[0, 0] = torch.nan
    with pytest.raises(DataError, match="Layer 1 has keys or values that are NaN"):
        SqueezedContext.build(model, byte_tokenizer(), DOCUMENT, window=32)


def test_no_memory_left_says_what_to_lower(monkeypatch):
    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    context = build()
    monkeypatch.setattr(building, "cluster_layer", full)
    with pytest.raises(DataError, match=r"lower the chunk .*now 1024"):
        build()
    monkeypatch.setattr(context.model, "generate", full)
    with pytest.raises(DataError, match="Lower batch_size"):
        context.ask("Why?")
