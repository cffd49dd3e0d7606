"""The entry of squeezed attention: checks and choice of backend.

A faster backend joins by one more name in `FUNCTIONS`: it receives exactly what the others do and
returns tensors on the device, so nothing above it waits for the device.
"""

import torch
from torch import Tensor

from lcframework.ops.squeezed_attention.layout import FixedKV, SelectionRule
from lcframework.ops.squeezed_attention.masked import squeezed_attention_masked
from lcframework.ops.squeezed_attention.reference import squeezed_attention_reference
from lcframework.ops.squeezed_attention.segments import squeezed_attention_segments

FUNCTIONS = {
    "auto": squeezed_attention_segments,
    "segments": squeezed_attention_segments,
    "masked": squeezed_attention_masked,
    "reference": squeezed_attention_reference,
}
BACKENDS = tuple(FUNCTIONS)


def squeezed_attention(
    query: Tensor,
    fixed: FixedKV,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor | None,
    rule: SelectionRule,
    *,
    scale: float | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Attention of a question's tokens to a clustered context and to themselves (Squeezed
    Attention, arXiv 2411.09688, section 4).

    Clusters are scored against the queries, `rule` selects some; the queries attend to the tokens
    of those, to the context's exact tokens and, causally, to the tail, in one softmax.

    Args:
        query: (B, Hq, Q, D), rotated; row b's queries are the last Q tokens of its tail.
        fixed: one layer's context, shared by all rows.
        tail_key: (B, H, T, D) keys of question and generated tokens, rotated.
        tail_value: (B, H, T, Dv).
        tail_mask: (B or 1, 1, Q, T) bool, True where a query may look; a padding token must not see
            itself, which is how it is known. None: causal, without padding.
        rule: which clusters are read.
        scale: factor on the logits; None: D ** -0.5.
        backend: "auto", "segments" (PyTorch), "masked" (reads everything and masks; no loop over
            blocks of queries; for evaluations) or "reference" (float64 loops).

    Returns:
        Output (B, Hq, Q, Dv) in the dtype of `query`, and the number of clustered tokens read,
        (B, S) float, the mean over blocks of queries; S is H, or Hq where `rule.group` is "none".

    Raises:
        ValueError: shapes, devices or a backend that do not fit.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")
    _check(query, fixed, tail_key, tail_value, tail_mask, rule)
    Q, T = query.shape[2], tail_key.shape[2]
    if tail_mask is None:
        tail_mask = torch.ones(Q, T, dtype=torch.bool, device=query.device).tril(T - Q)[None, None]
    scale = float(query.shape[-1] ** -0.5) if scale is None else scale
    return FUNCTIONS[backend](query, fixed, tail_key, tail_value, tail_mask, rule, scale)


def _check(
    query: Tensor,
    fixed: FixedKV,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor | None,
    rule: SelectionRule,
) -> None:
    """Refuse what does not fit; looks at shapes and devices only."""
    B, Hq, Q, D = query.shape
    H, T = fixed.keys.shape[0], tail_key.shape[2]
    if Hq % H:
        raise ValueError(f"{Hq} query heads do not divide among {H} key-value heads")
    if T < Q:
        raise ValueError(f"the tail holds {T} tokens, fewer than the {Q} queries, which end it")
    want = {
        "keys of the context": (fixed.keys, (H, fixed.clustered, D)),
        "tail_key": (tail_key, (B, H, T, D)),
        "tail_value": (tail_value, (B, H, T, fixed.values.shape[2])),
    }
    for name, (tensor, shape) in want.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.device != query.device or tensor.dtype != query.dtype:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}, the query {query.dtype} on "
                f"{query.device}"
            )
    if tail_mask is not None and (
        tail_mask.dtype != torch.bool
        or tuple(tail_mask.shape[1:]) != (1, Q, T)
        or tail_mask.shape[0] not in (1, B)
    ):
        raise ValueError(
            f"tail_mask must be bool of shape ({B} or 1, 1, {Q}, {T}), got {tail_mask.dtype} "
            f"{tuple(tail_mask.shape)}"
        )
    if rule.thresholds is not None:
        S = Hq if rule.group == "none" else H
        if tuple(rule.thresholds.shape) != (len(fixed.levels), S):
            raise ValueError(
                f"thresholds must have shape {(len(fixed.levels), S)}, got "
                f"{tuple(rule.thresholds.shape)}"
            )
    if rule.correct_values and fixed.value_centroids is None and fixed.clustered:
        raise ValueError("correct_values needs a context built with value centroids")
