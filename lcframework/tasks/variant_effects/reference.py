"""The strategies as they are defined: one variant, one masked residue, one forward pass at a time.

Slow on purpose: the packed path is tested against these functions and measured against them.
A network is anything with `network(tokens (T,), cu_seqlens (S+1,), max_len, at=(M,)) -> (M, V)`.
"""

import torch
from torch import Tensor, nn

from lcframework.data.alphabet import CLS_ID, EOS_ID, MASK_ID, TOKEN_TO_ID, VOCAB_SIZE
from lcframework.data.proteingym.mutants import parse_mutant

Window = tuple[int, int]


def token_row(sequence: str) -> list[int]:
    """`<cls> residues <eos>` as token ids."""
    return [CLS_ID, *(TOKEN_TO_ID[letter] for letter in sequence), EOS_ID]


def optimal_window(at: int, tokens: int, size: int) -> Window:
    """ProteinGym's window around a masked token (`get_optimal_window`).

    Args:
        at: place of the masked token, `<cls>` being 0.
        tokens: of the whole protein, `<cls>` and `<eos>` included.
        size: of the window, even.

    Returns:
        (start, stop): `size` tokens with the masked one in the middle, or as near to it as the ends
        allow; all of a shorter protein.
    """
    half = size // 2
    if tokens <= size:
        return 0, tokens
    if at < half:
        return 0, size
    if at >= tokens - half:
        return tokens - size, tokens
    return at - half, at + half


@torch.no_grad()
def log_probs_at(network: nn.Module, row: list[int], at: int) -> Tensor:
    """(V,) log-probabilities at one place of one protein, over the 33 real tokens."""
    device = next(network.parameters()).device
    tokens = torch.tensor(row, device=device)
    borders = torch.tensor([0, len(row)], dtype=torch.int32, device=device)
    logits = network(tokens, borders, len(row), at=torch.tensor([at], device=device))
    return torch.log_softmax(logits[0, :VOCAB_SIZE].float(), dim=-1).cpu()


def masked_marginals(
    network: nn.Module, target: str, name: str, window: int | None = None
) -> float:
    """Sum over the mutations of log p(new) - log p(wild type), the position masked in the target
    (Meier et al. 2021, equation 1)."""
    score = 0.0
    for position, wild, mutant in _parsed(name, target):
        row, at = token_row(target), position + 1
        row[at] = MASK_ID
        start, stop = (0, len(row)) if window is None else optimal_window(at, len(row), window)
        found = log_probs_at(network, row[start:stop], at - start)
        score += float(found[TOKEN_TO_ID[mutant]] - found[TOKEN_TO_ID[wild]])
    return score


def wt_marginals(network: nn.Module, target: str, name: str) -> float:
    """As `masked_marginals`, but nothing is masked."""
    score = 0.0
    for position, wild, mutant in _parsed(name, target):
        found = log_probs_at(network, token_row(target), position + 1)
        score += float(found[TOKEN_TO_ID[mutant]] - found[TOKEN_TO_ID[wild]])
    return score


def pseudo_log_likelihood(
    network: nn.Module, sequence: str, official_off_by_one: bool = False
) -> float:
    """Sum over the residues of log p(residue), each masked in turn.

    Args:
        network: the language model.
        sequence: of one protein.
        official_off_by_one: what ProteinGym's `compute_pppl` computes instead: tokens 1 to L - 2
            are masked, and at token i, which is residue i - 1 counted from 0, the probability of
            residue i is read.
    """
    row, score = token_row(sequence), 0.0
    last = len(sequence) - 1 if official_off_by_one else len(sequence) + 1
    for at in range(1, last):
        masked = row.copy()
        masked[at] = MASK_ID
        read = row[at + 1] if official_off_by_one else row[at]
        score += float(log_probs_at(network, masked, at)[read])
    return score


def _parsed(name: str, target: str) -> list[tuple[int, str, str]]:
    parsed = parse_mutant(name, target)
    if isinstance(parsed, tuple):
        raise ValueError(": ".join(parsed))
    return parsed
