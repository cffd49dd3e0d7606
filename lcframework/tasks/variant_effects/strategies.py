"""Zero-shot scores of variants from a masked language model: higher means fitter, 0 the wild type.

* `masked-marginals` (Meier et al. 2021, ProteinGym's choice for ESM-2): each mutated position is
  masked in the wild type; the score is the sum of log p(new) - log p(wild type). Only the distinct
  positions are computed, however many variants share them.
* `wt-marginals`: the same, nothing masked; one pass.
* `pseudo-log-likelihood`: sum of log p(residue) over the whole mutated sequence, every residue
  masked in turn, minus the wild type's. The only one that can score insertions and deletions; it
  costs one copy per residue and variant.

Legend: N variants, M mutations, P distinct positions, L residues, V tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lcframework.data.alphabet import ENCODE_TABLE, VOCAB_SIZE
from lcframework.data.batch import IGNORE_LABEL, PackedProteins
from lcframework.data.proteingym.mutants import Mutants
from lcframework.errors import ConfigError
from lcframework.tasks.variant_effects.inference import Inference, evaluation_mode
from lcframework.tasks.variant_effects.masked_copies import token_row

MASKED, WT, PLL = "masked-marginals", "wt-marginals", "pseudo-log-likelihood"
STRATEGIES = (MASKED, WT, PLL)
_SEQUENCES_AT_ONCE = 256  # bounds the memory of the list of masked copies


def check_strategy(strategy: str, window: int | None = None, off_by_one: bool = False) -> None:
    """Refuse unknown strategies and settings without effect.

    Raises:
        ConfigError: with what goes together.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"strategy={strategy!r}: choose one of {', '.join(STRATEGIES)}.")
    if window is not None and strategy != MASKED:
        raise ConfigError(
            f"A window of {window} tokens has no effect on {strategy}: ProteinGym's windows are "
            f"those of {MASKED}. Leave it out."
        )
    if window is not None and (window < 4 or window % 2):
        raise ConfigError(f"window={window}: it must be an even number of at least 4 tokens.")
    if off_by_one and strategy != PLL:
        raise ConfigError(f"official_off_by_one has an effect on {PLL} only, not on {strategy}.")


def marginal_log_probs(
    inference: Inference,
    target: str,
    positions: NDArray[np.int64],
    strategy: str = MASKED,
    window: int | None = None,
) -> NDArray[np.float32]:
    """Log-probabilities at positions of the wild type.

    Args:
        inference: the network and how to run it.
        target: wild-type sequence of L residues.
        positions: (P,) 0-based, each once.
        strategy: "masked-marginals" or "wt-marginals".
        window: see `check_strategy`.

    Returns:
        (L, V) float32; NaN at positions that were not asked for.
    """
    check_strategy(strategy, window)
    row = token_row(target)
    found = np.full((len(target), VOCAB_SIZE), np.nan, dtype=np.float32)
    if not len(positions):
        return found
    with evaluation_mode(inference.network):
        if strategy == WT:
            pack = _one_protein(row)
            found[positions] = inference.log_probs(pack, torch.from_numpy(positions + 1)).cpu()
            return found
        owner = np.zeros(len(positions), dtype=np.int64)
        for chosen, values in inference.masked([row], owner, positions + 1, window):
            found[positions[chosen]] = values.cpu()
    return found


def _one_protein(row: NDArray[np.int64]) -> PackedProteins:
    return PackedProteins(
        tokens=torch.from_numpy(row),
        labels=torch.full((len(row),), IGNORE_LABEL),
        cu_seqlens=torch.tensor([0, len(row)], dtype=torch.int32),
        max_len=len(row),
        sequence_ids=torch.zeros(1, dtype=torch.int64),
    )


def marginal_scores(log_probs: NDArray[np.float32], mutants: Mutants) -> NDArray[np.float64]:
    """Sum of log p(new) - log p(wild type) over each variant's mutations.

    Args:
        log_probs: (L, V) as `marginal_log_probs` returns, with every mutated position.
        mutants: N variants.

    Returns:
        (N,) in nats.
    """
    values = log_probs.astype(np.float64)
    new = values[mutants.positions, ENCODE_TABLE[mutants.mutant]]
    old = values[mutants.positions, ENCODE_TABLE[mutants.wild]]
    return np.bincount(mutants.owner, new - old, len(mutants)).astype(np.float64)


def pseudo_log_likelihoods(
    inference: Inference, sequences: Sequence[str], official_off_by_one: bool = False
) -> NDArray[np.float64]:
    """Pseudo-log-likelihood of each sequence, equal ones computed once.

    Args:
        inference: the network and how to run it.
        sequences: (N,) any lengths.
        official_off_by_one: repeat the index error of ProteinGym's `compute_pppl`, see
            `reference.pseudo_log_likelihood`.

    Returns:
        (N,) in nats.
    """
    distinct = list(dict.fromkeys(sequences))
    found: dict[str, float] = {}
    with evaluation_mode(inference.network):
        for start in range(0, len(distinct), _SEQUENCES_AT_ONCE):
            some = distinct[start : start + _SEQUENCES_AT_ONCE]
            sums = _pll_block(inference, some, official_off_by_one)
            found.update(zip(some, sums.tolist(), strict=True))
    return np.array([found[sequence] for sequence in sequences])


def _pll_block(
    inference: Inference, sequences: Sequence[str], off_by_one: bool
) -> NDArray[np.float64]:
    rows = [token_row(sequence) for sequence in sequences]
    counts = [max(0, len(row) - (4 if off_by_one else 2)) for row in rows]
    owner = np.repeat(np.arange(len(rows)), counts)
    at = np.concatenate([np.arange(1, count + 1) for count in counts])
    shift = 1 if off_by_one else 0
    read = np.concatenate(
        [row[1 + shift : 1 + shift + count] for row, count in zip(rows, counts, strict=True)]
    )
    values = np.empty(len(at))
    for chosen, log_probs in inference.masked(rows, owner, at):
        wanted = torch.from_numpy(read[chosen]).to(log_probs.device)
        values[chosen] = log_probs.gather(1, wanted[:, None])[:, 0].double().cpu()
    return np.bincount(owner, values, len(rows)).astype(np.float64)


def score_sequences(
    inference: Inference,
    target: str,
    sequences: Sequence[str],
    official_off_by_one: bool = False,
) -> NDArray[np.float64]:
    """(N,) pseudo-log-likelihoods minus the target's, in nats; substitutions and indels alike."""
    found = pseudo_log_likelihoods(inference, [target, *sequences], official_off_by_one)
    return found[1:] - found[0]


def score_mutants(
    inference: Inference,
    target: str,
    mutants: Mutants,
    strategy: str = MASKED,
    window: int | None = None,
    official_off_by_one: bool = False,
) -> NDArray[np.float64]:
    """Score the substitution variants of one target.

    Args:
        inference: the network and how to run it.
        target: wild-type sequence.
        mutants: N variants, checked against it.
        strategy: one of `STRATEGIES`.
        window: ProteinGym's "optimal" window in tokens (1024 there), masked-marginals only; None
            takes the protein whole.
        official_off_by_one: see `pseudo_log_likelihoods`.

    Returns:
        (N,) in nats, higher is fitter.

    Raises:
        ConfigError: an unknown strategy or a setting without effect.
    """
    check_strategy(strategy, window, official_off_by_one)
    if strategy == PLL:
        sequences = mutants.sequences(target)
        return score_sequences(inference, target, sequences, official_off_by_one)
    positions = np.unique(mutants.positions)
    log_probs = marginal_log_probs(inference, target, positions, strategy, window)
    return marginal_scores(log_probs, mutants)
