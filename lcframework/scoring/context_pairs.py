"""What context is worth: the same residues scored in a window and in the whole protein.

The comparison is paired: both losses are of the same masked residues with the same masks, so the
proteins' own difficulty cancels in the difference. Each context is scored twice: on every protein
longer than it (most proteins, but others in each row) and on the same proteins in every row, so
that the rows make one curve: those longer than the largest context that enough proteins exceed.

Shape letters: S proteins, C contexts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcframework.scoring.intervals import RESAMPLES
from lcframework.scoring.length_bins import MIN_PROTEINS, ratio_columns

LONGER_THAN_THIS = "longer than this context"
SAME_PROTEINS = "the same in every row"


def paired_context_rows(
    tokens: ArrayLike,
    nll_windows: ArrayLike,
    nll_whole: ArrayLike,
    n: ArrayLike,
    contexts: Sequence[int],
    *,
    min_proteins: int = MIN_PROTEINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Paired differences of loss between windows and whole proteins.

    A protein takes part in a context that it exceeds, if it has a scored residue; in one that
    holds it whole there is nothing to compare.

    Args:
        tokens: (S,) tokens of each whole protein, special tokens included.
        nll_windows: (S, C) summed negative log-likelihood of its scored residues seen in a window
            of each context, nats; anything where the protein does not take part.
        nll_whole: (S,) of the same residues seen in the whole protein.
        n: (S,) how many these residues are.
        contexts: C rising window sizes in tokens.
        min_proteins: with fewer proteins a row has no loss and no difference.
        resamples: bootstrap resamples over proteins.
        seed: seed of the resamples.

    Returns:
        C rows of `LONGER_THAN_THIS`, then one of `SAME_PROTEINS` for each context up to the largest
        that `min_proteins` proteins exceed (for all C if none has so many): `proteins_compared`,
        `context`, `longer_than` (tokens that the row's proteins exceed), `proteins`, `too_short`
        (left out for their length), `residues_scored`, `loss` in the window, `whole_loss`, and
        `difference`, window minus whole, each with `_low` and `_high`. A positive difference is
        what the rest of the protein is worth.

    Raises:
        ValueError: shapes that do not fit together.
    """
    sizes, counts = np.asarray(tokens), np.asarray(n)
    windows = np.asarray(nll_windows, dtype=np.float64)
    whole = np.asarray(nll_whole, dtype=np.float64)
    s = len(sizes)
    if windows.shape != (s, len(contexts)) or whole.shape != (s,) or counts.shape != (s,):
        raise ValueError(
            f"expected nll_windows ({s}, {len(contexts)}), nll_whole ({s},) and n ({s},), got "
            f"{windows.shape}, {whole.shape} and {counts.shape}"
        )
    options: dict[str, Any] = {"min_proteins": min_proteins, "resamples": resamples, "seed": seed}
    enough = [c for c in contexts if ((sizes > c) & (counts > 0)).sum() >= max(min_proteins, 1)]
    shared = max(enough, default=max(contexts))
    asked = [(LONGER_THAN_THIS, context, context) for context in contexts]
    asked += [(SAME_PROTEINS, context, shared) for context in contexts if context <= shared]
    rows = []
    for name, context, limit in asked:
        inside = (sizes > limit) & (counts > 0)
        near = windows[inside, list(contexts).index(context)]
        rows.append(
            {
                "proteins_compared": name,
                "context": int(context),
                "longer_than": int(limit),
                "proteins": int(inside.sum()),
                "too_short": int((sizes <= limit).sum()),
                **_losses(near, whole[inside], counts[inside], options),
            }
        )
    return rows


def _losses(
    near: NDArray[Any], far: NDArray[Any], scored: NDArray[Any], options: dict[str, Any]
) -> dict[str, Any]:
    return {
        "residues_scored": int(scored.sum()),
        **ratio_columns("loss", near, scored, **options),
        **ratio_columns("whole_loss", far, scored, **options),
        **ratio_columns("difference", near - far, scored, **options),
    }
