"""ProteinGym's tables from scored assays: per assay, and averaged the official way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcframework.data.proteingym.assays import Assay
from lcframework.data.proteingym.published import Published
from lcframework.data.proteingym.reference import SELECTION_TYPES
from lcframework.scoring.proteingym.aggregate import DECIMALS, AssayKey, aggregate
from lcframework.scoring.proteingym.assay_metrics import METRICS, assay_metrics, auc
from lcframework.scoring.proteingym.baselines import blosum62_scores, position_mean_scores

BLOSUM, POSITION = "BLOSUM62", "position mean (supervised)"
PUBLISHED = ("Site-Independent", "GEMME", "ESM2 (8M)", "ESM2 (35M)", "ESM2 (150M)", "ESM2 (650M)")
"""Published models that are shown where the folder has their numbers."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class ScoredAssay:
    """One assay's metrics under each method; small, so that ranks can exchange it.

    Attributes:
        dms_id: the assay.
        key: its protein and kind of selection.
        variants: how many were scored.
        dropped: how many were left out.
        methods: method -> metric -> value; a published method has only Spearman, a clinical set
            only AUC.
        labels: (N,) 1 benign, 0 pathogenic, of a clinical set; else None.
        predictions: method -> (N,) scores, of a clinical set, for the pooled AUC; else empty.
    """

    dms_id: str
    key: AssayKey
    variants: int
    dropped: int
    methods: dict[str, dict[str, float]] = field(default_factory=dict)
    labels: NDArray[np.int64] | None = None
    predictions: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def clinical(self) -> bool:
        """Whether the variants have labels and no measurements."""
        return self.labels is not None


def score_assay(assay: Assay, scores: NDArray[np.float64], model: str) -> ScoredAssay:
    """The model's metrics on one assay beside those of the baselines.

    Args:
        assay: measurements.
        scores: (N,) the model's.
        model: its name in the tables.
    """

    predictions = {model: scores}
    mutants = assay.mutants
    if mutants is not None:  # neither baseline knows insertions
        predictions[BLOSUM] = blosum62_scores(
            mutants.owner, mutants.wild, mutants.mutant, len(assay)
        )
        predictions[POSITION] = position_mean_scores(mutants.owner, mutants.positions, assay.scores)
    info = assay.info
    key = AssayKey(info.uniprot_id, info.selection_type)
    dropped = sum(assay.dropped.values())
    if info.clinical:
        methods = {name: {"auc": auc(assay.binary, one)} for name, one in predictions.items()}
        return ScoredAssay(
            info.dms_id, key, len(assay), dropped, methods, assay.binary, predictions
        )
    methods = {
        name: assay_metrics(assay.scores, assay.binary, one) for name, one in predictions.items()
    }
    return ScoredAssay(info.dms_id, key, len(assay), dropped, methods)


def main_metric(scored: Sequence[ScoredAssay]) -> str:
    """What methods are ranked by: "auc" for clinical sets, "spearman" for assays."""
    return "auc" if scored and scored[0].clinical else "spearman"


def with_published(scored: Sequence[ScoredAssay], published: Published) -> None:
    """Add the published Spearman correlations of `PUBLISHED` to the assays, in place."""
    for one in scored:
        for name in PUBLISHED:
            value = published.get(name, {}).get(one.dms_id)
            if value is not None:
                one.methods[f"{name}, published"] = {"spearman": value}


def _rounded(value: float) -> float | None:
    return round(value, DECIMALS) if np.isfinite(value) else None


def assay_rows(scored: Sequence[ScoredAssay]) -> Rows:
    """One row per assay and method, values rounded to three decimals, None where undefined."""
    return [
        {
            "DMS_id": one.dms_id,
            "method": method,
            "UniProt_ID": one.key.uniprot_id,
            "selection_type": one.key.selection_type,
            "variants": one.variants,
            "dropped": one.dropped,
            **{name: _rounded(values.get(name, np.nan)) for name in METRICS},
        }
        for one in scored
        for method, values in one.methods.items()
    ]


def summary_rows(scored: Sequence[ScoredAssay], resamples: int, seed: int) -> Rows:
    """One row per method: the official averages and standard errors.

    Assays: all five averages, and Spearman by selection type. Clinical sets: `auc`, the mean over
    proteins that have both labels, and `pooled_auc` over all variants together, which is the one
    to read where most proteins have one label only (the indels).

    `standard_error` is that of the average Spearman or AUC, `difference_standard_error` that of the
    difference to the best zero-shot method of the table, as ProteinGym gives it. Both resample
    proteins within each selection type; None where no type has two proteins.
    """
    keys, main = [one.key for one in scored], main_metric(scored)
    names = list(dict.fromkeys(name for one in scored for name in one.methods))

    def values(method: str, metric: str) -> list[float]:
        return [one.methods.get(method, {}).get(metric, np.nan) for one in scored]

    averages = {name: aggregate(values(name, main), keys, None, 2).average for name in names}
    zero_shot = [name for name in names if name != POSITION]
    best = max(zero_shot, key=lambda name: np.nan_to_num(averages[name], nan=-2.0))
    rows: Rows = []
    for name in names:
        own = aggregate(values(name, main), keys, None, resamples, seed)
        difference = aggregate(values(name, main), keys, values(best, main), resamples, seed)
        row = {
            "method": name,
            main: _rounded(own.average),
            "standard_error": _rounded(own.standard_error),
            "difference_standard_error": _rounded(difference.standard_error),
        }
        if main == "auc":
            row["pooled_auc"] = _rounded(pooled_auc(scored, name))
        else:
            for metric in METRICS[1:]:
                average = aggregate(values(name, metric), keys, None, 2).average
                row[metric] = _rounded(average)
            row |= {kind: _rounded(own.by_type.get(kind, np.nan)) for kind in SELECTION_TYPES}
        rows.append(row | {"assays": own.assays})
    return rows


def pooled_auc(scored: Sequence[ScoredAssay], method: str) -> float:
    """AUC over the variants of all clinical sets together; NaN where there is one label only."""
    parts = [one for one in scored if one.labels is not None and method in one.predictions]
    if not parts:
        return float("nan")
    labels = np.concatenate([one.labels for one in parts if one.labels is not None])
    return auc(labels, np.concatenate([one.predictions[method] for one in parts]))


def result_metrics(
    scored: Sequence[ScoredAssay], model: str, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """The model's averages (five, or the AUC of clinical sets) for `results.json`; intervals
    are +- 1.96 standard errors, None where undefined."""
    keys = [one.key for one in scored]
    found = {}
    for metric in ("auc",) if main_metric(scored) == "auc" else METRICS:
        values = [one.methods[model][metric] for one in scored]
        own = aggregate(values, keys, None, resamples, seed)
        spread = 1.96 * own.standard_error
        bounds = {"value": own.average, "low": own.average - spread, "high": own.average + spread}
        found[f"proteingym/{metric}"] = {
            **{name: value if np.isfinite(value) else None for name, value in bounds.items()},
            "n": own.assays,
        }
    return found
