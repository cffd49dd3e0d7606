"""What squeezed attention read and answered: shares per sparsity with intervals over documents, a
table and a picture per layer, and every answer beside its references."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from lcframework.data.fixed_context import FixedContextQueries
from lcframework.files import save_figure, write_csv, write_text
from lcframework.scoring.agreement import agreement
from lcframework.scoring.intervals import Interval, bootstrap_ratio
from lcframework.tasks.squeezed_lm import DocumentAnswers

log = logging.getLogger(__name__)
ANSWERS, KEPT = "answers.jsonl", "kept_by_layer"
Rows = list[dict[str, Any]]


class SqueezedReport(Callback):
    """Gathers the answers of all ranks; writes `answers.jsonl` and, under `figures/`, the kept
    share of every layer as CSV and PNG.

    Args:
        folder: the run directory.

    Attributes:
        results: for `results.json`: per sparsity `test/kept@S` (share of the clustered tokens
            read), `test/budget@S` (centroids included), `test/agreement@S` (share of the tokens
            before the answer leaves the dense one; only where 0 is among the sparsities), all
            means over questions with intervals over documents; the tables `documents` and
            `kept_by_layer`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.results: dict[str, Any] = {}
        self._questions: Rows = []
        self._layers: Rows = []
        self._documents: Rows = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self._questions, self._layers, self._documents = [], [], []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: FixedContextQueries,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one document's answers."""
        found: DocumentAnswers = outputs["answers"]
        self._questions += question_rows(found)
        self._layers += layer_rows(found)
        self._documents.append(
            {
                "document": batch.document_id,
                "questions": len(batch.questions),
                "context_tokens": found.context_tokens,
                "clustered_tokens": found.clustered_tokens,
                **found.build_seconds,
                **{f"answer_s@{one}": found.seconds[one] for one in found.seconds},
            }
        )

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the ranks' rows together, each document once; log, keep and write them."""
        parts = [self._questions, self._layers, self._documents]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, parts)
            parts = [_first_of_each(gathered, which) for which in range(3)]
        questions, layers, documents = parts
        metrics = summary(questions)
        values = {name: interval.value for name, interval in metrics.items()}
        pl_module.log_dict(values, sync_dist=True)  # the same on every rank
        table = mean_by_layer(layers)
        self.results = {
            "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
            "tables": {"documents": documents, KEPT: table},
        }
        if not trainer.is_global_zero:
            return
        lines = (json.dumps(row, ensure_ascii=False) for row in questions)
        write_text(self.folder / ANSWERS, "".join(f"{line}\n" for line in lines))
        write_csv(self.folder / "figures" / f"{KEPT}.csv", table)
        save_figure(draw_kept(table), self.folder / "figures" / f"{KEPT}.png")
        for name, one in metrics.items():
            log.info(
                "%-24s %7.3f  (95%% interval %.3f to %.3f)", name, one.value, one.low, one.high
            )


def _first_of_each(gathered: Sequence[Sequence[Rows]], which: int) -> Rows:
    """Rows of all ranks; a document that a sampler gave to two ranks counts once."""
    rows: Rows = []
    for rank in gathered:
        seen = {row["document"] for row in rows}
        rows += [row for row in rank[which] if row["document"] not in seen]
    return rows


def question_rows(found: DocumentAnswers) -> Rows:
    """One row per question and sparsity."""
    dense = found.answers.get(0.0)
    rows = []
    for sparsity, answers in found.answers.items():
        for number, one in enumerate(answers):
            same = None if dense is None else agreement(one.tokens, dense[number].tokens)
            rows.append(
                {
                    "document": found.batch.document_id,
                    "question": one.question,
                    "sparsity": sparsity,
                    "answer": one.text,
                    "references": list(found.batch.references[number]),
                    "tokens": len(one.tokens),
                    "kept": float(one.kept.mean()),
                    "budget": one.budget,
                    "agreement": same,
                }
            )
    return rows


def layer_rows(found: DocumentAnswers) -> Rows:
    """One row per sparsity and layer: mean share kept, over questions and heads, and its extremes
    over the heads."""
    rows = []
    for sparsity, answers in found.answers.items():
        kept_LH = torch.stack([one.kept for one in answers]).mean(0)
        for layer, heads in zip(found.layers, kept_LH, strict=True):
            rows.append(
                {
                    "document": found.batch.document_id,
                    "sparsity": sparsity,
                    "layer": layer,
                    "kept": float(heads.mean()),
                    "lowest_head": float(heads.min()),
                    "highest_head": float(heads.max()),
                }
            )
    return rows


def mean_by_layer(rows: Rows) -> Rows:
    """Mean over documents of `layer_rows`."""
    grouped: dict[tuple[float, int], Rows] = {}
    for row in rows:
        grouped.setdefault((row["sparsity"], row["layer"]), []).append(row)
    names = ("kept", "lowest_head", "highest_head")
    return [
        {"sparsity": sparsity, "layer": layer}
        | {name: sum(row[name] for row in some) / len(some) for name in names}
        for (sparsity, layer), some in sorted(grouped.items())
    ]


def summary(rows: Rows) -> dict[str, Interval]:
    """Means over questions with intervals over documents, `test/NAME@SPARSITY`."""
    documents = list(dict.fromkeys(row["document"] for row in rows))
    place = {name: index for index, name in enumerate(documents)}
    found = {}
    for name in ("kept", "budget", "agreement"):
        for sparsity in dict.fromkeys(row["sparsity"] for row in rows):
            sums, counts = [0.0] * len(documents), [0] * len(documents)
            for row in rows:
                if row["sparsity"] == sparsity and row[name] is not None:
                    sums[place[row["document"]]] += row[name]
                    counts[place[row["document"]]] += 1
            if any(counts):
                found[f"test/{name}@{sparsity:g}"] = bootstrap_ratio(sums, counts)
    return found


def draw_kept(rows: Rows) -> Figure:
    """Share kept of every layer, a line per sparsity, a band over the heads."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for sparsity in dict.fromkeys(row["sparsity"] for row in rows):
        own = [row for row in rows if row["sparsity"] == sparsity]
        layers = [row["layer"] for row in own]
        (line,) = axes.plot(layers, [row["kept"] for row in own], "o-", markersize=3)
        line.set_label(f"sparsity {sparsity:g}")
        low, high = ([row[name] for row in own] for name in ("lowest_head", "highest_head"))
        axes.fill_between(layers, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(
        xlabel="layer", ylabel="share of the clustered tokens read", ylim=(0, 1.05),
        title="Read of the document; band: lowest and highest head",
    )  # fmt: skip
    axes.legend(fontsize=8)
    return figure
