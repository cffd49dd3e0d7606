"""Scores windows of proteins in packs under a token budget, whatever batches they came from."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from lcframework.data.context_windows import Window, pack_windows


class WindowQueue:
    """Collects windows, scores a pack whenever the budget is reached, and sums by protein.

    Args:
        contexts: number of window sizes.
        max_tokens: budget of a pack; a larger window is a pack of its own.
    """

    def __init__(self, contexts: int, max_tokens: int) -> None:
        self.contexts = contexts
        self.max_tokens = max_tokens
        self._waiting: list[Window] = []
        self._tokens = 0
        self._sums: dict[int, NDArray[np.float64]] = {}

    def add(
        self, windows: list[Window], trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> None:
        """Queue windows; those that no longer fit the budget are scored first."""
        for window in windows:
            if self._waiting and self._tokens + len(window.tokens) > self.max_tokens:
                self.flush(trainer, pl_module)
            self._waiting.append(window)
            self._tokens += len(window.tokens)

    def flush(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score what is waiting, in the trainer's precision, without collectives between ranks."""
        if not self._waiting:
            return
        windows, self._waiting, self._tokens = self._waiting, [], 0
        pack = pack_windows(windows)
        module: Any = pl_module
        with torch.no_grad(), trainer.strategy.precision_plugin.forward_context():
            logits, targets, at = module.score(pack)
        nll = F.cross_entropy(logits.float(), targets, reduction="none").double().cpu().numpy()
        owner = torch.searchsorted(pack.cu_seqlens[1:].long(), at, right=True).cpu().numpy()
        for window, total in zip(windows, np.bincount(owner, nll, len(windows)), strict=True):
            sums = self._sums.setdefault(window.row, np.zeros(self.contexts))
            sums[window.context] += total

    def sums(self, rows: int) -> NDArray[np.float64]:
        """(rows, contexts) summed negative log-likelihoods; 0 where there was no window."""
        table = np.zeros((rows, self.contexts))
        for row, values in self._sums.items():
            table[row] = values
        return table
