"""The model card: valid front matter, code that runs, what was trained on and measured."""

import re

import pytest
import yaml

from lcframework.models.lcplm import LCPLM
from lcframework.run.export import write_folder
from lcframework.run.model_card import import_card, model_card

RESULTS = {
    "run": {"steps": 7, "tokens": 12345, "experiment": "lcplm/pretrain", "seed": 3},
    "data": {"train": {"path": ["/home/me/a.fasta.gz"], "fingerprint": "ab" * 32, "n": 2000,
                       "residues": 700_000}},
    "metrics": {"test/perplexity": {"value": 13.977, "low": 13.9, "high": 14.06, "n": 300},
                "model/parameters": {"value": 572032}},
}  # fmt: skip


@pytest.fixture
def network():
    return LCPLM(d_model=12, n_layers=1, d_state=4)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_says_what_it_was_trained_on_and_how_it_did(network):
    card = model_card(network, "00000007.ckpt", RESULTS)
    about = front_matter(card)
    assert (about["library_name"], about["pipeline_tag"]) == ("transformers", "fill-mask")
    assert "license" not in about
    assert "2,000 proteins, 700,000 residues: `a.fasta.gz` (fingerprint `abab" in card
    assert "/home/me" not in card
    assert "Step 7, 12,345 training tokens" in card
    assert "| test/perplexity | 13.98 | 13.9 | 14.06 | 300 |" in card
    assert "| model/parameters | 572,032 |" in card


def test_says_so_where_nothing_was_measured(network):
    assert "No test result is recorded" in model_card(network, "x.ckpt", None)


def test_an_import_keeps_the_licence(network):
    card = import_card(network, "LC-PLM")
    assert front_matter(card)["license"] == "cc-by-nc-4.0"
    assert "checkpoint `LC-PLM`" in card


def test_its_code_runs_in_the_folder(network, tmp_path, monkeypatch):
    write_folder(network, tmp_path / "export", model_card(network, "x.ckpt", None))
    monkeypatch.chdir(tmp_path / "export")
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "export/README.md").read_text(), re.S)
    names: dict = {}
    exec(code, names)
    assert names["model"].num_parameters() == network.num_parameters()
