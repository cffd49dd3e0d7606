"""LC-PLM as transformers uses it: Auto classes, pipeline, PEFT, checkpointing, resizing."""

import socket

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

from lcframework.data.alphabet import CLS_ID, EOS_ID, MASK_ID, TOKENS, encode
from lcframework.data.batch import PackedProteins
from lcframework.models.lcplm.huggingface import LCPLMConfig, LCPLMForMaskedLM
from lcframework.tasks.masked_lm import MaskedLMTask

SEQUENCES = ["MKTAYIAKQR", "LAG", "MVLSPADKTNVKAAWGKVGA"]


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
        alone = network(ids, torch.tensor([0, len(ids)], dtype=torch.int32))[:, : len(TOKENS)]
        torch.testing.assert_close(row[: len(ids)], alone, atol=1e-6, rtol=1e-5)


def test_the_encoder_alone_and_its_hidden_states(folder, model):
    encoder = AutoModel.from_pretrained(folder).eval()
    inputs = batch(folder)
    outputs = encoder(**inputs, output_hidden_states=True)
    assert len(outputs.hidden_states) == 3
    logits = model.lm_head(outputs.last_hidden_state)[..., : len(TOKENS)]
    torch.testing.assert_close(logits, model(**inputs).logits)


def test_loss_is_the_mean_over_labelled_tokens(folder, model):
    inputs = batch(folder)
    labels = torch.full_like(inputs.input_ids, -100)
    labels[0, 2], labels[2, 5] = 7, 9
    out = model(**inputs, labels=labels)
    chosen = out.logits[[0, 2], [2, 5]].log_softmax(-1)[[0, 1], [7, 9]]
    torch.testing.assert_close(out.loss, -chosen.mean())


def test_fill_mask_shares_the_probability_among_the_tokens(folder, network):
    """Rows of the head that belong to no token were never trained and get no probability."""
    model, tokenizer = (
        one.from_pretrained(folder) for one in (AutoModelForMaskedLM, AutoTokenizer)
    )
    assert model.lm_head.out_features == 128
    found = pipeline("fill-mask", model=model, tokenizer=tokenizer)("MK<mask>R", top_k=33)
    ids = torch.tensor([CLS_ID, *encode("MK").tolist(), MASK_ID, *encode("R").tolist(), EOS_ID])
    logits = network(ids, torch.tensor([0, 6], dtype=torch.int32))[3, : len(TOKENS)]
    for one in found:
        assert one["token_str"] == TOKENS[one["token"]]
        assert one["score"] == pytest.approx(logits.softmax(0)[one["token"]].item(), rel=1e-4)
    assert sum(one["score"] for one in found) == pytest.approx(1, rel=1e-5)


def test_the_loss_is_the_training_task_s(folder, model, network):
    inputs = batch(folder)
    labels = inputs.input_ids.masked_fill(torch.rand(inputs.input_ids.shape) > 0.5, -100)
    mask = inputs.attention_mask.bool()
    cu = torch.tensor([0, *mask.sum(1).cumsum(0)], dtype=torch.int32)
    tokens = inputs.input_ids[mask]
    pack = PackedProteins(tokens, labels[mask], cu, int(mask.sum(1).max()), torch.arange(3))
    logits, targets, _ = MaskedLMTask(network).score(pack)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(model(**inputs, labels=labels).loss, expected)


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


@pytest.mark.parametrize("rows", [34, 140])
def test_resizing_to_less_and_more_than_the_padding(folder, model, rows, tmp_path):
    inputs = batch(folder)
    before = model(**inputs).logits
    model.resize_token_embeddings(rows)
    assert model.get_input_embeddings().weight.shape[0] == model.lm_head.out_features == rows
    model.save_pretrained(tmp_path / "resized")
    logits = AutoModelForMaskedLM.from_pretrained(tmp_path / "resized").eval()(**inputs).logits
    assert logits.shape[-1] == rows
    torch.testing.assert_close(logits[..., : len(TOKENS)], before)
    with pytest.raises(ValueError, match="cut off tokens"):
        model.resize_token_embeddings(20)


def test_an_added_token_is_read_without_resizing_and_predicted_after_it(folder, model):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<edge>"])
    inputs = tokenizer("MK<edge>LAG", return_tensors="pt")
    assert inputs.input_ids[0].tolist() == [CLS_ID, *encode("MK"), 33, *encode("LAG"), EOS_ID]
    assert model(**inputs).logits.shape == (1, 8, 33)
    with pytest.raises(ValueError, match=r"label is 33.*resize_token_embeddings\(len\(tokenizer"):
        model(**inputs, labels=inputs.input_ids)
    model.resize_token_embeddings(len(tokenizer))
    assert model(**inputs, labels=inputs.input_ids).loss.isfinite()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_equals_eager_whatever_the_shape(folder, model, backend):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend=backend)
    for count in (3, 1, 2):
        inputs = tokenizer(SEQUENCES[:count], padding=True, return_tensors="pt")
        found = []
        for one in (model, compiled):
            model.zero_grad()
            out = one(**inputs, labels=inputs.input_ids)
            out.loss.backward()
            found.append((out.logits.detach(), *[p.grad.clone() for p in model.parameters()]))
        for eager, other in zip(*found, strict=True):
            torch.testing.assert_close(other, eager, atol=1e-5, rtol=1e-4)


def test_out_of_memory_says_the_size_and_the_cure(model, monkeypatch):
    def fail(*_arguments, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(model.lcplm.blocks[0], "forward", fail)
    with pytest.raises(torch.OutOfMemoryError, match=r"was given 20 tokens.*GB.*Cure"):
        model(torch.full((2, 10), 5))


def test_configurations_that_make_no_model_are_refused():
    with pytest.raises(ValueError, match="separate matrices"):
        LCPLMConfig(tie_word_embeddings=True)
    with pytest.raises(ValueError, match="33 tokens, n_tokens is 33, vocab_size 32"):
        LCPLMConfig(vocab_size=32)


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
