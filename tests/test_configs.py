"""Every shipped config composes, and every experiment runs one batch of everything in this
process."""

import json
from pathlib import Path

import pytest
from gym_files import ROWS, reference, reference_row, write
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from tape_files import write_jsonl

from lcframework.data.tape.tasks import TASKS
from lcframework.errors import ConfigError
from lcframework.paths import conf_dir
from lcframework.run.app import register
from lcframework.run.config import forget_run_id
from lcframework.run.instantiate import instantiate

SIZES = ("tiny", "2m", "8m", "35m", "130m", "340m", "790m", "1b4")
TRAINING = ("lcplm/quickstart", "lcplm/pretrain")
DENSE = ("longbench/dense", "dense/prefix_qa", "dense/kv_retrieval", "dense/ruler")
SQUEEZED = tuple(f"squeezed/{name}" for name in ("longbench", "prefix_qa", "kv_retrieval", "ruler"))
BENCHMARKS = (*DENSE, *SQUEEZED)
DOWNSTREAM = tuple(f"tape/{name}" for name in TASKS)
# tests/test_focused_configs.py runs these.
FOCUSED = tuple(
    f"focused/{one}" for one in ("ablation", "custom", "distraction", "nqd", "qasper", "quality")
)
# tests/data/graphs runs it.
GRAPHS = ("lcplm_g/pretrain",)
SMALL_MODELS = {
    "lcplm_tiny": ["model.d_model=16", "model.n_layers=1"],
    "esm2_tiny": ["model.d_model=16", "model.n_layers=1"],
}


@pytest.fixture(autouse=True)
def hydra_ready(tmp_path, monkeypatch):
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield
    forget_run_id()


def composed(name, *overrides):
    return compose(name, overrides=list(overrides))


def every_group_choice():
    skip = {"experiment", "hydra", "hparams_search", "variant"}  # a variant is one of an experiment
    for folder in sorted(conf_dir().iterdir()):
        if folder.is_dir() and folder.name not in skip:
            for path in sorted(folder.glob("*.yaml")):
                yield folder.name, path.stem


@pytest.mark.parametrize(("group", "choice"), list(every_group_choice()))
def test_every_group_choice_composes_and_resolves(group, choice):
    name, more = ("evaluate", ["checkpoint=null"]) if group == "squeeze" else ("train", [])
    cfg = composed(name, f"{group}={choice}", *more)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def test_every_experiment_is_known_to_the_tests():
    found = {
        str(p.relative_to(conf_dir() / "experiment").with_suffix(""))
        for p in conf_dir().glob("experiment/**/*.yaml")
    }
    evaluating = {
        "lcplm/evaluate",
        "lcplm/length_bins",
        "lcplm/proteingym",
        *DOWNSTREAM,
        "squeezed/documents",
        *BENCHMARKS,
    }
    assert found == {*TRAINING, *evaluating, *FOCUSED, *GRAPHS}


@pytest.mark.parametrize("size", SIZES)
def test_block_parameters_of_the_pair_match(size):
    import torch

    blocks = {}
    for family in ("lcplm", "esm2"):
        with torch.device("meta"):
            model = instantiate(composed("train", f"model={family}_{size}").model)
        blocks[family] = model.num_parameters("blocks")
        assert model.num_parameters() > blocks[family]
    assert blocks["esm2"] == pytest.approx(blocks["lcplm"], rel=0.03)


def test_the_released_size():
    import torch

    with torch.device("meta"):
        assert (
            instantiate(composed("train", "model=lcplm_790m").model).num_parameters() == 752_788_992
        )


@pytest.mark.parametrize("model", sorted(SMALL_MODELS))
@pytest.mark.parametrize("experiment", TRAINING)
def test_training_experiments_run_one_batch(experiment, model, tmp_path):
    from lcframework.run.fit import train

    overrides = [f"experiment={experiment}", f"model={model}", "debug=fdr", *SMALL_MODELS[model]]
    record, objects = train(composed("train", *overrides, f"paths.run_dir={tmp_path}/run"))
    assert objects["trainer"].fast_dev_run
    assert record["metrics"]["test/perplexity"]["value"] > 1
    assert (tmp_path / "run" / "results.json").is_file()
    for name in ("amino_acids", "length_bins"):  # fast_dev_run logs no loss to draw
        assert (tmp_path / "run" / "figures" / f"{name}.png").is_file()
        assert (tmp_path / "run" / "figures" / f"{name}.csv").is_file()


def test_evaluation_of_a_trained_run_repeats_its_test(tmp_path):
    from lcframework.run.evaluate import evaluate
    from lcframework.run.fit import train

    small = ["experiment=lcplm/quickstart", *SMALL_MODELS["lcplm_tiny"], "trainer.max_steps=2"]
    record, _ = train(composed("train", *small, f"paths.run_dir={tmp_path}/run"))
    test = Path(record["data"]["test"]["path"][0]).name
    sample = composed("train").data.test
    assert Path(sample).name == test
    again, _ = evaluate(
        composed(
            "evaluate",
            "experiment=lcplm/evaluate",
            f"checkpoint={tmp_path}/run",
            f"data.test={sample}",
            f"paths.run_dir={tmp_path}/evaluation",
        )
    )
    for name in ("test/perplexity", "baseline/neighbour_perplexity"):
        assert again["metrics"][name]["value"] == pytest.approx(
            record["metrics"][name]["value"], rel=1e-5
        )
    assert (tmp_path / "run" / "figures" / "amino_acids.png").is_file()
    assert (tmp_path / "evaluation" / "figures" / "length_bins.csv").is_file()
    assert not (tmp_path / "evaluation" / "figures" / "loss.png").exists()  # it did not train


def test_evaluation_by_length(tmp_path):
    from lcframework.run.evaluate import evaluate
    from lcframework.run.fit import train

    small = ["experiment=lcplm/quickstart", *SMALL_MODELS["lcplm_tiny"], "trainer.max_steps=1"]
    train(composed("train", *small, "test=false", f"paths.run_dir={tmp_path}/run"))
    by_length = [
        "experiment=lcplm/length_bins",
        f"checkpoint={tmp_path}/run",
        f"data.test={composed('train').data.test}",
        f"paths.run_dir={tmp_path}/evaluation",
        "+trainer.limit_test_batches=2",
    ]
    record, _ = evaluate(composed("evaluate", *by_length, "callbacks.lengths.contexts=[512]"))
    parts = {"scores_by_length", "loss_by_end_distance", "loss_by_context"}
    assert parts | {"length_bins", "amino_acids"} <= set(record["tables"])
    written = {path.name for path in (tmp_path / "evaluation" / "figures").iterdir()}
    assert {f"{part}.{end}" for part in parts for end in ("csv", "json", "png")} <= written
    kept = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert kept["tables"]["loss_by_context"] == record["tables"]["loss_by_context"]
    with pytest.raises(ConfigError, match="length_edges=.*unsorted"):
        evaluate(composed("evaluate", *by_length, "callbacks.lengths.length_edges=[512,128]"))


def test_evaluation_on_proteingym(tmp_path):
    from lcframework.run.evaluate import evaluate
    from lcframework.run.fit import train

    small = ["experiment=lcplm/quickstart", *SMALL_MODELS["lcplm_tiny"], "trainer.max_steps=1"]
    train(composed("train", *small, "test=false", f"paths.run_dir={tmp_path}/run"))
    gym = tmp_path / "gym"
    gym.mkdir()
    reference(gym, [reference_row("A_1")])
    write(gym / "A_1.csv", ROWS)
    scoring = [
        "experiment=lcplm/proteingym",
        f"checkpoint={tmp_path}/run",
        f"paths.run_dir={tmp_path}/evaluation",
    ]
    record, _ = evaluate(composed("evaluate", *scoring, f"data.path={gym}"))
    assert record["data"]["test"]["assays"] == 1
    kept = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert kept["metrics"]["proteingym/spearman"] == record["metrics"]["proteingym/spearman"]
    assert kept["tables"]["proteingym_setting"][0]["strategy"] == "masked-marginals"
    assert (tmp_path / "evaluation" / "figures" / "proteingym.png").is_file()
    with pytest.raises(ConfigError, match="data.path=DIR"):
        evaluate(composed("evaluate", *scoring, f"paths.run_dir={tmp_path}/no_folder"))


def tape_folder(folder):
    """Every task's splits, small, with labels that fit."""
    labels = {
        "ss3": [0, 1, 2, -1, 0, 1, 2, 0], "fold_label": 3, "label": 1, "log_fluorescence": [1.5],
        "stability_score": [0.5], "tertiary": [[float(i), 0.0, 0.0] for i in range(8)],
    }  # fmt: skip
    folder.mkdir()
    for spec in TASKS.values():
        for split in ("train", "valid", spec.tests[0]):
            rows = [{"primary": word, spec.labels[0]: labels[spec.labels[0]]} for word in
                    ("MKTAYIAK", "GGAVLIWC")]  # fmt: skip
            write_jsonl(folder / f"{spec.stem}_{split}.jsonl", rows)
    return folder


@pytest.mark.parametrize("experiment", DOWNSTREAM)
def test_downstream_tasks_from_a_checkpoint(experiment, tmp_path):
    from lcframework.run.fit import train

    small = ["experiment=lcplm/quickstart", *SMALL_MODELS["lcplm_tiny"], "trainer.max_steps=1"]
    train(composed("train", *small, "test=false", f"paths.run_dir={tmp_path}/run"))
    overrides = [
        f"experiment={experiment}",
        f"checkpoint={tmp_path}/run",
        f"data.path={tape_folder(tmp_path / 'tape')}",
        "trainer.max_epochs=1",
        f"paths.run_dir={tmp_path}/task",
    ]
    record, objects = train(composed("train", *overrides))
    model = objects["task"].model
    assert (model.d_model, len(model.blocks)) == (16, 1)  # the checkpoint's, not the default's
    spec = TASKS[experiment.partition("/")[2]]
    rows = record["tables"]["tape"]
    assert {row["metric"] for row in rows} == {spec.metric} and len(rows) >= 2
    assert all("rebuilt split" in row["note"] for row in rows)
    kept = json.loads((tmp_path / "task" / "results.json").read_text())
    assert kept["data"]["test"]["split"].startswith("rebuilt split")
    assert (tmp_path / "task" / "figures" / "tape.png").is_file()


def test_both_protocols_in_the_loop_as_the_readme_writes_them(tmp_path):
    from lcframework.run.fit import train

    gym = tmp_path / "gym"
    gym.mkdir()
    reference(gym, [reference_row("A_1")])
    write(gym / "A_1.csv", ROWS)
    record, objects = train(
        composed(
            "train",
            "experiment=lcplm/pretrain",
            "callbacks=[proteingym,tape_probe]",
            f"callbacks.proteingym.path={gym}",
            f"callbacks.tape_probe.path={tape_folder(tmp_path / 'tape')}",
            "callbacks.tape_probe.every_n_steps=1",
            *SMALL_MODELS["lcplm_tiny"],
            "trainer.max_steps=2",
            "test=false",
            f"paths.run_dir={tmp_path}/run",
        )
    )
    assert [row["step"] for row in record["tables"]["tape_probe_steps"]] == [1, 2]
    assert [row["step"] for row in record["tables"]["proteingym_steps"]] == [2]
    names = {type(callback).__name__ for callback in objects["callbacks"]}
    assert {"ModelCheckpoint", "ExactResume", "ProteinGymInLoop", "TapeProbeInLoop"} <= names
    assert (tmp_path / "run" / "figures" / "tape_probe.png").is_file()


def test_proteingym_in_the_loop(tmp_path):
    from lcframework.run.fit import train

    gym = tmp_path / "gym"
    gym.mkdir()
    reference(gym, [reference_row("A_1")])
    write(gym / "A_1.csv", ROWS)
    record, _ = train(
        composed(
            "train",
            "experiment=lcplm/quickstart",
            *SMALL_MODELS["lcplm_tiny"],
            "trainer.max_steps=3",
            "test=false",
            "callbacks=[proteingym]",
            f"callbacks.proteingym.path={gym}",
            "callbacks.proteingym.every_n_steps=2",
            f"paths.run_dir={tmp_path}/run",
        )
    )
    assert [row["step"] for row in record["tables"]["proteingym_steps"]] == [2, 3]
    assert "proteingym/spearman" in (tmp_path / "run" / "metrics.csv").read_text().split("\n")[0]


def test_questions_about_documents(tmp_path):
    from tiny_decoders import DOCUMENT, byte_tokenizer, tiny_model

    from lcframework.run.evaluate import evaluate

    tiny_model().save_pretrained(tmp_path / "llm")
    byte_tokenizer().save_pretrained(tmp_path / "llm")
    row = {"doc_id": "a", "context": DOCUMENT, "questions": ["What costs 3?"]}
    (tmp_path / "docs.jsonl").write_text(json.dumps(row) + "\n")
    overrides = [
        "experiment=squeezed/documents",
        f"model.path={tmp_path}/llm",
        f"data.path={tmp_path}/docs.jsonl",
        f"paths.run_dir={tmp_path}/run",
        "task.max_new_tokens=4",
        "task.plan.levels=log",
    ]
    record, objects = evaluate(composed("evaluate", *overrides, "task.squeeze.scope=head"))
    assert objects["task"].squeeze.scope == "head" and objects["task"].plan.levels == "log"
    assert record["metrics"]["test/agreement@0"]["value"] == 1
    assert record["metrics"]["test/kept@0.9"]["value"] < 1
    assert record["data"]["test"]["questions"] == 1 and record["run"]["checkpoint"] is None
    for name in ("results.json", "answers.jsonl", "figures/kept_by_layer.png"):
        assert (tmp_path / "run" / name).is_file()
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        evaluate(composed("evaluate", "experiment=lcplm/evaluate", "checkpoint=null",
                          f"data.test={composed('train').data.test}",
                          f"paths.run_dir={tmp_path}/other"))  # fmt: skip


@pytest.mark.parametrize("experiment", BENCHMARKS)
def test_benchmarks_of_written_answers(experiment, tmp_path):
    from tiny_decoders import DOCUMENT, byte_tokenizer, tiny_model

    from lcframework.run.evaluate import evaluate

    tiny_model(attention="sdpa", max_position_embeddings=4096).save_pretrained(tmp_path / "llm")
    byte_tokenizer().save_pretrained(tmp_path / "llm")
    row = {"input": "q", "context": DOCUMENT, "answers": ["a"], "length": 1, "_id": "1"}
    rows = {
        "qasper.jsonl": row,
        "prefix_qa.jsonl": {
            "doc_id": "d", "context": DOCUMENT, "questions": [{"question": "q", "answers": ["a"]}]
        },
        "kv_retrieval.jsonl": {"ordered_kv_records": [["k", "v"]], "key": "k", "value": "v"},
    }  # fmt: skip
    for name, row in rows.items():
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    data = {
        "longbench/dense": [f"data.path={tmp_path}", "data.tasks=[qasper]"],
        "squeezed/longbench": [f"data.path={tmp_path}", "data.tasks=[qasper]"],
        "dense/ruler": ["data.length=900", "data.tasks=[qa]", "data.n=1"],
        "squeezed/ruler": ["data.length=900", "data.tasks=[qa]", "data.n=1"],
    }.get(experiment, [f"data.path={tmp_path}/{experiment.split('/')[1]}.jsonl"])
    overrides = [
        f"experiment={experiment}",
        f"model.path={tmp_path}/llm",
        "task.template=never",
        f"paths.run_dir={tmp_path}/run",
        *data,
    ]
    if experiment in SQUEEZED:
        overrides += ["task.plan.window=16", "squeeze.sparsity=0.8"]
    record, objects = evaluate(composed("evaluate", *overrides))
    if experiment in SQUEEZED:
        assert objects["task"].squeeze.sparsity == 0.8
        assert 0 < record["metrics"]["test/budget"]["value"] < 0.6
        assert record["metrics"]["test/kl"]["value"] > 0
        for name in ("budget.png", "methods.csv", "kept_by_layer.png"):
            assert (tmp_path / "run" / "figures" / name).is_file()
    (row,) = record["tables"]["tasks"]
    assert row["n"] == 1 and row["not_run"] == 0 and 0 <= row["score"] <= 100
    assert record["data"]["test"]["n"] == 1
    for name in ("results.json", "answers/rank0.jsonl", "figures/tasks.png", "figures/tasks.csv"):
        assert (tmp_path / "run" / name).is_file()


def test_wandb_offline_keeps_one_id_per_run_directory(tmp_path, monkeypatch):
    from lcframework.run.fit import train

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    small = ["experiment=lcplm/quickstart", *SMALL_MODELS["lcplm_tiny"], "logger=wandb"]
    small += ["test=false", "trainer.log_every_n_steps=1"]
    ids = []
    for steps in (1, 2):
        train(
            composed("train", *small, f"trainer.max_steps={steps}", f"paths.run_dir={tmp_path}/run")
        )
        ids.append((tmp_path / "run" / "wandb_id").read_text())
    assert ids[0] == ids[1]
    offline = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert offline
    # Two runs within a second: W&B numbers the second folder behind the id.
    assert all(ids[0].strip() in path.name for path in offline)
    assert (tmp_path / "run" / "metrics.csv").is_file()


def test_tensorboard_writes_its_events(tmp_path):
    from lcframework.run.fit import train

    small = ["experiment=lcplm/quickstart", *SMALL_MODELS["lcplm_tiny"], "logger=tensorboard"]
    train(
        composed(
            "train", *small, "trainer.max_steps=1", "test=false", f"paths.run_dir={tmp_path}/run"
        )
    )
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out*"))
