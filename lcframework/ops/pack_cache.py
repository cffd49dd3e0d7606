"""Things derived from a pack's borders that the layers of a network share, kept with the border
tensor itself."""

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor

Kept = TypeVar("Kept")


def kept_with(cu_seqlens: Tensor, key: Hashable, make: Callable[[], Kept]) -> Kept:
    """`make()`, made once for each `key` while `cu_seqlens` lives and is not changed in place.

    Nothing is kept of an inference tensor, whose changes cannot be seen, nor while a CUDA graph is
    captured, which must hold its own computation."""
    if cu_seqlens.is_inference() or _capturing(cu_seqlens):
        return make()
    version, kept = getattr(cu_seqlens, "_kept_with_pack", (None, {}))
    if version != cu_seqlens._version:
        kept = {}
        cu_seqlens._kept_with_pack = (cu_seqlens._version, kept)  # type: ignore[attr-defined]
    if key not in kept:
        kept[key] = make()
    return kept[key]


def _capturing(like: Tensor) -> bool:
    return like.is_cuda and torch.cuda.is_current_stream_capturing()
