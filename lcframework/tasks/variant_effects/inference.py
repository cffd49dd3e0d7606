"""Log-probabilities of a network at chosen places, in packs, without a trace in the network.

Legend: T tokens of the pack, M places, V = 33 tokens.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lcframework.data.alphabet import VOCAB_SIZE
from lcframework.data.batch import IGNORE_LABEL, PackedProteins
from lcframework.errors import DataError
from lcframework.tasks.variant_effects.masked_copies import Rows, masked_packs

MAX_TOKENS = 16_384


@dataclass(frozen=True)
class Inference:
    """How to run a network.

    Attributes:
        network: `network(tokens (T,), cu_seqlens (S+1,), max_len, at=(M,)) -> (M, >= V)` logits.
        max_tokens: tokens of a pack; a longer protein is a pack of its own, whole.
        precision: makes the context of a forward pass, for example one of autocast.
    """

    network: nn.Module
    max_tokens: int = MAX_TOKENS
    precision: Callable[[], AbstractContextManager] = nullcontext

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be positive, got {self.max_tokens}")

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def log_probs(self, pack: PackedProteins, at: Tensor) -> Tensor:
        """(M, V) float32 log-probabilities at the places `at` of a pack, on the network's device.

        Raises:
            DataError: memory ran out, with the size of the pack and the cure.
        """
        pack, at = pack.to(self.device), at.to(self.device)
        try:
            with torch.no_grad(), self.precision():
                logits = self.network(pack.tokens, pack.cu_seqlens, pack.max_len, at=at)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if "memory" not in str(error):
                raise
            raise DataError(
                f"A pack of {pack.num_tokens:,} tokens, its longest protein {pack.max_len:,}, did "
                f"not fit in the memory of {self.device}. Lower max_tokens (now "
                f"{self.max_tokens:,}) or, where one protein is too long, score it with a window. "
                f"({str(error).splitlines()[0]})"
            ) from error
        return torch.log_softmax(logits[:, :VOCAB_SIZE].float(), dim=-1)

    def masked(
        self,
        rows: Rows,
        owner: NDArray[np.int64],
        at: NDArray[np.int64],
        window: int | None = None,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Log-probabilities at places that are masked one at a time.

        Args:
            rows: token rows.
            owner: (M,) row of each query.
            at: (M,) its place, `<cls>` being 0.
            window: see `masked_packs`.

        Yields:
            Which of the M queries, and their (m, V) float32 log-probabilities.
        """
        for chosen, pack in masked_packs(rows, owner, at, self.max_tokens, window):
            places = (pack.labels != IGNORE_LABEL).nonzero().squeeze(1)
            yield chosen, self.log_probs(pack, places)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, each put back to its own mode afterwards."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
