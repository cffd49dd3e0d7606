"""ProteinGym as a test: scores, averages, files, and what a bad folder says."""

import csv
import json
import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from gym_files import HEADER, ROWS, TARGET, reference, reference_row, write

from lcframework.callbacks.proteingym_report import ProteinGymReport
from lcframework.callbacks.proteingym_table import (
    BLOSUM,
    POSITION,
    ScoredAssay,
    score_assay,
    summary_rows,
)
from lcframework.data.proteingym.assays import read_assay
from lcframework.data.proteingym.datamodule import ProteinGymDataModule
from lcframework.data.proteingym.folder import find_assays, read_targets
from lcframework.data.proteingym.reference import AssayInfo
from lcframework.errors import ConfigError, DataError
from lcframework.models.lcplm import LCPLM
from lcframework.scoring.proteingym.aggregate import AssayKey
from lcframework.scoring.proteingym.assay_metrics import assay_metrics
from lcframework.tasks.variant_effects import reference as slow
from lcframework.tasks.variant_effects.task import VariantEffectTask

OTHER = "MALWMRLLPL"


def other_rows():
    rows = []
    for number, (name, score) in enumerate([("A2G", 0.5), ("L3V", 2.0), ("W4F", -1.0), ("P9A", 0)]):
        position = int(name[1:-1])
        sequence = OTHER[: position - 1] + name[-1] + OTHER[position:]
        rows.append((name, sequence, score, number % 2))
    return rows


@pytest.fixture
def gym(tmp_path):
    folder = tmp_path / "gym"
    folder.mkdir()
    rows = [
        reference_row("A_1"),
        reference_row("A_2", kind="Stability"),
        reference_row("B_1", OTHER),
        reference_row("C_1"),
    ]
    reference(folder, rows)
    write(folder / "A_1.csv", ROWS)
    write(folder / "A_2.csv.gz", [*ROWS[:2], ("R10W", "MKTAYIAKQW", 3.0, 0)], compress=True)
    write(folder / "B_1.csv", other_rows())
    published = [("A_1", 0.5, "Activity"), ("B_1", 0.25, "Activity")]
    write(folder / "baseline_spearman.csv", published, ["DMS ID", "ESM2 (8M)", "Selection Type"])
    return folder


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    made = LCPLM(d_model=12, n_layers=1, d_state=4)
    torch.nn.init.normal_(made.lm_head.weight, std=1.0)
    return made.eval()


def results_of(gym, network, folder, **options):
    report = ProteinGymReport(folder, resamples=100)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[report], enable_progress_bar=False,
        enable_checkpointing=False,
    )  # fmt: skip
    task = VariantEffectTask(network, max_tokens=50, **options)
    trainer.test(task, datamodule=ProteinGymDataModule(gym), verbose=False)
    return report.results


def test_the_report_holds_what_the_definitions_say(gym, network, tmp_path):
    results = results_of(gym, network, tmp_path)
    scores = [slow.masked_marginals(network, TARGET, row[0]) for row in ROWS]
    wanted = assay_metrics([row[2] for row in ROWS], [row[3] for row in ROWS], scores)
    rows = results["tables"]["proteingym_assays"]
    own = next(row for row in rows if row["DMS_id"] == "A_1" and row["method"].startswith("lcplm"))
    assert own["variants"] == 4
    for name, value in wanted.items():
        assert own[name] == (round(value, 3) if math.isfinite(value) else None), name
    summary = {row["method"]: row for row in results["tables"]["proteingym_summary"]}
    assert summary["ESM2 (8M), published"]["spearman"] == 0.375
    assert summary["ESM2 (8M), published"]["assays"] == 2
    assert {BLOSUM, POSITION} < set(summary)
    by_kind = {row["DMS_id"]: row["spearman"] for row in rows if row["method"] == own["method"]}
    average = ((by_kind["A_1"] + by_kind["B_1"]) / 2 + by_kind["A_2"]) / 2
    assert summary[own["method"]]["spearman"] == pytest.approx(average, abs=6e-4)
    assert results["metrics"]["proteingym/spearman"]["n"] == 3


def test_tables_and_picture_are_written(gym, network, tmp_path):
    results = results_of(gym, network, tmp_path)
    figures = tmp_path / "figures"
    assert (figures / "proteingym.png").read_bytes()[:4] == b"\x89PNG"
    for name in ("proteingym_summary", "proteingym_assays"):
        kept = json.loads((figures / f"{name}.json").read_text())
        assert kept == results["tables"][name]
        with (figures / f"{name}.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == len(kept)


def test_pseudo_log_likelihood_scores_indels(gym, network, tmp_path):
    rows = [(TARGET[:5], 1.0, 1), (TARGET + "W", 0.0, 0), ("MKKTAYIAKQR", 2.0, 1)]
    write(gym / "A_1.csv", rows, HEADER[1:])
    results = results_of(gym, network, tmp_path, strategy="pseudo-log-likelihood")
    found = results["tables"]["proteingym_assays"]
    methods = [row["method"] for row in found if row["DMS_id"] == "A_1"]
    assert len(methods) == 2  # no baseline knows insertions; one published number
    scores = [slow.pseudo_log_likelihood(network, row[0]) for row in rows]
    wanted = assay_metrics([row[1] for row in rows], [row[2] for row in rows], scores)
    assert found[0]["spearman"] == round(wanted["spearman"], 3)
    with pytest.raises(ConfigError, match="A_1 has insertions.*strategy=pseudo"):
        results_of(gym, network, tmp_path)


def test_assays_of_one_target_share_its_positions(gym):
    targets = read_targets(find_assays(gym))
    assert [[assay.info.dms_id for assay in one.assays] for one in targets] == [
        ["A_1", "A_2"],
        ["B_1"],
    ]


def test_a_fixed_subset(gym):
    chosen = [read_targets(find_assays(gym), max_variants=2)[0].assays[0] for _ in range(2)]
    assert chosen[0].mutants.names == chosen[1].mutants.names
    assert len(chosen[0]) == len(chosen[0].sequences) == 2
    assert chosen[0].mutants.sequences(TARGET) == chosen[0].sequences
    whole = {row[0]: row for row in ROWS}
    for name, score in zip(chosen[0].mutants.names, chosen[0].scores, strict=True):
        assert whole[name][2] == score


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": None}, ConfigError, "add data.path=DIR"),
        ({"assays": ["X"]}, ConfigError, "lists no X"),
        ({"assays": ["C_1"]}, ConfigError, "holds no file of C_1"),
        ({"bad_mutants": "keep"}, ConfigError, "choose one of refuse, drop"),
        ({"max_variants": 1}, ConfigError, "at least 2"),
    ],
)
def test_bad_settings(gym, options, error, message):
    with pytest.raises(error, match=message):
        ProteinGymDataModule(**{"path": gym, **options}).setup()


def test_bad_folders(gym):
    write(gym / "B_1.csv", [("L2G", OTHER, 0, 0)])
    with pytest.raises(DataError, match="wrong wild type"):
        ProteinGymDataModule(gym).setup()
    for path in gym.glob("[AB]_*"):
        path.unlink()
    with pytest.raises(DataError, match="holds none of the 4 files"):
        ProteinGymDataModule(gym).setup()


def test_a_better_model_stands_above_and_differences_have_errors():
    def one(name, uniprot, own, other):
        methods = {"ours": {"spearman": own}, BLOSUM: {"spearman": other}}
        return ScoredAssay(name, AssayKey(uniprot, "Binding"), 9, 0, methods)

    rows = summary_rows([one("a", "P", 0.5, 0.1), one("b", "Q", 0.7, 0.2)], 500, 0)
    ours, blosum = rows
    assert (ours["spearman"], blosum["spearman"]) == (0.6, 0.15)
    assert ours["difference_standard_error"] == 0.0
    assert blosum["difference_standard_error"] == pytest.approx(0.05 / math.sqrt(2), abs=4e-3)
    assert blosum["auc"] is None


@pytest.mark.realdata
def test_a_real_assay_end_to_end(real_data, network):
    info_path = real_data / "proteingym"
    folder = find_assays(info_path, assays=["DLG4_RAT_McLaughlin_2012"])
    (target,) = read_targets(folder)
    (assay,) = target.assays
    task = VariantEffectTask(network)
    scores = task.test_step(target, 0)[assay.info.dms_id]
    chosen = np.linspace(0, len(assay) - 1, 5).astype(int)
    wanted = [
        slow.masked_marginals(network, target.target, assay.mutants.names[index])
        for index in chosen
    ]
    np.testing.assert_allclose(scores[chosen], wanted, atol=1e-4)
    assert score_assay(assay, scores, "m").methods[POSITION]["spearman"] > 0.5


def test_the_supervised_baseline_is_marked(gym):
    info = AssayInfo("A_1", "A_1.csv", "A", TARGET, "Activity")
    scored = score_assay(read_assay(gym / "A_1.csv", info), np.arange(4.0), "m")
    assert "supervised" in " ".join(scored.methods)
