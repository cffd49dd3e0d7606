"""The data module of LC-PLM-G: splits, what training never sees, controls, and a run."""

import json

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from lcframework.data.graphs.csr import build_graph
from lcframework.data.graphs.datamodule import PPIGraphDataModule
from lcframework.data.graphs.layout import BON_ID, EDGE_ID, NO_EDGE_ID
from lcframework.data.graphs.walk_dataset import WalkRule
from lcframework.data.graphs.walks import NO_NODE
from lcframework.errors import ConfigError, DataError
from lcframework.paths import conf_dir
from lcframework.run.app import register
from lcframework.run.config import forget_run_id

PROTEINS = 60


@pytest.fixture
def prefix(tmp_path):
    """Files of a graph of 60 proteins that lie on a ring with chords."""
    generator = np.random.default_rng(0)
    letters = np.array(list("LAGVSERTIDPKQNFYMHWC"))
    lines = [
        f">p{i}\nM{''.join(generator.choice(letters, generator.integers(20, 60)))}\n"
        for i in range(PROTEINS)
    ]
    edges = [f"p{i}\tp{(i + step) % PROTEINS}\n" for i in range(PROTEINS) for step in (1, 5, 7)]
    (tmp_path / "toy.fasta").write_text("".join(lines))
    (tmp_path / "toy_edges.tsv").write_text("protein1\tprotein2\n" + "".join(edges))
    return tmp_path / "toy"


def module(prefix, **settings):
    settings = {"valid_share": 0.2, "test_share": 0.2, "max_tokens": 400, **settings}
    made = PPIGraphDataModule(graph=prefix, **settings)
    made.setup()
    return made


def test_training_walks_never_touch_a_held_out_protein(prefix):
    data = module(prefix, walk=WalkRule(length=6, per_node=3, negative_share=0.0))
    members = data.members
    assert sum(one.sum() for one in members.values()) == PROTEINS
    walks = data.dataset("train").epoch_walks(0).walks
    assert members["train"][walks[walks != NO_NODE]].all()
    for split in ("valid", "test"):
        walks = data.dataset(split).epoch_walks(0).walks
        assert members[split][walks[:, 0]].all()
        assert members["train"][walks[walks != NO_NODE]].any()  # neighbours are context


def test_negative_training_walks_keep_to_training_proteins_too(prefix):
    data = module(prefix, walk=WalkRule(length=6, per_node=3, negative_share=1.0))
    walks = data.dataset("train").epoch_walks(0).walks
    assert data.members["train"][walks[walks != NO_NODE]].all()


def test_only_held_out_residues_are_scored(prefix):
    data = module(prefix, walk=WalkRule(length=5), mask_probability=1.0)
    for batch in data.val_dataloader():
        tokens = np.where(batch.labels >= 0, batch.labels, batch.tokens)
        drawn = data.dataset("valid").epoch_walks(0).walks[batch.sequence_ids.numpy()]
        nodes = drawn[drawn != NO_NODE]
        node_of = nodes[np.cumsum(tokens == BON_ID) - 1]
        scored = batch.labels.numpy() >= 0
        assert not data.members["train"][node_of[scored]].any()
        assert scored.sum() > 0


def test_a_split_depends_on_sequences_alone(prefix, tmp_path):
    first = module(prefix)
    (tmp_path / "toy_edges.tsv").write_text("p3 p4\np1 p2\n")
    assert (module(prefix).members["test"] == first.members["test"]).all()
    assert (module(prefix, split_seed=1).members["test"] != first.members["test"]).any()


def test_controls(prefix):
    real = module(prefix)
    shuffled = module(prefix, control="shuffled")
    one, other = real.graph("train"), shuffled.graph("train")
    assert one.degrees().tolist() == other.degrees().tolist()
    assert not other.has_edges(one.pairs()).all()
    singles = module(prefix, control="singles")
    batch = next(iter(singles.train_dataloader()))
    assert not ((batch.tokens == EDGE_ID) | (batch.tokens == NO_EDGE_ID)).any()
    assert len(singles.dataset("train")) == len(real.dataset("train")) * 5


def test_an_epoch_holds_every_walk_once_on_every_rank(prefix):
    data = module(prefix, walk=WalkRule(length=4, per_node=2))
    loader = data.train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        ids = np.concatenate([batch.sequence_ids for batch in loader])
        assert sorted(ids) == list(range(len(data.dataset("train"))))
    assert data.sequence_names("train", [0, 1, 2])[0] == data.sequence_names("train", [1])[0]


def test_shuffling_keeps_degrees_and_makes_no_repeats():
    pairs = np.random.default_rng(1).integers(0, 30, (120, 2))
    graph, _ = build_graph(pairs, 30)
    other = graph.shuffled(3)
    assert other.degrees().tolist() == graph.degrees().tolist()
    assert other.edges == graph.edges
    assert not graph.has_edges(other.pairs()).all()
    assert (graph.shuffled(3).neighbours == other.neighbours).all()


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"graph": None}, DataError, "set data.graph"),
        ({"edges": "x"}, ValueError, "not both"),
        ({"control": "fake"}, ValueError, "real, shuffled, singles"),
        ({"valid_share": 0.6, "test_share": 0.4}, ValueError, "leave something to train on"),
        ({"valid_share": 1e-6}, DataError, "falls to valid"),
    ],
)
def test_impossible_settings_are_refused(prefix, settings, error, words):
    with pytest.raises(error, match=words):
        PPIGraphDataModule(**{"graph": prefix, "test_share": 0.2, **settings}).setup()


SMALL = ["model.d_model=16", "model.n_layers=1", "trainer.max_steps=2"]


@pytest.fixture
def second(prefix, tmp_path, monkeypatch):
    """Overrides of the second stage, with Hydra ready."""
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    register()
    overrides = ["experiment=lcplm_g/pretrain", f"data.graph={prefix}", "data.walk.per_node=3"]
    overrides += ["data.valid_share=0.2", "data.walk.p=0.5", "data.walk.q=2"]
    overrides += ["trainer.val_check_interval=2"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield [*overrides, *SMALL, "paths.run_dir=second"]
    forget_run_id()


def test_a_network_without_room_for_the_tokens_is_refused(second):
    from lcframework.run.fit import train

    with pytest.raises(ConfigError, match=r"37 token ids .* has 33 rows"):
        train(compose("train", [*second, "model=esm2_tiny"]))


def test_the_experiment_runs_from_a_first_stage(second, tmp_path):
    from lcframework.run.fit import train

    first = ["experiment=lcplm/quickstart", "test=false", "paths.run_dir=first"]
    train(compose("train", [*first, *SMALL]))
    forget_run_id()
    train(compose("train", [*second, "checkpoint=first"]))
    kept = json.loads((tmp_path / "second" / "results.json").read_text())
    assert kept["data"]["train"]["walk"]["p"] == 0.5
    assert kept["data"]["train"]["edges"] == 3 * PROTEINS
    logged = (tmp_path / "second" / "metrics.csv").read_text()
    assert "val/perplexity" in logged.splitlines()[0]
