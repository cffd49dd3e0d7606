"""Two views of one prompt: the original, and the focused one without what retrieval dropped.

Position ids are always given. A hole in the attention mask alone would be read differently by
transformers' forward (0, 1, 2, ...) and its `generate` (which counts what is attended to), and
training would not be what is used later.

Shape letter: N tokens of a view, the answer included.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcframework.errors import ConfigError
from lcframework.models.focused.tokens import EncodedItem

MODES = ("mask", "hole", "removal", "compact")
"""What happens to a dropped token:

- mask: it becomes the mask token, as in the paper (Fig. 1); the length stays.
- hole: nobody attends to it; the length stays.
- removal: it is taken out, the others keep their positions. Equal to the hole, and costs only what
  is kept.
- compact: it is taken out and the others move together.
"""


@dataclass(frozen=True)
class View:
    """What a model is given, for one sequence.

    Attributes:
        ids_N: int64 token ids.
        positions_N: int64 position ids.
        attended_N: int64, 0 where no other token may look; elsewhere 1.
        answer_tokens: so many of the last tokens are the answer.
    """

    ids_N: Tensor
    positions_N: Tensor
    attended_N: Tensor
    answer_tokens: int

    @property
    def prompt_tokens(self) -> int:
        """Tokens before the answer."""
        return len(self.ids_N) - self.answer_tokens

    def inputs(self, device: torch.device | str) -> dict[str, Tensor]:
        """`input_ids`, `position_ids` and `attention_mask` as a batch of one.

        The mask is given even where it is all ones: without it transformers takes a gap in the
        positions for the border between two packed sequences.
        """
        return {
            "input_ids": self.ids_N[None].to(device),
            "position_ids": self.positions_N[None].to(device),
            "attention_mask": self.attended_N[None].to(device),
        }


def original_view(item: EncodedItem) -> View:
    """The prompt as it is."""
    ids = torch.tensor([*item.ids, *item.answer])
    return View(ids, torch.arange(len(ids)), torch.ones_like(ids), len(item.answer))


def focused_view(item: EncodedItem, mode: str, mask_id: int | None = None) -> View:
    """The prompt without what retrieval dropped.

    Args:
        item: the prompt.
        mode: one of `MODES`.
        mask_id: for "mask": the token that stands for the dropped ones.

    Raises:
        ValueError: an unknown mode, "mask" without a token.
    """
    if mode not in MODES:
        raise ValueError(f"view mode {mode!r} is unknown: choose one of {MODES}")
    whole = original_view(item)
    kept = torch.tensor([*item.kept, *[True] * len(item.answer)])
    if mode == "mask":
        if mask_id is None:
            raise ValueError("view mode 'mask' needs a mask token")
        ids = torch.where(kept, whole.ids_N, torch.full_like(whole.ids_N, mask_id))
        return View(ids, whole.positions_N, whole.attended_N, whole.answer_tokens)
    if mode == "hole":
        return View(whole.ids_N, whole.positions_N, kept.long(), whole.answer_tokens)
    ids = whole.ids_N[kept]
    positions = whole.positions_N[kept] if mode == "removal" else torch.arange(len(ids))
    return View(ids, positions, torch.ones_like(ids), whole.answer_tokens)


def check_mode(mode: str, config: Any) -> None:
    """Refuse a mode that would not mean what it says.

    Args:
        mode: one of `MODES`.
        config: the model's.

    Raises:
        ConfigError: an unknown mode; "removal" with sliding-window layers, whose window counts
            tokens and not positions, so that it would not equal the hole; "removal" with
            FlashAttention, for which transformers takes a gap in the positions for the border of
            another sequence.
    """
    if mode not in MODES:
        raise ConfigError(f"task.view={mode!r} is unknown: choose one of {', '.join(MODES)}.")
    text = config.get_text_config()
    if mode == "removal" and slides(text):
        raise ConfigError(
            "task.view=removal keeps the positions of what stays, but this model has layers with a "
            "sliding window, which counts tokens: the view would not equal the hole. Choose "
            "task.view=hole, mask or compact."
        )
    attention = str(getattr(text, "_attn_implementation", ""))
    if mode == "removal" and attention.startswith("flash_attention"):
        raise ConfigError(
            f"task.view=removal leaves gaps in the positions, which {attention} in transformers "
            "takes for borders between sequences: choose model.attn_implementation=sdpa, or "
            "task.view=hole."
        )


def slides(config: Any) -> bool:
    """Whether a model has layers with a sliding window.

    Args:
        config: of the text model.
    """
    layers = getattr(config, "layer_types", None) or ()
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return any("sliding" in one for one in layers) or bool(window and not layers)
