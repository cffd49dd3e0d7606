"""Several views in one pass through a model: as padded rows, or packed into one row.

Rows are padded at the right: under causal attention nobody looks there, so that no mask is needed
and the fast kernels stay in use. Packing puts the views one after the other and lets nobody look
across a border: no padding, which pays where lengths differ.

Shape letters: S views, N tokens of the longest, T tokens of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcframework.errors import ConfigError
from lcframework.models.focused.views import View, slides

FLASH = "flash_attention"


@dataclass(frozen=True)
class Passes:
    """Which sequences go through the model together.

    Attributes:
        tokens: at most so many tokens at once, padding included; a longer sequence goes alone;
            None: one sequence at a time.
        packed: pack them into one row instead of padding them.

    Raises:
        ValueError: less than one token.
    """

    tokens: int | None = None
    packed: bool = False

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"tokens of a pass must be 1 or more, or null, got {self.tokens}")

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of the sequences of each pass, the shortest first."""
        if self.tokens is None:
            return [[one] for one in range(len(lengths))]
        found: list[list[int]] = []
        used = 0
        for one in sorted(range(len(lengths)), key=lambda n: lengths[n]):
            grown = used + lengths[one] if self.packed else (
                (len(found[-1]) + 1) * lengths[one] if found else 0
            )  # fmt: skip
            if not found or grown > self.tokens:
                found.append([])
                grown = lengths[one]
            found[-1].append(one)
            used = grown
        return found


def as_rows(views: Sequence[View], device: torch.device | str) -> dict[str, Tensor]:
    """(S, N) `input_ids`, `position_ids` and `attention_mask`, padded at the right.

    The padding repeats token 0 and goes on counting positions. It is attended to as far as the mask
    goes: a mask of ones alone lets the attention take its causal kernel.
    """
    longest = max(len(one.ids_N) for one in views)
    rows: dict[str, list[Tensor]] = {"input_ids": [], "position_ids": [], "attention_mask": []}
    for one in views:
        more = longest - len(one.ids_N)
        on = one.positions_N[-1] + 1 + torch.arange(more)
        rows["input_ids"].append(torch.cat([one.ids_N, one.ids_N.new_zeros(more)]))
        rows["position_ids"].append(torch.cat([one.positions_N, on]))
        rows["attention_mask"].append(torch.cat([one.attended_N, one.attended_N.new_ones(more)]))
    return {name: torch.stack(found).to(device) for name, found in rows.items()}


def as_prompts(views: Sequence[View], device: torch.device | str, pad: int) -> dict[str, Tensor]:
    """(S, N) inputs of `generate`, padded at the left with what nobody attends to.

    Args:
        views: prompts, no answers.
        device: where the tensors go.
        pad: token id of the padding.
    """
    longest = max(len(one.ids_N) for one in views)
    rows: dict[str, list[Tensor]] = {"input_ids": [], "position_ids": [], "attention_mask": []}
    for one in views:
        empty = one.ids_N.new_zeros(longest - len(one.ids_N))
        rows["input_ids"].append(torch.cat([empty + pad, one.ids_N]))
        rows["position_ids"].append(torch.cat([empty, one.positions_N]))
        rows["attention_mask"].append(torch.cat([empty, one.attended_N]))
    return {name: torch.stack(found).to(device) for name, found in rows.items()}


def as_one_row(
    views: Sequence[View], device: torch.device | str, attention: str, dtype: torch.dtype
) -> dict[str, Any]:
    """(1, T) inputs with the views one after the other.

    FlashAttention gets no mask: transformers finds the borders where positions start again, and
    takes the kernel for sequences of various lengths. The others get the mask itself, block
    diagonal and causal: (1, 1, T, T), or a BlockMask.

    Args:
        views: the sequences.
        device: where the tensors go.
        attention: name of the model's attention in transformers.
        dtype: of the model, for eager's mask.
    """
    ids, positions = (
        torch.cat([getattr(one, name) for one in views])[None].to(device)
        for name in ("ids_N", "positions_N")
    )
    given: dict[str, Any] = {"input_ids": ids, "position_ids": positions}
    if attention.startswith(FLASH):
        return given
    lengths = torch.tensor([len(one.ids_N) for one in views])
    owner_T = torch.arange(len(views)).repeat_interleave(lengths).to(device)
    seen_T = torch.cat([one.attended_N for one in views]).bool().to(device)
    if attention == "flex_attention":
        return given | {"attention_mask": _block_mask(owner_T, seen_T)}
    place_T = torch.arange(len(owner_T), device=device)
    allowed_TT = (owner_T[:, None] == owner_T) & (place_T[:, None] >= place_T) & seen_T
    # A token that nobody looks at may look at itself: a softmax over nothing would be NaN.
    allowed_TT |= place_T[:, None] == place_T
    if attention != "eager":
        return given | {"attention_mask": allowed_TT[None, None]}
    blocked = torch.zeros_like(allowed_TT, dtype=dtype)
    return given | {
        "attention_mask": blocked.masked_fill(~allowed_TT, torch.finfo(dtype).min)[None, None]
    }


def _block_mask(owner_T: Tensor, seen_T: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (owner_T[query] == owner_T[key]) & (query >= key) & seen_T[key]
        return own | (query == key)

    size = len(owner_T)
    return create_block_mask(allowed, 1, None, size, size, device=str(owner_T.device))


def check_packing(model: Any, mode: str) -> None:
    """Refuse to pack where it would change what the model computes.

    Two short sequences are run packed and alone, so an architecture that carries a state across the
    border, or counts tokens by itself, is found whatever its name.

    Args:
        model: a causal language model, with or without adapters.
        mode: of the focused view.

    Raises:
        ConfigError: sliding windows; a mode whose positions have gaps, or holes, under
            FlashAttention; states that differ.
    """
    config = model.config.get_text_config()
    attention = str(getattr(config, "_attn_implementation", "sdpa"))
    if slides(config):
        raise ConfigError(
            "task.packing: this model has layers with a sliding window, whose mask a packed row "
            "would replace: leave packing out, task.pass_tokens pads instead."
        )
    if attention.startswith(FLASH) and mode in ("hole", "removal"):
        raise ConfigError(
            f"task.packing with {attention} reads the borders of sequences from their positions, "
            f"and task.view={mode} leaves gaps or holes: choose task.view=mask or compact, or "
            "model.attn_implementation=sdpa."
        )
    if _packed_states_differ(model, attention):
        raise ConfigError(
            "task.packing: this model's states change when another sequence stands before "
            "(a recurrent layer, or positions of its own): leave packing out, task.pass_tokens "
            "pads instead."
        )


@torch.no_grad()
def _packed_states_differ(model: Any, attention: str) -> bool:
    weight = model.get_input_embeddings().weight
    ids = torch.arange(14) % len(weight)
    views = [
        View(part, torch.arange(len(part)), torch.ones_like(part), 1) for part in (ids[:5], ids[5:])
    ]
    training = model.training
    model.eval()
    try:
        row = as_one_row(views, weight.device, attention, weight.dtype)
        body = model.base_model
        alone = body(**views[1].inputs(weight.device), use_cache=False).last_hidden_state[0]
        try:
            packed = body(**row, use_cache=False).last_hidden_state[0, 5:]
        except (RuntimeError, ValueError, IndexError):  # a mask that the architecture cannot use
            return True
    finally:
        model.train(training)
    bound = 1e-3 if weight.dtype in (torch.float32, torch.float64) else 5e-2
    return float((packed - alone).float().abs().max()) > bound * float(alone.float().abs().max())
