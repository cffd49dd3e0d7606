"""The Focused Learning task: it learns, resumes exactly, refuses, saves adapters."""

import lightning.pytorch as pl
import pytest
import torch
from focused_examples import custom_rows, item, llm

from lcframework.callbacks.exact_resume import ExactResume
from lcframework.callbacks.generation_report import GenerationReport
from lcframework.data.focused.datamodule import CustomDataModule
from lcframework.data.retrieval.retrievers import BM25, Everything
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import CheckpointError, ConfigError, DataError
from lcframework.models.focused.lora import LoRA, ensure_mask_token, load_adapted
from lcframework.tasks.focused_generation import FocusedGeneration
from lcframework.tasks.focused_pool import Weights
from lcframework.tasks.focused_qa import FocusedQATask
from lcframework.tasks.optimizers import WarmupCosineAdamW


def task(lora=True, dropout=0.1, **options):
    torch.manual_seed(0)
    given = {"template": "never", "optimizer": WarmupCosineAdamW(lr=5e-3, weight_decay=0.0)}
    adapters = LoRA(r=4, dropout=dropout) if lora else None
    return FocusedQATask(llm(), lora=adapters, **given | options)


def data(folder, n=9, **options):
    path = folder / "rows.jsonl"
    if not path.exists():
        custom_rows(path, n)
    rule = Retrieval(BM25(), top_k=1, cache_dir=str(folder / "cache"))
    given = {"retrieval": rule, "pool_size": 3, "chat": False}
    return CustomDataModule(path, path, path, **given | options)


def trainer(folder, steps=4, callbacks=(), **options):
    given = {
        "max_steps": steps, "max_epochs": -1, "accelerator": "cpu", "devices": 1, "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        "default_root_dir": folder, "callbacks": [ExactResume(), *callbacks],
        "enable_checkpointing": False,
    }  # fmt: skip
    return pl.Trainer(**given | options)


class Losses(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        found = trainer.callback_metrics
        self.seen.append((float(found["train/loss"]), float(found["train/contrast"])))


@pytest.mark.parametrize(("original", "which"), [(1.0, 0), (0.0, 1)])
def test_it_learns(tmp_path, original, which):
    losses = Losses()
    one = task(weights=Weights(original=original), dropout=0.0)
    trainer(tmp_path, 20, [losses]).fit(one, datamodule=data(tmp_path))
    first, last = (sum(row[which] for row in part) for part in (losses.seen[:4], losses.seen[-4:]))
    assert last < 0.8 * first


def test_steps_train_alike(tmp_path):
    seen = []
    for step in ("cached", "direct", "gather"):
        losses = Losses()
        pl.seed_everything(3, verbose=False)
        one = task(step=step)
        trainer(tmp_path, 3, [losses]).fit(one, datamodule=data(tmp_path))
        seen.append(losses.seen)
    # The first step is the same; after it the random state goes on alike, too.
    assert seen[1] == seen[2]  # one rank
    torch.testing.assert_close(torch.tensor(seen[0]), torch.tensor(seen[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_passes_of_many_sequences_train_like_passes_of_one(tmp_path, packing):
    seen = []
    for options in ({}, {"pass_tokens": 400, "packing": packing}):
        losses = Losses()
        pl.seed_everything(3, verbose=False)
        one = task(dropout=0.0, view="removal", **options)
        run = trainer(tmp_path, 3, [losses])
        run.fit(one, datamodule=data(tmp_path))
        found = [float(run.callback_metrics[f"val/{name}"]) for name in ("loss", "contrast")]
        seen.append([*losses.seen, tuple(found)])
    torch.testing.assert_close(torch.tensor(seen[0]), torch.tensor(seen[1]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("at", [3, 4])  # 3: the end of an epoch
def test_a_resumed_run_repeats_the_unbroken_one(tmp_path, at):
    pl.seed_everything(3, verbose=False)
    unbroken = Losses()
    trainer(tmp_path / "a", 7, [unbroken]).fit(task(), datamodule=data(tmp_path))
    pl.seed_everything(3, verbose=False)
    recipe = WarmupCosineAdamW(lr=5e-3, weight_decay=0.0, total_steps=7)
    first, second = Losses(), Losses()
    stopped = trainer(tmp_path / "b", at, [first])
    stopped.fit(task(optimizer=recipe), datamodule=data(tmp_path))
    stopped.save_checkpoint(tmp_path / "stop.ckpt")
    pl.seed_everything(99, verbose=False)
    again = trainer(tmp_path / "b", 7, [second])
    again.fit(task(optimizer=recipe), datamodule=data(tmp_path), ckpt_path=tmp_path / "stop.ckpt")
    assert again.global_step == 7
    assert first.seen + second.seen == unbroken.seen


def test_a_checkpoint_holds_what_is_trained_and_fits_its_model(tmp_path):
    one = task()
    run = trainer(tmp_path, 1)
    run.fit(one, datamodule=data(tmp_path))
    run.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    names = set(saved["state_dict"])
    assert all("lora_" in n or "log_scale" in n or "token" in n for n in names)
    assert any("trainable_tokens" in n for n in names)  # the new mask token's row
    assert sum(t.numel() for t in saved["state_dict"].values()) < 0.3 * sum(
        p.numel() for p in one.model.parameters()
    )
    options = {"datamodule": data(tmp_path), "ckpt_path": tmp_path / "a.ckpt"}
    other = FocusedQATask(llm(seed=5), lora=LoRA(r=4), template="never")
    with pytest.raises(CheckpointError, match="other weights"):
        trainer(tmp_path, 2).fit(other, **options)
    with pytest.raises(CheckpointError, match=r"trains other weights.*task\.lora"):
        trainer(tmp_path, 2).fit(task(view="hole"), **options)
    saved_file = tmp_path / "model"
    llm()[0].save_pretrained(saved_file)
    llm()[1].save_pretrained(saved_file)
    with pytest.raises(CheckpointError, match=r"no adapter.*focused\.json"):
        load_adapted(saved_file, tmp_path / "cache")


@pytest.mark.parametrize("tied", [False, True])
def test_adapter_round_trip(tmp_path, tied):
    model, tokenizer = llm(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model.name_or_path = str(tmp_path / "model")
    from lcframework.models.llm.load import load_llm

    one = FocusedQATask(load_llm(tmp_path / "model", attn_implementation="sdpa", device="cpu"),
                        WarmupCosineAdamW(lr=5e-2), LoRA(r=4), template="never")  # fmt: skip
    trainer(tmp_path / "run", 3).fit(one, datamodule=data(tmp_path))
    one.network.eval()
    again, new = load_adapted(
        tmp_path / "model", tmp_path / "run", attn_implementation="sdpa", device="cpu"
    )
    assert new.mask_token == one.tokenizer.mask_token == "<mask>"
    ids = torch.tensor([[5, 9, one.mask_id, 30, 31]])
    with torch.no_grad():
        wanted, found = one.model(ids).logits, again(ids).logits
        base = load_llm(tmp_path / "model", device="cpu")[0](ids[:, :2]).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found[:, :2, : base.shape[-1]] - base).abs().max() > 1e-2
    trainer(tmp_path / "run", 4).fit(  # the end of a longer run replaces the adapter
        FocusedQATask(load_llm(tmp_path / "model", device="cpu"), lora=LoRA(r=2), template="never"),
        datamodule=data(tmp_path),
    )
    model, _ = llm(seed=4, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="another model"):
        load_adapted(tmp_path / "other", tmp_path / "run", device="cpu")


@pytest.mark.parametrize("answer_from", ["original", "focused"])
def test_any_model_can_be_tested(tmp_path, answer_from):
    one = FocusedGeneration(llm(), "never", answer_from=answer_from, view="removal")
    report = GenerationReport(tmp_path / answer_from)
    trainer(tmp_path, callbacks=[report]).test(one, datamodule=data(tmp_path), verbose=False)
    (row,) = report.results["tables"]["tasks"]
    assert row["n"] == 9 and 0 <= row["score"] <= 100
    given = one.encode(item())
    whole = one.tokens(item(), None)
    assert (len(given.ids) < len(whole.ids)) == (answer_from == "focused")
    gold, _ = one._both(item())
    assert one.gold_losses([gold])[0] > 0 and gold.answer_tokens == len(" Rome") + 1


def test_only_some_answers_are_written():
    one = FocusedGeneration(llm(), "never", max_written=1)
    assert one.test_step(item(1), 0)["answer"].text is None
    assert one.test_step(item(0), 0)["answer"].text is not None
    assert one.test_step(item(5), 0)["answer"].more["gold_nats"] > 0


def test_truncated_items_count_and_lose_their_pair():
    one = FocusedQATask(llm(), template="never", max_length=150)
    pair = one.pair(item(0, (3,)))
    assert not pair.contrast and len(pair.original.ids_N) == 150
    assert one.pair(item(0, (0,))).contrast


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="beyond the 1024 positions"):
        task(max_length=5000)
    with pytest.raises(ConfigError, match="step='magic'"):
        task(step="magic")
    with pytest.raises(ConfigError, match=r"lora\.targets"):
        FocusedQATask(llm(), lora=LoRA(targets=["nothing"]), template="never")
    with pytest.raises(ConfigError, match="no token of this model"):
        task(mask_token="<blank>")
    with pytest.raises(ValueError, match="no negative"):
        data(tmp_path, pool_size=1)
    with pytest.raises(ValueError, match="nothing to train"):
        Weights(0, 0, 0)
    with pytest.raises(DataError, match="do not fill one pool of 50"):
        trainer(tmp_path).fit(task(), datamodule=data(tmp_path, pool_size=50))
    rule = Retrieval(BM25(), top_k=9, cache_dir=str(tmp_path))
    with pytest.raises(DataError, match="no pair of views is left"):
        trainer(tmp_path).fit(task(), datamodule=data(tmp_path, retrieval=rule))


def test_vanilla_training_needs_no_second_view(tmp_path):
    rule = Retrieval(Everything(), cache_dir=str(tmp_path))
    one = task(weights=Weights(contrast=0.0), lora=False)
    assert not one.new_token and not one.network.log_scale.requires_grad
    trainer(tmp_path, 2).fit(one, datamodule=data(tmp_path, retrieval=rule))
    assert not (tmp_path / "adapter").exists()  # the whole model is in the checkpoint


def test_mask_token():
    model, tokenizer = llm()
    assert ensure_mask_token(model, tokenizer, "<pad>") == (256, False)
    new, added = ensure_mask_token(model, tokenizer)
    assert added and new == 259 and len(model.get_input_embeddings().weight) == 260
    assert ensure_mask_token(model, tokenizer) == (259, False)


@pytest.mark.parametrize(
    "step", ["cached", *(pytest.param(one, marks=pytest.mark.slow) for one in ("gather", "queue"))]
)
def test_two_ranks_train_like_one(tmp_path, step):
    """Lightning's DDP, two pools of 3: the same weights as one process with a pool of 6."""
    saved = []
    for devices, size in ((1, 6), (2, 3)):
        folder = tmp_path / str(devices)
        pl.seed_everything(3, verbose=False)
        keep = pl.callbacks.ModelCheckpoint(folder, "end", every_n_train_steps=2)
        run = trainer(folder, 2, strategy="ddp_fork" if devices > 1 else "auto", devices=devices,
                      enable_checkpointing=True,
                      callbacks=[keep],
        )  # fmt: skip
        run.fit(task(dropout=0.0, step=step), datamodule=data(tmp_path, 14, pool_size=size))
        saved.append(torch.load(folder / "end.ckpt", weights_only=True)["state_dict"])
    one, two = saved
    assert one.keys() == two.keys() and any("lora_B" in name for name in one)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-5, msg=name)
    assert max(w.abs().max() for n, w in one.items() if "lora_B" in n) > 1e-3


@pytest.mark.parametrize("view", ["mask", "hole", "removal", "compact"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_batches_answer_like_one_at_a_time(tmp_path, view, attention):
    """Written answers, their lengths, and the likelihood of the right ones."""
    rows = []
    for tokens in (None, 3000):
        pl.seed_everything(1, verbose=False)
        one = FocusedGeneration(
            llm(attention=attention), "never", answer_from="focused", view=view, max_written=11,
            test_tokens=tokens,
        )  # fmt: skip
        report = GenerationReport(tmp_path / str(tokens))
        given = data(tmp_path, 12)  # the questions from 10 on are longer
        trainer(tmp_path, callbacks=[report]).test(one, datamodule=given, verbose=False)
        rows.append(sorted(report.rows, key=lambda row: row["key"]))
    lone, many = rows
    assert len(lone) == len(many) == 12 and sum(row["answer"] is None for row in many) == 1
    assert len({row["prompt_tokens"] for row in many}) > 1  # so that there was padding
    for first, second in zip(lone, many, strict=True):
        for name in ("key", "answer", "new_tokens", "prompt_tokens", "truncated", "not_run"):
            assert first[name] == second[name], name
        assert second["gold_nats"] == pytest.approx(first["gold_nats"], rel=1e-4)


def test_answers_that_are_there_are_not_made_again_in_batches(tmp_path):
    one = FocusedGeneration(llm(), "never", max_written=0, test_tokens=500)
    seen = []
    one.gold_losses = lambda views: seen.extend(views) or [1.0] * len(views)  # type: ignore[method-assign]
    trainer(tmp_path, callbacks=[GenerationReport(tmp_path / "a")], limit_test_batches=4).test(
        one, datamodule=data(tmp_path), verbose=False
    )
    assert len(seen) == 9  # nine are made ahead, four are kept
    again = GenerationReport(tmp_path / "a")
    trainer(tmp_path, callbacks=[again]).test(one, datamodule=data(tmp_path), verbose=False)
    assert len(seen) == 9 + 5 and len(again.rows) == 9


def test_a_token_of_its_own_behind_every_prompt(tmp_path):
    """Trained, saved, found again by evaluation; its state is the embedding."""
    from lcframework.models.llm.load import load_llm

    model, tokenizer = llm()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    options = {"attn_implementation": "sdpa", "device": "cpu"}
    one = FocusedQATask(
        load_llm(tmp_path / "model", **options), WarmupCosineAdamW(lr=5e-2), LoRA(r=4),
        pooling="special_token", template="never",
    )  # fmt: skip
    one.total = 150
    encoded = one.tokens(item(), "Rome")
    one.total = None
    assert encoded.ids[-1] == one.end_id and encoded.kept[-1] and one.mask_id != one.end_id
    assert len(encoded.ids) + len(encoded.answer) == 150 and encoded.truncated
    view = one.pair(item()).focused
    with torch.no_grad():
        state = one.model.base_model(**view.inputs("cpu")).last_hidden_state[0]
        found = one.network([view], False).embedding_SE[0]
    assert int(view.ids_N[view.prompt_tokens - 1]) == one.end_id
    torch.testing.assert_close(found, state[view.prompt_tokens - 1])
    trainer(tmp_path / "run", 3).fit(one, datamodule=data(tmp_path))
    again = FocusedGeneration(
        load_adapted(tmp_path / "model", tmp_path / "run", **options), "never"
    )
    one.eval()
    assert again.encode(item()).ids == one.encode(item()).ids
    assert again.encode(item()).ids[-1] == one.end_id
    ids = torch.tensor([[5, 9, one.mask_id, 30, one.end_id]])
    with torch.no_grad():
        before = load_llm(tmp_path / "model", **options)[0](ids[:, :2]).logits
        wanted, found = one.model(ids).logits, again.model(ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found[:, :2, : before.shape[-1]] - before).abs().max() > 1e-2
    named = FocusedQATask(
        llm(), lora=LoRA(r=2), pooling="special_token", end_token="<pad>", template="never"
    )
    assert named.end_id == 256 and not named.new_end and 256 in named._new_rows()
    with pytest.raises(ConfigError, match=r"task\.end_token='<nothing>'"):
        FocusedGeneration(llm(), "never", end_token="<nothing>")


@pytest.mark.parametrize(
    ("given", "said"),
    [({"gradient_clip_val": 1.0}, "task.clip"), ({"accumulate_grad_batches": 2}, "data.pool_size")],
)
def test_the_trainer_neither_clips_nor_accumulates(tmp_path, given, said):
    with pytest.raises(ConfigError, match=rf"trainer\.{next(iter(given))}=.*{said}"):
        trainer(tmp_path, **given).fit(task(), datamodule=data(tmp_path))


def test_a_resumed_queue_repeats_the_unbroken_run(tmp_path):
    def run(folder, steps, seed, resume=None):
        pl.seed_everything(seed, verbose=False)
        losses = Losses()
        recipe = WarmupCosineAdamW(lr=5e-3, weight_decay=0.0, total_steps=6)
        one = task(optimizer=recipe, step="queue", queue_size=7, view="removal")
        fit = trainer(folder, steps, [losses])
        fit.fit(one, datamodule=data(tmp_path), ckpt_path=resume)
        fit.save_checkpoint(folder / "end.ckpt")
        return losses.seen, len(one.queue)

    whole, held = run(tmp_path / "a", 6, 3)
    first, _ = run(tmp_path / "b", 4, 3)
    second, _ = run(tmp_path / "b", 6, 99, tmp_path / "b" / "end.ckpt")
    assert first + second == whole and held == 7


def test_packing_is_refused_where_it_would_change_the_model():
    with pytest.raises(ConfigError, match="sliding window"):
        FocusedQATask(llm("gemma3"), lora=LoRA(r=2), packing=True, template="never")
