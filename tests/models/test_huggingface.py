"""LC-PLM as transformers uses it: Auto classes, pipeline, PEFT, checkpointing, resizing."""

import gzip
import json
import socket
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, EsmConfig, pipeline
from transformers.models.esm.tokenization_esm import EsmTokenizer

from lcframework.data.alphabet import CLS_ID, EOS_ID, TOKEN_TO_ID, TOKENS, encode
from lcframework.errors import CheckpointError
from lcframework.models.lcplm import LCPLM
from lcframework.models.lcplm.huggingface import LCPLMConfig, LCPLMForMaskedLM
from lcframework.paths import sample_dir
from lcframework.run.export import write_folder

SEQUENCES = ["MKTAYIAKQR", "LAG", "MVLSPADKTNVKAAWGKVGA"]


@pytest.fixture
def network():
    torch.manual_seed(3)
    return LCPLM(d_model=12, n_layers=2, d_state=4).eval()


@pytest.fixture
def folder(network, tmp_path):
    write_folder(network, tmp_path / "export", "card")
    return tmp_path / "export"


@pytest.fixture
def model(network):
    return LCPLMForMaskedLM.from_network(network)


def batch(folder):
    return AutoTokenizer.from_pretrained(folder)(SEQUENCES, padding=True, return_tensors="pt")


def test_padded_batch_equals_the_network_on_each_protein(folder, network):
    inputs = batch(folder)
    logits = AutoModelForMaskedLM.from_pretrained(folder).eval()(**inputs).logits
    for row, sequence in zip(logits, SEQUENCES, strict=True):
        ids = torch.tensor([CLS_ID, *encode(sequence).tolist(), EOS_ID])
        alone = network(ids, torch.tensor([0, len(ids)], dtype=torch.int32))
        torch.testing.assert_close(row[: len(ids)], alone, atol=1e-6, rtol=1e-5)


def test_a_new_process_gives_equal_logits(folder, model):
    inputs = batch(folder)
    torch.save({**inputs, "logits": model(**inputs).logits.detach()}, folder / "expected.pt")
    code = (
        "import sys, torch, lcframework.models.lcplm.huggingface\n"
        "from transformers import AutoModelForMaskedLM\n"
        "known = torch.load(sys.argv[1] + '/expected.pt', weights_only=True)\n"
        "logits = known.pop('logits')\n"
        "model = AutoModelForMaskedLM.from_pretrained(sys.argv[1]).eval()\n"
        "assert torch.equal(model(**known).logits, logits)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_encoder_alone_and_its_hidden_states(folder, model):
    encoder = AutoModel.from_pretrained(folder).eval()
    inputs = batch(folder)
    outputs = encoder(**inputs, output_hidden_states=True)
    assert len(outputs.hidden_states) == 3
    torch.testing.assert_close(model.lm_head(outputs.last_hidden_state), model(**inputs).logits)


def test_loss_is_the_mean_over_labelled_tokens(folder, model):
    inputs = batch(folder)
    labels = torch.full_like(inputs.input_ids, -100)
    labels[0, 2], labels[2, 5] = 7, 9
    out = model(**inputs, labels=labels)
    chosen = out.logits[[0, 2], [2, 5]].log_softmax(-1)[[0, 1], [7, 9]]
    torch.testing.assert_close(out.loss, -chosen.mean())


def test_fill_mask_pipeline(folder):
    model, tokenizer = (
        one.from_pretrained(folder) for one in (AutoModelForMaskedLM, AutoTokenizer)
    )
    found = pipeline("fill-mask", model=model, tokenizer=tokenizer)("MKT<mask>YIAKQR", top_k=3)
    assert len(found) == 3
    assert found[0]["score"] >= found[1]["score"]


def test_lora_trains_only_the_named_projections(folder, model):
    peft = pytest.importorskip("peft", reason="peft is a [dev] dependency")
    config = peft.LoraConfig(r=2, target_modules=["in_proj", "out_proj"])
    adapted = peft.get_peft_model(model, config)
    inputs = batch(folder)
    adapted(**inputs, labels=inputs.input_ids).loss.backward()
    trained = [name for name, value in adapted.named_parameters() if value.grad is not None]
    assert len(trained) == 2 * 2 * 2  # blocks x projections x (A, B)
    assert all("lora_" in name for name in trained)


def test_gradient_checkpointing_gives_the_same_gradients(folder, model):
    inputs, grads = batch(folder), []
    for on in (False, True):
        if on:
            model.gradient_checkpointing_enable()
        model.train()
        model.zero_grad()
        model(**inputs, labels=inputs.input_ids).loss.backward()
        grads.append([value.grad.clone() for value in model.parameters()])
    assert model.is_gradient_checkpointing
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two)


def test_resizing_beyond_the_padding_and_below_the_vocabulary(folder, model):
    inputs = batch(folder)
    before = model(**inputs).logits
    model.resize_token_embeddings(140)
    assert model.get_input_embeddings().weight.shape[0] == model.lm_head.out_features == 140
    torch.testing.assert_close(model(**inputs).logits[..., :128], before)
    with pytest.raises(ValueError, match="cut off tokens"):
        model.resize_token_embeddings(20)


def test_compiled_equals_eager(folder, model):
    inputs = batch(folder)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits)


def test_tokenizer_equals_the_alphabet_on_every_protein_of_the_sample(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, EsmTokenizer)
    assert tokenizer.get_vocab() == TOKEN_TO_ID
    sequences = []
    for name in ("train", "valid"):
        text = gzip.decompress((sample_dir() / f"{name}.fasta.gz").read_bytes()).decode()
        records = text.removeprefix(">").split("\n>")
        sequences += ["".join(record.split("\n")[1:]) for record in records]
    assert len(sequences) == 2300
    for ids, sequence in zip(tokenizer(sequences).input_ids, sequences, strict=True):
        assert ids == [CLS_ID, *encode(sequence).tolist(), EOS_ID]


@pytest.mark.parametrize("text", ["BZUXO", "A.-A", "<cls><pad><eos><unk>", "L<mask>G", "<null_1>"])
def test_tokenizer_on_special_cases(folder, text):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parts = [one for one in TOKENS if one in text]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert "".join(TOKENS[i] for i in ids) == text
    assert {TOKENS[i] for i in ids} == set(parts)


def test_lower_case_and_unknown_letters_become_unk(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert TOKEN_TO_ID["<unk>"] in tokenizer("MKj").input_ids


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


def test_a_missing_shard_is_named(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        LCPLMForMaskedLM.from_pretrained(tmp_path)


def test_out_of_memory_says_the_size_and_the_cure(model, monkeypatch):
    def fail(*_arguments, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(model.lcplm.blocks[0], "forward", fail)
    with pytest.raises(torch.OutOfMemoryError, match=r"was given 20 tokens.*GB.*Cure"):
        model(torch.full((2, 10), 5))


def test_tied_embeddings_are_refused():
    with pytest.raises(ValueError, match="separate matrices"):
        LCPLMConfig(tie_word_embeddings=True)


def test_the_folder_holds_safetensors_and_no_code(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "vocab.txt", "README.md"} <= names
    assert not any(name.endswith((".py", ".bin")) for name in names)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "lcplm"


def _rank(rank, port, folder):
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = LCPLMForMaskedLM.from_pretrained(folder)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    inputs = torch.full((1, 6 + rank), 5)
    wrapped(inputs, labels=inputs).loss.backward()
    if rank == 0:
        with torch.no_grad():
            for value in model.parameters():
                value -= 0.1 * value.grad
        wrapped.module.save_pretrained(f"{folder}-stepped")
        torch.save(wrapped.state_dict(), f"{folder}-ddp.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_state_dict_round_trip_under_ddp(folder, model):
    """Two processes, unequal lengths, every parameter takes part; the weights come back equal."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, str(folder)), nprocs=2)
    saved = torch.load(f"{folder}-ddp.pt", weights_only=True)
    again = LCPLMForMaskedLM.from_pretrained(f"{folder}-stepped").state_dict()
    assert {key.removeprefix("module.") for key in saved} == set(again)
    for key, value in saved.items():
        assert torch.equal(value, again[key.removeprefix("module.")]), key
    assert not torch.equal(again["lm_head.weight"], model.lm_head.weight)
