"""LongBench's scores as a torchmetrics metric: item scores gathered from all ranks, each once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lcframework.scoring.longbench.aggregate import task_score
from lcframework.scoring.longbench.tasks import METRICS, score

TASKS = tuple(METRICS)


class LongBenchMetric(Metric):
    """Accumulates answers of any of the tasks; `compute` gives the official numbers.

    An item seen twice counts once, its first answer: samplers that pad repeat some. The numbers are
    computed once from all item scores, never averaged over batches or ranks.
    """

    full_state_update = False
    items: list[Tensor] | Tensor
    scores: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("items", default=[], dist_reduce_fx="cat")
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def update(
        self,
        task: str,
        item: int,
        prediction: str,
        references: Sequence[str],
        all_classes: Sequence[str] | None = None,
    ) -> None:
        """Score one answer.

        Args:
            task: one of the 21.
            item: number of the item within the task, the same on every rank.
            prediction: the answer as generated.
            references: accepted answers.
            all_classes: the classes of trec and lsht.

        Raises:
            ValueError: an unknown task, or no classes where the score needs them.
        """
        value = score(task, prediction, references, all_classes)
        assert isinstance(self.items, list) and isinstance(self.scores, list)
        place = torch.tensor([[TASKS.index(task), item]], device=self.device)
        self.items.append(place)
        self.scores.append(torch.tensor([value], dtype=torch.float64, device=self.device))

    def compute(self) -> dict[str, float]:
        """Official number of each task seen, in percent."""
        if isinstance(self.items, list):
            if not self.items:
                return {}
            items, scores = torch.cat(self.items), torch.cat(list(self.scores))
        else:
            items, scores = self.items, torch.as_tensor(self.scores)
        kept: dict[tuple[int, int], float] = {}
        for (task, item), value in zip(items.tolist(), scores.tolist(), strict=True):
            kept.setdefault((task, item), value)
        by_task: dict[int, list[float]] = {}
        for (task, _), value in sorted(kept.items()):
            by_task.setdefault(task, []).append(value)
        return {TASKS[task]: task_score(values) for task, values in by_task.items()}
