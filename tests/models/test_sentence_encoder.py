"""Sentence embeddings against each text alone; MiniLM where it was fetched."""

import numpy as np
import pytest
import torch
from tiny_decoders import byte_tokenizer
from transformers import BertConfig, BertModel

from lcframework.errors import CheckpointError
from lcframework.models.llm.packaged import PACKAGED
from lcframework.models.llm.sentence_encoder import SentenceEncoder
from lcframework.models.llm.store import is_fetched

TEXTS = ["a", "some longer text", "the third of them, longest by far", "b c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=259, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=24)  # fmt: skip
    BertModel(config).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_batches_and_padding_change_nothing(folder, pooling):
    encoder = SentenceEncoder(folder, pooling, batch_size=2, device="cpu")
    rows = encoder(TEXTS)
    assert rows.shape == (4, 16) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for text, row in zip(TEXTS, rows, strict=True):
        ids = torch.tensor([byte_tokenizer()(text).input_ids[:24]])
        model = BertModel.from_pretrained(folder).eval()
        with torch.no_grad():
            state = model(ids).last_hidden_state[0]
        wanted = state.mean(0) if pooling == "mean" else state[0]
        np.testing.assert_allclose(row, wanted / wanted.norm(), atol=1e-5)


def test_identity_tells_encoders_apart(folder):
    one = SentenceEncoder(folder, device="cpu").identity
    assert one == SentenceEncoder(folder, device="cpu").identity
    assert one != SentenceEncoder(folder, "first", device="cpu").identity
    with pytest.raises(CheckpointError, match="no model at"):
        SentenceEncoder(folder / "nothing")
    with pytest.raises(ValueError, match="pooling"):
        SentenceEncoder(folder, "max")


@pytest.mark.slow
def test_minilm_finds_the_paraphrase():
    if not is_fetched(PACKAGED["minilm"]):
        pytest.skip("the model minilm was not fetched: lcf models get minilm")
    rows = SentenceEncoder("minilm", device="cpu")(
        ["How many people live in Berlin?", "The population of Berlin is 3.6 million.", "I eat."]
    )
    assert rows[0] @ rows[1] > 0.6 > 0.3 > rows[0] @ rows[2]
