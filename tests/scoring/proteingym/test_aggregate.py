"""The official average, its bootstrap, and the published rows of the shared baseline file."""

import csv
import math

import numpy as np
import pytest

from lcframework.scoring.proteingym.aggregate import (
    AssayKey,
    aggregate,
    bootstrap_standard_error,
    protein_means,
)

KEYS = [
    AssayKey("P1", "Activity"),
    AssayKey("P1", "Activity"),
    AssayKey("P2", "Activity"),
    AssayKey("P1", "Stability"),
]


def test_the_average_by_hand():
    values = [0.1, 0.3, 0.6, 0.8]
    assert protein_means(values, KEYS) == {
        "Activity": {"P1": pytest.approx(0.2), "P2": 0.6},
        "Stability": {"P1": 0.8},
    }
    found = aggregate(values, KEYS)
    assert found.by_type == {"Activity": pytest.approx(0.4), "Stability": pytest.approx(0.8)}
    assert found.average == pytest.approx(0.6)  # the plain mean over assays is 0.45
    assert found.assays == 4


def test_assays_are_rounded_before_they_are_averaged():
    found = aggregate([0.0004, 0.0004], [AssayKey("P1", "Activity"), AssayKey("P2", "Activity")])
    assert found.average == 0.0
    assert aggregate([0.0006], KEYS[:1]).average == 0.001


def test_undefined_values_are_left_out():
    found = aggregate([0.1, math.nan, 0.6, math.nan], KEYS)
    assert found.by_type == {"Activity": pytest.approx(0.35)}
    assert found.assays == 2
    assert math.isnan(aggregate([math.nan], KEYS[:1]).average)


def test_the_bootstrap_knows_the_standard_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=60)
    keys = [AssayKey(f"P{i}", "Activity") for i in range(60)]
    found = aggregate(values.tolist(), keys).standard_error
    assert found == pytest.approx(values.std() / math.sqrt(60), rel=0.03)
    same = aggregate(values.tolist(), keys, against=values.tolist())
    assert same.standard_error == 0.0


def test_the_bootstrap_by_all_draws():
    """Two proteins in one type: means a, (a + b) / 2 twice, b; a second type is constant."""
    a, b = 0.2, 0.6
    draws = np.array([a, (a + b) / 2, (a + b) / 2, b]) / 2 + 0.1
    found = bootstrap_standard_error({"Activity": {"P1": a, "P2": b}, "Binding": {"P3": 0.2}})
    assert found == pytest.approx(draws.std(), rel=0.03)
    assert math.isnan(bootstrap_standard_error({"Activity": {"P1": 0.3}}))
    assert math.isnan(bootstrap_standard_error({}))


@pytest.mark.realdata
def test_aggregates_of_the_published_rows(real_data):
    """Our mean of the shared rows, against plain sums over the same file."""
    with (real_data / "proteingym" / "baseline_spearman.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [AssayKey(row["UniProt ID"], row["Selection Type"]) for row in rows]
    kinds = sorted({row["Selection Type"] for row in rows})
    for model in ("ESM2 (8M)", "ESM2 (650M)", "Site-Independent", "GEMME", "VenusREM"):
        found = aggregate([float(row[model]) for row in rows], keys)
        # Each protein has one assay here, so a type's mean is that of its rows.
        by_hand = {
            kind: np.mean([float(row[model]) for row in rows if row["Selection Type"] == kind])
            for kind in kinds
        }
        assert found.by_type == {kind: pytest.approx(value) for kind, value in by_hand.items()}
        assert found.average == pytest.approx(np.mean(list(by_hand.values())))
