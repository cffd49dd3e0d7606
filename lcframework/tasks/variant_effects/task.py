"""Zero-shot scoring of assays as a LightningModule, so that `trainer.test` shards and places it."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
from numpy.typing import NDArray
from torch import nn

from lcframework.data.proteingym.folder import TargetAssays
from lcframework.errors import ConfigError
from lcframework.tasks.variant_effects.inference import MAX_TOKENS, Inference
from lcframework.tasks.variant_effects.strategies import (
    MASKED,
    PLL,
    check_strategy,
    marginal_log_probs,
    marginal_scores,
    score_sequences,
)


def score_target(
    inference: Inference,
    batch: TargetAssays,
    strategy: str = MASKED,
    window: int | None = None,
    official_off_by_one: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Scores of all assays of a target, each distinct position or sequence computed once.

    Returns:
        DMS id -> (N,) scores in the order of the assay's variants.

    Raises:
        ConfigError: an assay of insertions and deletions under a strategy that knows none.
    """
    check_strategy(strategy, window, official_off_by_one)
    if strategy == PLL:
        every = [sequence for assay in batch.assays for sequence in assay.sequences]
        scores = score_sequences(inference, batch.target, every, official_off_by_one)
        ends = np.cumsum([len(assay) for assay in batch.assays])[:-1]
        parts = np.split(scores, ends)
        return {one.info.dms_id: part for one, part in zip(batch.assays, parts, strict=True)}
    parsed = {}
    for assay in batch.assays:
        if assay.mutants is None:
            raise ConfigError(
                f"{assay.info.dms_id} has insertions and deletions, which {strategy} cannot "
                f"score: set task.strategy={PLL}."
            )
        parsed[assay.info.dms_id] = assay.mutants
    positions = np.unique(np.concatenate([mutants.positions for mutants in parsed.values()]))
    log_probs = marginal_log_probs(inference, batch.target, positions, strategy, window)
    return {name: marginal_scores(log_probs, mutants) for name, mutants in parsed.items()}


class VariantEffectTask(pl.LightningModule):
    """Tests a masked language model on measured variants; it does not train.

    Args:
        model: the network, see `Inference`.
        strategy: "masked-marginals", "wt-marginals" or "pseudo-log-likelihood".
        window: tokens of ProteinGym's "optimal" window, 1024 there; None: whole proteins.
        official_off_by_one: repeat the index error of ProteinGym's pseudo-perplexity.
        max_tokens: of a pack.

    Raises:
        ConfigError: an unknown strategy or a setting without effect.
    """

    def __init__(
        self,
        model: nn.Module,
        strategy: str = MASKED,
        window: int | None = None,
        official_off_by_one: bool = False,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        super().__init__()
        check_strategy(strategy, window, official_off_by_one)
        self.model = model
        self.strategy = strategy
        self.options: dict[str, Any] = {
            "strategy": strategy,
            "window": window,
            "official_off_by_one": official_off_by_one,
        }
        self.inference = Inference(model, max_tokens)

    def test_step(self, batch: TargetAssays, batch_idx: int) -> dict[str, NDArray[np.float64]]:
        """Scores of the target's assays, for the report."""
        return score_target(self.inference, batch, **self.options)
