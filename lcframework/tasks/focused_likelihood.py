"""What a multiple-choice question's options cost a model, from one pass over the prompt."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lcframework.data.focused.item import FocusedItem
from lcframework.data.focused.readers import LETTERS
from lcframework.models.focused.views import View
from lcframework.tasks.focused_generation import FocusedGeneration


def option_losses(task: FocusedGeneration, item: FocusedItem) -> dict[str, list[float]]:
    """Mean loss per token, in nats, of every option as an answer to its question, without an end
    token.

    Args:
        task: the model, and how prompts are cut and shown.
        item: with options.

    Returns:
        `option_nats` of the options' texts; `letter_nats` of their letters, where letters are the
        answers.
    """
    kinds = {"option_nats": list(item.options)}
    if item.suite == "quality":
        kinds["letter_nats"] = list(LETTERS[: len(item.options)])
    ids = {name: [task.tokens(item, one).answer[:-1] for one in texts]
           for name, texts in kinds.items()}  # fmt: skip
    longest = max(len(one) for some in ids.values() for one in some)
    view = task.shown(task.tokens(item, None, longest))
    flat = [one for some in ids.values() for one in some]
    losses = iter(continuation_losses(task.model, view, flat, task.device))
    return {name: [next(losses) for _ in some] for name, some in ids.items()}


@torch.no_grad()
def continuation_losses(
    model: Any, view: View, continuations: Sequence[Sequence[int]], device: torch.device
) -> list[float]:
    """Mean loss per token of continuations of one prompt, which is read once.

    Args:
        model: a causal language model of transformers.
        view: the prompt, with positions.
        continuations: token ids, at least one each.
        device: of the model.
    """
    given = view.inputs(device)
    with torch.autocast(device.type, enabled=False):
        read = model(**given, use_cache=True, logits_to_keep=1)
        first_V = _log_probabilities(read.logits[0, -1])
        found = []
        for ids in continuations:
            rows = first_V[None]
            if len(ids) > 1:
                more = _behind(given, ids[:-1], device)
                # Reading on changes the cache, and every continuation begins at the prompt's end.
                cache = copy.deepcopy(read.past_key_values)
                logits = model(**more, past_key_values=cache, use_cache=True).logits[0]
                rows = torch.cat([rows, _log_probabilities(logits)])
            wanted = torch.tensor(ids, device=device)
            found.append(-float(rows.gather(1, wanted[:, None]).mean()))
    return found


def _behind(
    given: dict[str, Tensor], ids: Sequence[int], device: torch.device
) -> dict[str, Tensor]:  # fmt: skip
    """Inputs of tokens that follow a prompt."""
    new = torch.tensor([ids], device=device)
    steps = torch.arange(1, len(ids) + 1, device=device)
    return {
        "input_ids": new,
        "position_ids": given["position_ids"][:, -1:] + steps,
        "attention_mask": torch.cat([given["attention_mask"], torch.ones_like(new)], 1),
    }


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
