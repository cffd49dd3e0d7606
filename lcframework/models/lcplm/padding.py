"""Padded batches to packs and back, for callers that bring (B, L) and a mask.

Legend: B batch rows, L row length, T real tokens, d model width.
"""

import torch
from torch import Tensor


@torch.compiler.disable()  # how many tokens are real is known only at run time
def pack(given: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """Real tokens of a padded batch in one row.

    Args:
        given: (B, L) ids or (B, L, d) embeddings.
        attention_mask: (B, L), true on real tokens, or None.

    Returns:
        (T,) or (T, d); the mask as (B, L) bool or None; (B+1,) int32 borders.

    Raises:
        ValueError: shapes that do not fit, or a row without a token.
    """
    rows, length = given.shape[:2]
    if attention_mask is None:
        borders = torch.arange(rows + 1, device=given.device, dtype=torch.int32) * length
        return given.flatten(0, 1), None, borders
    mask = attention_mask.bool()
    if mask.shape != given.shape[:2] or bool((mask.sum(1) == 0).any()):
        raise ValueError(
            f"attention_mask must be (B, L) = {(rows, length)} with at least one token in every "
            f"row, got {tuple(mask.shape)}."
        )
    borders = torch.cat([mask.new_zeros(1, dtype=torch.long), mask.sum(1).cumsum(0)]).int()
    return given[mask], mask, borders


@torch.compiler.disable()
def unpack(packed: Tensor, mask: Tensor | None, shape: torch.Size) -> Tensor:
    """The inverse of `pack` for (T, d): (B, L, d), zero at the padding."""
    if mask is None:
        return packed.unflatten(0, shape)
    padded = packed.new_zeros(*shape, packed.shape[-1])
    padded[mask] = packed
    return padded
