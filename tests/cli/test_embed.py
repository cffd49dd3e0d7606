"""`lcf embed`: each protein's states are those it has alone, in both conventions."""

import sys

import numpy as np
import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM

from lcframework.cli.main import main
from lcframework.errors import ConfigError
from lcframework.models.hidden_states import hidden_states
from lcframework.models.lcplm import LCPLM
from lcframework.models.lcplm.huggingface import LCPLMForMaskedLM
from lcframework.run.networks import load_network
from lcframework.tasks.variant_effects.masked_copies import token_row

PROTEINS = {"P1": "MKTAYIAKQR", "b/2": "M", "c": "MALWMRLLPLLALLALW"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    torch.manual_seed(1)
    root = tmp_path_factory.mktemp("models")
    LCPLMForMaskedLM.from_network(LCPLM(d_model=12, n_layers=3, d_state=4)).save_pretrained(
        root / "lcplm"
    )
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=16, num_hidden_layers=3,
        num_attention_heads=2, intermediate_size=64, position_embedding_type="rotary",
        emb_layer_norm_before=False, token_dropout=True, layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    EsmForMaskedLM(config).eval().save_pretrained(root / "esm2")
    return root


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "proteins.fasta"
    path.write_text("".join(f">{name} x\n{sequence}\n" for name, sequence in PROTEINS.items()))
    return path


def call(fasta, model, *more, out="e.npz"):
    target = fasta.parent / out
    main(["embed", str(fasta), "--model", str(model), "-o", str(target), *more])
    return np.load(target)


def slow_states(network, sequence, layer, convention):
    """One protein alone, block by block, the two terms of the residual stream kept apart."""
    tokens = torch.from_numpy(token_row(sequence))
    borders = torch.tensor([0, len(tokens)], dtype=torch.int32)
    states = [network.embedding(tokens)]
    mixed = [states[0]]
    for block in network.blocks:
        after = block(states[-1], borders)
        mixed.append(block.mixer(block.norm(states[-1]), borders))
        states.append(after)
    states[-1] = mixed[-1] = network.norm(states[-1])
    return {"residual": states, "mixer": mixed}[convention][layer][1:-1].detach().numpy()


@pytest.mark.parametrize("convention", ["residual", "mixer"])
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_lcplm_states_per_residue_by_convention(fasta, models, layer, convention):
    network = load_network(models / "lcplm")
    options = ("--per", "residue", "--layer", str(layer), "--convention", convention)
    found = call(fasta, models / "lcplm", *options, "--max-tokens", "15")
    assert found["ids"].tolist() == list(PROTEINS)
    assert found["lengths"].tolist() == [10, 1, 17]
    assert f"convention {convention}" in found["about"].tolist()
    wanted = [slow_states(network, one, layer, convention) for one in PROTEINS.values()]
    np.testing.assert_allclose(found["embeddings"], np.concatenate(wanted), atol=1e-5)


def test_the_conventions_differ_between_first_and_last(models):
    network = load_network(models / "lcplm")
    both = [slow_states(network, "MKTAY", 2, one) for one in ("residual", "mixer")]
    assert np.abs(both[0] - both[1]).max() > 1e-3


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_esm2_states_are_transformers_own(fasta, models, layer):
    theirs = EsmForMaskedLM.from_pretrained(models / "esm2").eval()
    found = call(fasta, models / "esm2", "--per", "residue", "--layer", str(layer))["embeddings"]
    with torch.no_grad():
        wanted = [
            theirs(torch.from_numpy(token_row(one))[None], output_hidden_states=True)
            .hidden_states[layer][0, 1:-1]
            .numpy()
            for one in PROTEINS.values()
        ]
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-5)


def test_a_proteins_embedding_is_the_mean_over_its_residues(fasta, models):
    whole = call(fasta, models / "lcplm", out="p.npz")["embeddings"]
    residues = call(fasta, models / "lcplm", "--per", "residue")["embeddings"]
    parts = np.split(residues, np.cumsum([10, 1]))
    np.testing.assert_allclose(whole, [one.mean(0) for one in parts], atol=1e-6)


@pytest.mark.parametrize("per", ["protein", "residue"])
@pytest.mark.parametrize("convention", ["residual", "mixer"])
def test_parquet_holds_the_numbers_of_npz(fasta, models, per, convention):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is optional")
    more = ("--per", per, "--convention", convention, "--layer", "2", "--max-tokens", "15")
    wanted = call(fasta, models / "lcplm", *more)["embeddings"]
    target = fasta.parent / "e.parquet"
    main(["embed", str(fasta), "--model", str(models / "lcplm"), "-o", str(target), *more])
    table = pq.read_table(target)
    found = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(found, wanted)
    if per == "protein":
        assert table["id"].to_pylist() == list(PROTEINS)
        assert table["length"].to_pylist() == [10, 1, 17]
    else:
        assert "".join(table["residue"].to_pylist()) == "".join(PROTEINS.values())
        assert table["position"].to_pylist()[8:13] == [9, 10, 1, 1, 2]
        assert table["id"].to_pylist()[9:12] == ["P1", "b/2", "c"]
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (about["layer"], about["convention"], about["per"]) == ("2", convention, per)


def test_parquet_without_pyarrow_names_the_cure(fasta, models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SystemExit):
        call(fasta, models / "lcplm", out="e.parquet")
    assert "pip install 'lcframework[parquet]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (None, ("--layer", "4"), "layer=4: the network has 3 layers"),
        (None, ("--layer", "-5"), "layer=-5"),
        (None, ("-o", "e.txt"), "written as .npz or .parquet"),
        (">a\nMKT\n>a\nMKV\n", (), "two proteins are called a"),
        (">a\nM1T\n", (), "no amino-acid letter"),
        ("", (), "is empty"),
    ],
)
def test_bad_input_is_one_paragraph_and_writes_nothing(fasta, models, text, more, message, capsys):
    if text is not None:
        fasta.write_text(text)
    with pytest.raises(SystemExit) as caught:
        call(fasta, models / "lcplm", *more)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in fasta.parent.iterdir()] == ["proteins.fasta"]


def test_nothing_is_overwritten_and_esm2_has_one_convention(fasta, models, capsys):
    call(fasta, models / "lcplm")
    with pytest.raises(SystemExit):
        call(fasta, models / "lcplm")
    assert "exists already" in capsys.readouterr().err
    tokens, borders = torch.tensor([0, 5, 2]), torch.tensor([0, 3], dtype=torch.int32)
    with pytest.raises(ConfigError, match="published LC-PLM code"):
        hidden_states(load_network(models / "esm2"), tokens, borders, 3, 1, "mixer")
