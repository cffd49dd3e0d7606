"""The shipped configs of Focused Learning: every variant, trainer and data set on a tiny model."""

import json

import pytest
from focused_examples import custom_rows, nq_files
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tiny_decoders import byte_tokenizer, tiny_model

from lcframework.paths import conf_dir
from lcframework.run.app import register
from lcframework.run.config import forget_run_id
from lcframework.run.instantiate import instantiate

VARIANTS = sorted(path.stem for path in conf_dir().glob("variant/*.yaml"))
TRAINERS = sorted(path.stem for path in conf_dir().glob("trainer/*.yaml"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    tiny_model(attention="sdpa", max_position_embeddings=2048).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def hydra_ready(tmp_path, monkeypatch):
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield
    forget_run_id()


def nqd(folder, model):
    questions, passages = nq_files(folder)
    return [
        f"model.path={model}", "task.template=never", f"data.questions={questions}",
        f"data.passages={passages}", "data.split_sizes=[6,4,4]", "data.train_documents=[3]",
        "data.test_documents=[3]", "data.retrieval.top_k=1",
    ]  # fmt: skip


def run(name, folder, overrides):
    from lcframework.run.fit import train

    overrides = [f"experiment={name}", *overrides, f"paths.run_dir={folder}/run"]
    return train(compose("train", overrides=overrides))


def test_the_known_variants():
    wanted = {"vanilla", "vanilla_retrieval", "augmentation", "contrast", "full", "full_random",
              "full_oracle", "raft", "consistency"}  # fmt: skip
    assert set(VARIANTS) == wanted


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_runs_one_batch(variant, tmp_path, model):
    extra = ["data.pool_size=2", "debug=fdr", f"variant={variant}"]
    record, objects = run("focused/ablation", tmp_path, [*nqd(tmp_path, model), *extra])
    weights = objects["task"].weights
    assert (weights.contrast == 0) == (
        variant in ("vanilla", "vanilla_retrieval", "augmentation", "raft", "consistency")
    )
    assert (weights.original == 0) == (variant == "contrast")
    assert (weights.consistency > 0) == (variant == "consistency")
    assert (weights.focused > 0) == (variant == "augmentation")
    assert (objects["task"].answer_from == "focused") == (variant == "vanilla_retrieval")
    assert (objects["datamodule"].no_gold > 0) == (variant == "raft")
    name = type(objects["datamodule"].retrieval.retriever).__name__
    assert name == {"full_random": "Random", "full_oracle": "Oracle"}.get(variant, "BM25")
    assert record["tables"]["tasks"][0]["n"] == 1


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("name", ["nqd", "qasper", "quality", "custom", "ablation"])
def test_no_trainer_brings_a_clip_that_lightning_refuses(name, trainer):
    """Under manual optimisation the Trainer's own clipping and accumulation are errors."""
    cfg = compose("train", overrides=[f"experiment=focused/{name}", f"trainer={trainer}"])
    assert cfg.trainer.gradient_clip_val is None and cfg.trainer.accumulate_grad_batches == 1
    assert cfg.task._target_.endswith("FocusedQATask") and cfg.task.clip == 1.0


def test_training_writes_the_report_and_an_adapter_that_evaluation_takes(tmp_path, model):
    from lcframework.run.evaluate import evaluate

    extra = ["data.pool_size=2", "trainer.max_steps=2", "trainer.log_every_n_steps=1"]
    record, _ = run("focused/nqd", tmp_path, [*nqd(tmp_path, model), *extra])
    for name in ("distraction_map.png", "distraction_map.csv", "distraction_gap.csv", "loss.png"):
        assert (tmp_path / "run" / "figures" / name).is_file()
    metrics = record["metrics"]
    assert metrics["test/3_docs,_gold_at_0/exact_match"]["n"] == 4
    assert metrics["test/gold_only/words"]["value"] >= 0
    assert metrics["test/distraction_gap@3"]["n"] == metrics["test/distraction_nats@3"]["n"] == 4
    assert record["data"]["train"]["retrieval"]["recall@1"] > 0
    cfg = compose(
        "evaluate",
        overrides=["experiment=focused/distraction", *nqd(tmp_path, model),
                   f"model.adapter={tmp_path}/run", f"paths.run_dir={tmp_path}/again"],
    )  # fmt: skip
    again, _ = evaluate(cfg)
    for name in ("test/distraction_nats@3", "test/gold_only"):
        assert again["metrics"][name]["value"] == pytest.approx(metrics[name]["value"], abs=2e-3)
    assert again["tables"]["distraction_map"][0]["documents"] == 1


@pytest.mark.parametrize("name", ["custom", "quality", "qasper"])
def test_data_sets_of_files_train_and_test(name, tmp_path, model):
    path = tmp_path / f"{name}.json"
    text = " ".join(f"Word {n} of the story stands here." for n in range(60))
    if name == "custom":
        custom_rows(path, 5)
    elif name == "quality":
        rows = [{"article_id": str(n), "article": text, "questions": [
            {"question": f"Who is {n}?", "options": ["a", "b", "c", "d"], "gold_label": 1 + n % 4}
        ]} for n in range(4)]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        paragraphs = [text[n : n + 200] for n in range(0, 1000, 200)]
        reference = {"extractive_spans": ["here"], "evidence": [paragraphs[2]]}
        qas = [{"question_id": str(n), "question": f"What {n}?", "answers": [{"answer": reference}]}
               for n in range(4)]  # fmt: skip
        section = {"section_name": "s", "paragraphs": paragraphs}
        paper = {"abstract": "", "full_text": [section], "qas": qas}
        path.write_text(json.dumps({"p": paper}))
    options = [f"data.train={path}", f"data.valid={path}", f"model.path={model}",
               "task.template=never", "data.pool_size=2", "debug=fdr"]  # fmt: skip
    record, _ = run(f"focused/{name}", tmp_path, options)
    assert record["data"]["train"]["n"] >= 4 and record["tables"]["tasks"][0]["n"] == 1
    measure = {"custom": "custom/exact_match", "quality": "quality/by_option_likelihood",
               "qasper": "qasper/evidence_f1"}  # fmt: skip
    assert record["metrics"][f"test/{measure[name]}"]["n"] == 1
    assert record["metrics"][f"test/{name}/gold_nats"]["value"] > 0


def test_a_dense_retriever_and_dense_distractors_are_one_node_each(tmp_path):
    """The encoder is configured like anything else; a folder without a model is told so."""
    from lcframework.errors import CheckpointError

    node = {"_target_": "lcframework.data.retrieval.retrievers.Dense", "encoder": {
        "_target_": "lcframework.models.llm.sentence_encoder.SentenceEncoder",
        "path": str(tmp_path)}}  # fmt: skip
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        instantiate(node)
