"""How to select at run time: typed options, and the rule of each layer that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lcframework.errors import ConfigError
from lcframework.models.squeezed.calibration import SCOPES, Sketch, thresholds
from lcframework.ops.squeezed_attention import SelectionRule
from lcframework.ops.squeezed_attention.layout import GROUPS


@dataclass(frozen=True)
class Squeeze:
    """What to read of a context.

    Attributes:
        sparsity: share of the clustered tokens that fall below the threshold on the calibration
            queries, in [0, 1); 0 reads everything and gives the dense model's answer. The share
            really read depends on the question and is reported with every answer.
        coarse_sparsity: the same for upper levels, never more than `sparsity`.
        scope: one threshold for all layers and heads ("global", the paper), per "layer" or "head".
        budget: tokens per key-value head, instead of the finest level's threshold.
        top_p: share of the estimated attention mass, instead of the finest level's threshold.
        group: "mean", "max" or "none", see `SelectionRule`.
        query_block: questions' tokens that share a selection; None: all (the paper).
        correct_values: dropped clusters count by their mean value.
        levels: only the finest so many levels of the context are used; None: all. With 1 a context
            of several levels is read as one without hierarchy.

    Raises:
        ConfigError: values outside their range, or two that exclude each other.
    """

    sparsity: float = 0.9
    coarse_sparsity: float = 0.5
    scope: str = "global"
    budget: int | None = None
    top_p: float | None = None
    group: str = "mean"
    query_block: int | None = None
    correct_values: bool = False
    levels: int | None = None

    def __post_init__(self) -> None:
        for name in ("sparsity", "coarse_sparsity"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigError(f"{name}={value}: it must lie in [0, 1); 0 keeps everything.")
        for name, known in (("scope", SCOPES), ("group", GROUPS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}={getattr(self, name)!r}: choose one of {known}.")
        if self.levels is not None and self.levels < 1:
            raise ConfigError(f"levels={self.levels}: a context has at least one level.")
        try:
            SelectionRule(budget=self.budget, top_p=self.top_p, query_block=self.query_block)
        except ValueError as error:
            raise ConfigError(f"{error}.") from error

    def rules(
        self, sketches: Sequence[Sketch], device: torch.device | str = "cpu"
    ) -> list[SelectionRule]:
        """One rule per squeezed layer, its thresholds taken from all layers' sketches."""
        taus = thresholds(
            [Sketch(one.scores[: self.levels], one.sizes[: self.levels]) for one in sketches],
            self.sparsity,
            coarse_sparsity=self.coarse_sparsity,
            scope=self.scope,
            group=self.group,
        )
        return [
            SelectionRule(
                None if tau is None else tau.to(device),
                self.budget,
                self.top_p,
                self.group,
                self.query_block,
                self.correct_values,
            )
            for tau in taus
        ]
