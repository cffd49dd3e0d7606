"""The official average, its bootstrap, and the published rows of the shared baseline file."""

import csv
import math

import numpy as np
import pytest

from lcframework.data.proteingym.published import read_published
from lcframework.data.proteingym.reference import read_reference
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
    """Every published model's average over the shared rows, through our readers, against the
    official steps (group, mean, group, mean) on the file itself."""
    folder = real_data / "proteingym"
    with (folder / "baseline_spearman.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    published = read_published(folder / "baseline_spearman.csv")
    infos = {info.dms_id: info for info in read_reference(folder / "DMS_substitutions.csv")}
    assert {row["DMS ID"] for row in rows} == set(infos)
    keys = [AssayKey(info.uniprot_id, info.selection_type) for info in infos.values()]
    assert len(published) > 90
    for model, values in published.items():
        found = aggregate([values.get(name, math.nan) for name in infos], keys)
        groups: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row[model]:
                key = (row["Selection Type"], row["UniProt ID"])
                groups.setdefault(key, []).append(round(float(row[model]), 3))
        kinds: dict[str, list[float]] = {}
        for (kind, _), of_group in groups.items():
            kinds.setdefault(kind, []).append(sum(of_group) / len(of_group))
        by_type = {kind: sum(means) / len(means) for kind, means in kinds.items()}
        assert found.by_type == {kind: pytest.approx(mean) for kind, mean in by_type.items()}, model
        if by_type:
            assert found.average == pytest.approx(sum(by_type.values()) / len(by_type)), model
