"""Checks of arguments that look into tensors: borders of a pack always, values in debug mode."""

import torch
from torch import Tensor


def check_borders(cu_seqlens: Tensor, tokens: int) -> None:
    """Refuse borders (S+1,) that do not rise strictly from 0 to `tokens`.

    On a GPU the host has to wait for them, once for each tensor: a network's layers share one.
    While a CUDA graph is captured or torch.compile traces nobody can look.

    Raises:
        ValueError: with the borders that are wrong.
    """
    if torch.compiler.is_compiling() or cu_seqlens.is_meta:
        return
    if cu_seqlens.is_cuda:
        version = None if cu_seqlens.is_inference() else cu_seqlens._version
        if getattr(cu_seqlens, "_borders_checked", None) == (version, tokens):
            return
        if torch.cuda.is_current_stream_capturing():
            return
        cu_seqlens._borders_checked = (version, tokens)  # type: ignore[attr-defined]
    borders = cu_seqlens.cpu()
    rising = bool((borders.diff() >= 1).all())
    if not rising or int(borders[0]) != 0 or int(borders[-1]) != tokens:
        shown = borders.tolist()
        shown = shown if len(shown) <= 12 else f"{shown[:8]} ... {shown[-3:]}"
        raise ValueError(f"cu_seqlens must rise strictly from 0 to T={tokens}, got {shown}")


def check_finite(**values: Tensor | None) -> None:
    """In debug mode (`torch.autograd.set_detect_anomaly`, `trainer.detect_anomaly=true`) refuse
    values that are not finite.

    Raises:
        ValueError: naming the first such argument and where it is not finite.
    """
    if torch.compiler.is_compiling() or not torch.is_anomaly_enabled():
        return
    for name, value in values.items():
        if value is not None and not bool(torch.isfinite(value).all()):
            at = tuple((~torch.isfinite(value)).nonzero()[0].tolist())
            raise ValueError(
                f"{name} is not finite at {at}: {value[at].item()}. The fault lies before the "
                "scan: look at the loss, the learning rate and the inputs."
            )
