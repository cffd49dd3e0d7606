"""The report by length under lightning.Trainer alone: against a plain loop, in any batching."""

import csv
import json

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lcframework.callbacks.length_report import LengthReport
from lcframework.data.context_windows import target_starts, window_start
from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.errors import ConfigError, DataError
from lcframework.models.lcplm import LCPLM
from lcframework.tasks.masked_lm import MaskedLMTask

PARTS = ("scores_by_length", "loss_by_end_distance", "loss_by_context")
CONTEXTS, SPAN, COUNT = (42, 82), 16, 2
OPTIONS = {
    "length_edges": [50, 100],
    "distance_edges": [1, 8, 64],
    "contexts": CONTEXTS,
    "target_residues": SPAN,
    "targets_per_protein": COUNT,
    "min_proteins": 3,
    "resamples": 50,
}


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("length-report") / "proteins.fasta"
    letters = list("LAGVSERTIDPKQNFYMHWC")
    lengths = [30, 40, 41, 45, 60, 80, 81, 90, 95, 99, 100, 120, 140, 33, 55]
    path.write_text(
        "".join(f">p{i}\n{''.join(rng.choice(letters, n))}\n" for i, n in enumerate(lengths))
    )
    return path


def run(fasta, folder, max_tokens=300, task=None, **options):
    torch.manual_seed(0)
    task = task or MaskedLMTask(LCPLM(16, 1))
    torch.manual_seed(1)
    torch.nn.init.normal_(task.model.lm_head.weight)  # a network that has opinions
    data = UniRef50DataModule(
        test=str(fasta), max_tokens=max_tokens, store_dir=fasta.parent / "stores"
    )
    report = LengthReport(folder, **{**OPTIONS, **options})
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[report],
        default_root_dir=folder,
    )
    trainer.test(task, datamodule=data, verbose=False)
    return report.results["tables"], task, data


def nll_of(task, tokens, labels):
    """Protein or window alone: (positions, losses) of its scored residues."""
    at = (labels != -100).nonzero().squeeze(1)
    cu = torch.tensor([0, len(tokens)], dtype=torch.int32)
    with torch.no_grad():
        logits = task.model(tokens, cu, len(tokens), at=at)[:, :33]
    return at.numpy(), F.cross_entropy(logits, labels[at], reduction="none").numpy()


def by_hand(task, data):
    """Every number once more, protein by protein, with nothing of the callback."""
    dataset = data.dataset("test")
    total, ends, pairs = {}, {}, {}
    for protein in range(len(dataset)):
        pack = dataset[(0, np.array([protein]))]
        length = pack.num_tokens - 2
        at, nll = nll_of(task, pack.tokens, pack.labels)
        total.setdefault("0-49" if length < 50 else "50-99" if length < 100 else "100+", []).extend(
            nll
        )
        for where, loss in zip(at - 1, nll, strict=True):
            far, end = min((where, "N"), (length - 1 - where, "C"), key=lambda one: one[0])
            name = "0" if far < 1 else "1-7" if far < 8 else "8-63" if far < 64 else "64+"
            ends.setdefault((end, name), []).append(loss)
        for context in CONTEXTS:
            if length + 2 <= context:
                continue
            for start in target_starts(length, protein, SPAN, COUNT):
                low = window_start(length, start, SPAN, context - 2)
                tokens = torch.cat(
                    [
                        pack.tokens[:1],
                        pack.tokens[1 + low : 1 + low + context - 2],
                        pack.tokens[-1:],
                    ]
                )
                labels = torch.full((context,), -100)
                labels[1 + start - low : 1 + start - low + SPAN] = pack.labels[
                    1 + start : 1 + start + SPAN
                ]
                inside = (at > start) & (at <= start + SPAN)
                pairs.setdefault(context, []).append(
                    (nll_of(task, tokens, labels)[1].sum(), nll[inside].sum(), inside.sum())
                )
    return total, ends, pairs


def test_all_three_parts_equal_a_plain_loop(fasta, tmp_path):
    tables, task, data = run(fasta, tmp_path)
    total, ends, pairs = by_hand(task, data)
    assert [row["proteins"] for row in tables["scores_by_length"]] == [5, 7, 3]
    for row in tables["scores_by_length"]:
        assert row["residues_scored"] == len(total[row["bin"]])
        assert row["loss"] == pytest.approx(np.mean(total[row["bin"]]), rel=1e-5)
        assert row["perplexity"] == pytest.approx(np.exp(row["loss"]))
    for row in tables["loss_by_end_distance"]:
        here = ends.get((row["end"], row["distance"]), [])
        assert row["residues_scored"] == len(here)
        if row["loss"] is not None:
            assert row["loss"] == pytest.approx(np.mean(here), rel=1e-5)
    each = tables["loss_by_context"][: len(CONTEXTS)]
    assert [row["too_short"] for row in each] == [3, 8]  # 42 tokens hold 40 residues, 82 hold 80
    for row in each:
        near, whole, n = np.sum(pairs[row["context"]], axis=0)
        assert row["residues_scored"] == n
        assert row["loss"] == pytest.approx(near / n, rel=1e-5)
        assert row["whole_loss"] == pytest.approx(whole / n, rel=1e-5)
        assert row["difference"] == pytest.approx((near - whole) / n, abs=1e-5)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert abs(each[0]["difference"]) > 1e-4  # the network does see the rest of the protein


def same(one, other):
    for table in PARTS:
        for a, b in zip(one[table], other[table], strict=True):
            for key, value in a.items():
                if isinstance(value, float):
                    assert b[key] == pytest.approx(value, rel=1e-4, abs=1e-5), (table, key)
                else:
                    assert b[key] == value, (table, key)


def test_batching_and_packing_change_nothing(fasta, tmp_path):
    first = run(fasta, tmp_path / "a")[0]
    same(first, run(fasta, tmp_path / "b", max_tokens=2_000, window_tokens=1)[0])
    again = run(fasta, tmp_path / "c")[0]
    assert first == again


def test_the_seed_moves_the_stretches_only(fasta, tmp_path):
    first, other = run(fasta, tmp_path)[0], run(fasta, tmp_path, seed=1)[0]
    assert [row["loss"] for row in first["scores_by_length"]] == [
        row["loss"] for row in other["scores_by_length"]
    ]
    assert first["loss_by_context"][0]["loss"] != other["loss_by_context"][0]["loss"]


def test_the_terminal_shows_bins_and_contexts(fasta, tmp_path, caplog):
    with caplog.at_level("INFO"):
        tables = run(fasta, tmp_path, min_proteins=6)[0]
    lines = [record.getMessage() for record in caplog.records]
    row = tables["scores_by_length"][1]
    assert "length 0-49 too few, 5 proteins" in [" ".join(one.split()) for one in lines]
    [line] = [one for one in lines if one.startswith("length 50-99")]
    assert line.split()[2:5] == ["loss", f"{row['loss']:.3f}", f"({row['loss_low']:.3f}"]
    [line] = [one for one in lines if one.startswith("context 42 ")]
    assert f"{tables['loss_by_context'][0]['difference']:.4f}" in line


def test_files_say_too_few_where_json_has_null(fasta, tmp_path):
    tables = run(fasta, tmp_path, min_proteins=6)[0]
    figures = tmp_path / "figures"
    assert {path.name for path in figures.iterdir()} == {
        f"{part}.{end}" for part in PARTS for end in ("csv", "json", "png")
    }
    for part in PARTS:
        assert json.loads((figures / f"{part}.json").read_text()) == tables[part]
        assert (figures / f"{part}.png").read_bytes()[:4] == b"\x89PNG"
    with (figures / "scores_by_length.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["bin"] for row in rows] == ["0-49", "50-99", "100+"]
    assert [row["loss"] for row in rows][::2] == ["too few", "too few"]
    assert float(rows[1]["loss"]) == tables["scores_by_length"][1]["loss"]
    assert tables["scores_by_length"][0]["loss"] is None


def test_no_contexts_leave_the_comparison_out(fasta, tmp_path):
    tables = run(fasta, tmp_path, contexts=[])[0]
    assert set(tables) == set(PARTS[:2])
    assert not (tmp_path / "figures" / "loss_by_context.png").exists()


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"length_edges": [256, 128]}, "length_edges=.*unsorted"),
        ({"distance_edges": [1, 1]}, "distance_edges=.*twice"),
        ({"contexts": [512.5]}, "contexts=.*no whole number"),
        ({"contexts": [17], "target_residues": 16}, "17 tokens cannot hold target_residues=16"),
        ({"window_tokens": 0}, "must be positive"),
    ],
)
def test_bad_settings_are_refused_at_once(tmp_path, option, reason):
    with pytest.raises(ConfigError, match=reason):
        LengthReport(tmp_path, **option)


def test_memory_that_runs_out_is_told_with_sizes_and_cures(fasta, tmp_path):
    class Greedy(MaskedLMTask):
        def test_step(self, batch, batch_idx):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    with pytest.raises(DataError, match=r"longest protein .*eval_max_tokens.*2 TiB"):
        run(fasta, tmp_path, task=Greedy(LCPLM(16, 1)))
