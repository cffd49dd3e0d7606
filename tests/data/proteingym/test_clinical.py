"""ProteinGym's clinical sets: labels instead of measurements, AUC per protein and pooled."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from gym_files import TARGET, write

from lcframework.callbacks.proteingym_report import ProteinGymReport
from lcframework.callbacks.proteingym_table import (
    BLOSUM,
    pooled_auc,
    result_metrics,
    score_assay,
    summary_rows,
)
from lcframework.data.proteingym.datamodule import ProteinGymDataModule
from lcframework.data.proteingym.folder import find_assays, read_targets
from lcframework.errors import DataError
from lcframework.models.lcplm import LCPLM
from lcframework.tasks.variant_effects.task import VariantEffectTask

HEADER = ["protein", "protein_sequence", "mutant", "mutated_sequence", "DMS_bin_score"]
OTHER = "MALWMRLLPL"


def row(mutant, label, target=TARGET):
    position = int(mutant[1:-1])
    sequence = target[: position - 1] + mutant[-1] + target[position:]
    return ("NP_1", target, mutant, sequence, label)


@pytest.fixture
def clinical(tmp_path):
    reference = [("NP_1", TARGET, "NP_1.csv"), ("NP_2", OTHER, "NP_2.csv")]
    header = ["DMS_id", "target_seq", "DMS_filename"]
    write(tmp_path / "clinical_substitutions.csv", reference, header)
    rows = [row("K2R", "Benign"), row("T3P", "Pathogenic"), row("Y5W", "Pathogenic")]
    write(tmp_path / "NP_1.csv", rows, HEADER)
    write(tmp_path / "NP_2.csv", [row("A2G", "Benign", OTHER)], HEADER)
    return tmp_path


def test_labels_are_read_as_fitness(clinical):
    one, two = (target.assays[0] for target in read_targets(find_assays(clinical)))
    assert one.info.clinical and one.info.uniprot_id == "NP_1"
    assert one.binary.tolist() == [1, 0, 0] and one.scores.tolist() == [1, 0, 0]
    assert len(two) == 1


def test_auc_per_protein_and_pooled_by_hand(clinical):
    assays = [target.assays[0] for target in read_targets(find_assays(clinical))]
    # Benign at 0: above one of the two pathogenic ones. Pooled: benign {0, 3} against {-1, 1}:
    # pairs won 0 > -1, 3 > -1, 3 > 1 of four.
    scored = [
        score_assay(assays[0], np.array([0.0, -1.0, 1.0]), "m"),
        score_assay(assays[1], np.array([3.0]), "m"),
    ]
    rows = {one["method"]: one for one in summary_rows(scored, 10, 0)}
    assert rows["m"]["auc"] == 0.5 and rows["m"]["pooled_auc"] == 0.75
    assert rows["m"]["assays"] == 1  # the other has one label
    # K2R is 2 in BLOSUM62, T3P -1, Y5W 2: one tie, one win.
    assert rows[BLOSUM]["auc"] == 0.75
    assert pooled_auc(scored, "m") == 0.75
    metrics = result_metrics(scored, "m", 10, 0)
    assert list(metrics) == ["proteingym/auc"] and metrics["proteingym/auc"]["value"] == 0.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("K2R", "Uncertain")], "line 2: DMS_bin_score is 'Uncertain'"),
        ([row("K2R", "Benign"), ("NP_1", TARGET, "A2R", TARGET, "Benign")], "wrong wild type"),
    ],
)
def test_bad_clinical_files(clinical, rows, message):
    write(clinical / "NP_1.csv", rows, HEADER)
    with pytest.raises(DataError, match=message):
        read_targets(find_assays(clinical))


def test_one_reference_file_is_wanted(clinical):
    write(clinical / "DMS_indels.csv", [("a",)], ["DMS_id"])
    with pytest.raises(DataError, match=r"holds DMS_indels.csv and clinical_substitutions.csv"):
        find_assays(clinical)


def test_a_clinical_evaluation_end_to_end(clinical, tmp_path):
    torch.manual_seed(0)
    report = ProteinGymReport(tmp_path / "run", resamples=10)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[report], enable_progress_bar=False,
        enable_checkpointing=False,
    )  # fmt: skip
    task = VariantEffectTask(LCPLM(d_model=12, n_layers=1, d_state=4))
    trainer.test(task, datamodule=ProteinGymDataModule(clinical), verbose=False)
    rows = report.results["tables"]["proteingym_summary"]
    assert rows[0]["method"].startswith("lcplm") and rows[0]["auc"] in (0.0, 0.5, 1.0)
    assert "pooled_auc" in rows[0] and "spearman" not in rows[0]
    assert (tmp_path / "run" / "figures" / "proteingym.png").is_file()
