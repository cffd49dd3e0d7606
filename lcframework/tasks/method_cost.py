"""What preparing a document costs, what a token of an answer costs, and after how many questions
the one is worth the other."""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lcframework.models.squeezed import Squeeze, SqueezedContext

DENSE = "dense"


def context_bytes(context: SqueezedContext) -> dict[str, int]:
    """Bytes of a context's squeezed layers: `keys_values`, which a dense cache holds too, and
    `lookup`, centroids, borders and calibration scores, which come on top."""
    keys_values = lookup = 0
    for layer in context.layers:
        fixed, sketch = layer.fixed, layer.sketch
        if fixed is None or sketch is None:
            continue
        for tensor in (fixed.keys, fixed.values, fixed.exact_keys, fixed.exact_values):
            keys_values += tensor.nbytes
        for level in fixed.levels:
            for tensor in (level.centroids, level.offsets, level.children, level.parents):
                lookup += 0 if tensor is None else tensor.nbytes
        lookup += sum(one.nbytes for one in (*sketch.scores, *sketch.sizes))
    return {"keys_values": keys_values, "lookup": lookup}


def answer_seconds(
    context: SqueezedContext,
    question: Sequence[int],
    squeeze: Squeeze,
    new: int,
    repeats: int = 3,
) -> tuple[float, float]:
    """Seconds to the first token of an answer, and per further token, of one question alone; each
    the median of `repeats`, after one that is not counted."""

    def timed(tokens: int) -> float:
        start = time.perf_counter()
        context.ask([list(question)], squeeze=squeeze, max_new_tokens=tokens, min_new_tokens=tokens)  # type: ignore[list-item]  # ends with the answer's text: the device is done
        return time.perf_counter() - start

    timed(2)
    first = statistics.median(timed(1) for _ in range(repeats))
    whole = statistics.median(timed(1 + new) for _ in range(repeats))
    return first, (whole - first) / new


def cost_record(
    context: SqueezedContext, question: Sequence[int], squeezes: Mapping[str, Squeeze], new: int
) -> dict[str, Any]:
    """Offline cost, latency and break-even of a context.

    Args:
        context: just built.
        question: ids of one.
        squeezes: by name, to hold against the dense reading through the same cache.
        new: tokens of the answer that the break-even is counted for, after the first.

    Returns:
        `context_tokens`, seconds `read_s` (which the dense model needs too), `cluster_s`,
        `calibrate_s`, `bytes`, `answer_tokens`, and `methods`, rows of `method`, `first_token_ms`,
        `token_ms`, `question_s` (a whole answer), `break_even_questions` (how many questions make
        up for clustering and calibration; None: the method is not faster here).
    """
    offline = context.facts["cluster_s"] + context.facts["calibrate_s"]
    rows: list[dict[str, Any]] = []
    for name, squeeze in {DENSE: Squeeze(sparsity=0.0), **squeezes}.items():
        first, each = answer_seconds(context, question, squeeze, new)
        whole = first + new * each
        saved = rows[0]["question_s"] - whole if rows else 0.0
        rows.append(
            {
                "method": name,
                "first_token_ms": 1000 * first,
                "token_ms": 1000 * each,
                "question_s": whole,
                "break_even_questions": offline / saved if saved > 0 else None,
            }
        )
    device = context.model.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "context_tokens": context.length,
        **context.facts,
        "bytes": context_bytes(context),
        "answer_tokens": new + 1,
        "methods": rows,
    }
