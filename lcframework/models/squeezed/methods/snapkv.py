"""SnapKV: LLM Knows What You are Looking for Before Generation (Li et al., NeurIPS 2024),
https://arxiv.org/abs/2404.14469

The queries of an observation window at the prompt's end vote for the tokens before it by their
attention, the votes are averaged over neighbouring tokens, and the best are kept; the others are
evicted for good (section 4, listing 1).

Two versions. `SnapKV` is how it must be used where a context is prepared before its questions are
known: the window is the context's end, and the question reads what was kept. `SnapKVQuestion` is
the original: the question is the window and is itself read densely; it evicts the document, which
another question would then lack, so the context is needed whole beside it.

As here: one set per key-value head, by the mean of its query heads (the original repeats the keys
of grouped queries); attention as a share of that to the context; the mean pooling of the original's
options.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lcframework.errors import ConfigError
from lcframework.models.squeezed.methods.selector import Selector, attention_weights, best


def pooled(votes: Tensor, width: int) -> Tensor:
    """Mean over `width` neighbours along the last dimension of (B, H, N), zeros beyond the ends."""
    return F.avg_pool1d(votes, width, stride=1, padding=width // 2)


class SnapKV(Selector):
    """Kept for all questions: what the context's last tokens attend to.

    Raises:
        ConfigError: a context that does not hold its last queries.
    """

    def prepare(self) -> None:
        """The votes of the observation window."""
        queries, fixed = self.text.queries, self.text.fixed
        if queries is None:
            raise ConfigError(
                "SnapKV needs the queries of the context's last tokens, which a context's file "
                "does not hold: build the context anew instead of loading it."
            )
        W, E = queries.shape[1], fixed.exact_keys.shape[1]
        sinks = torch.ones(W, E - W, dtype=torch.bool, device=queries.device)
        own = torch.ones(W, W, dtype=torch.bool, device=queries.device).tril()
        valid = torch.ones(1, W, dtype=torch.bool, device=queries.device)
        votes = attention_weights(
            queries[None], valid, fixed, self.text.scale, False, torch.cat([sinks, own], 1)
        )
        self.votes = pooled(votes[:, :, 0], self.options.pool)

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """Always the same tokens."""
        return best(self.votes, self.count)[:, :, None].expand(len(query), -1, -1, -1)


class SnapKVQuestion(Selector):
    """Kept for one question: what its tokens attend to. The question itself reads everything."""

    kept: Tensor | None = None

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """Everything at the first call, the question; what it voted for at every further one."""
        if self.kept is not None:
            return self.kept[:, :, None]
        fixed = self.text.fixed
        votes = attention_weights(query, valid, fixed, self.text.scale, False)[:, :, 0]
        self.kept = best(pooled(votes, self.options.pool), self.count)
        return torch.ones_like(self.kept)[:, :, None]
