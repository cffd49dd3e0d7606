"""Given answers read at once, each token as it would be read while it is written.

Legend: B rows, T tokens of an answer, V vocabulary, S tokens of the context.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lcframework.models.squeezed.asking import pad_token
from lcframework.models.squeezed.cache import SqueezedCache
from lcframework.models.squeezed.context import SqueezedContext
from lcframework.models.squeezed.rules import Squeeze


@torch.no_grad()
def forced_logits(
    context: SqueezedContext,
    squeeze: Squeeze,
    questions: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
) -> tuple[Tensor, SqueezedCache]:
    """Logits before every token of given answers.

    Args:
        context: with its model.
        squeeze: what is read of it.
        questions: B rows of ids that follow the context.
        answers: B rows of ids, each at least one.

    Returns:
        (sum of T, V), row after row; and the cache, whose layers hold what was read for the
        questions, then for the answers.
    """
    model, S = context.model, context.length
    backend = "segments" if squeeze.correct_values else "masked"
    cache = context.cache(squeeze, backend)
    pad, device = pad_token(context.tokenizer), model.device
    longest = max(map(len, questions))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in questions])
    real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in questions])
    mask = torch.cat([torch.ones(len(questions), S, dtype=torch.long), real], 1).to(device)
    place = (S + real.cumsum(1) - 1).clamp(min=S).to(device)
    logits = _forward(model, ids.to(device), mask, place, cache, 1)
    counts = torch.tensor([len(row) for row in answers], device=device)
    T = int(max(map(len, answers)))
    if T > 1:
        cache.choose_each()
        ids = torch.tensor([list(row[:-1]) + [pad] * (T - len(row)) for row in answers])
        step = torch.arange(T - 1, device=device)
        mask = torch.cat([mask, (step < counts[:, None] - 1).long()], 1)
        place = place[:, -1:] + 1 + step
        more = _forward(model, ids.to(device), mask, place, cache, 0)
        logits = torch.cat([logits, more], 1)
    cache.forget_tail()
    return logits[torch.arange(T, device=device) < counts[:, None]], cache


def _forward(
    model: Any, ids: Tensor, mask: Tensor, place: Tensor, cache: SqueezedCache, last: int
) -> Tensor:
    return model(
        input_ids=ids, attention_mask=mask, position_ids=place, past_key_values=cache,
        use_cache=True, logits_to_keep=last,
    ).logits  # fmt: skip
