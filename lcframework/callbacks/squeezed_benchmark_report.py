"""The report of a benchmark answered by squeezed attention or a baseline: scores as of any model,
and beside them the dense model's, divergence, budget, what each layer reads, and costs."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import lightning.pytorch as pl

from lcframework.callbacks.generation_report import GenerationReport
from lcframework.callbacks.method_figures import draw_budget, draw_layers
from lcframework.files import save_figure, write_csv
from lcframework.scoring.method_table import DENSE, layer_table, method_rows, method_table
from lcframework.scoring.suites import score_answer

log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]
MEASURES = ("budget", "kept_question", "kl", "agreement", "gold", "gold_kl", "difference")


class SqueezedBenchmarkReport(GenerationReport):
    """`GenerationReport` for `SqueezedGenerationTask`; also writes `figures/methods.csv`,
    `budget.png`, `kept_by_layer.csv` and `.png`.

    Attributes:
        results: beside what `GenerationReport` has: `test/budget`, `test/kl` and so on of the
            method (see `method_table`); the tables `methods`, `kept_by_layer`, `cost` (per
            document tokens, seconds of the build, bytes) and `squeeze` (the method's settings).
    """

    def extend(self, trainer: pl.Trainer, rows: Rows) -> None:
        """Add the comparison with the dense model."""
        rows = [row for row in rows if row.get("readings")]
        if not rows:
            return
        for row in rows:
            item = self._items[row["key"]]
            for reading in row["readings"].values():
                text = reading["text"]
                reading["score"] = None
                if text is not None:
                    reading["score"] = score_answer(
                        item.suite, item.task, text, item.references, item.all_classes
                    )
        flat = method_rows(rows)
        table = method_table(flat)
        layers = layer_table(flat, rows[0]["layers"])
        self.results["tables"] |= {
            "methods": table, "kept_by_layer": layers, "cost": cost_rows(rows),
            "squeeze": [asdict(cast(Any, trainer.lightning_module).squeeze)],
        }  # fmt: skip
        method = [row for row in table if row["method"] != DENSE][-1]
        for name in MEASURES:
            if method[name] is not None:
                self.results["metrics"][f"test/{name}"] = {
                    "value": method[name],
                    "low": method[f"{name}_low"],
                    "high": method[f"{name}_high"],
                    "n": method["documents"],
                }
        if trainer.is_global_zero:
            folder = self.folder / "figures"
            write_csv(folder / "methods.csv", table)
            write_csv(folder / "kept_by_layer.csv", layers)
            save_figure(draw_budget(table), folder / "budget.png")
            save_figure(draw_layers(layers), folder / "kept_by_layer.png")
            for row in table:
                log.info(
                    "%-18s budget %.3f, KL %s, score %s", row["method"], row["budget"],
                    _show(row["kl"]), _show(row["score"]),
                )  # fmt: skip


def cost_rows(rows: Sequence[dict[str, Any]]) -> Rows:
    """One row per document: `document`, `context_tokens`, `questions`, seconds of the build, bytes,
    and seconds of the answers per method."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = found.setdefault(
            row["document"],
            {
                "document": row["document"],
                "context_tokens": row["context_tokens"],
                "questions": 0,
                **row["build"],
                **{f"{name}_bytes": value for name, value in row["bytes"].items()},
            },
        )
        one["questions"] += 1
        for name, reading in row["readings"].items():
            for key, value in (("seconds", reading["seconds"]), ("tokens", reading["new_tokens"])):
                one[f"{name}_{key}"] = one.get(f"{name}_{key}", 0) + value
    return list(found.values())


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
