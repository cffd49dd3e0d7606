"""The packed strategies against one forward pass per variant and residue."""

import numpy as np
import pytest
import torch

from lcframework.data.proteingym.mutants import parse_mutants
from lcframework.errors import ConfigError, DataError
from lcframework.models.esm2.model import ESM2
from lcframework.models.lcplm import LCPLM
from lcframework.tasks.variant_effects import reference
from lcframework.tasks.variant_effects.inference import Inference, evaluation_mode
from lcframework.tasks.variant_effects.masked_copies import masked_packs, token_row
from lcframework.tasks.variant_effects.strategies import (
    PLL,
    STRATEGIES,
    marginal_log_probs,
    pseudo_log_likelihoods,
    score_mutants,
    score_sequences,
)

TARGET = "MKTAYIAKQRXW"
NAMES = ["K2A", "M1V", "K2A:R10K", "K2C", "W12Y", "A7A", "T3S:Y5F:Q9E"]


@pytest.fixture(scope="module", params=["lcplm", "esm2"])
def network(request):
    torch.manual_seed(3)
    if request.param == "lcplm":
        made = LCPLM(d_model=16, n_layers=2, d_state=4)
    else:
        made = ESM2(d_model=16, n_layers=2, n_heads=2)
    for parameter in made.parameters():  # initial weights say nearly nothing of anything
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.fixture
def mutants():
    found, _, problems = parse_mutants(NAMES, TARGET)
    assert not problems
    return found


@pytest.mark.parametrize("max_tokens", [1, 40, 10_000])
@pytest.mark.parametrize("window", [None, 8])
def test_masked_marginals(network, mutants, max_tokens, window):
    found = score_mutants(Inference(network, max_tokens), TARGET, mutants, window=window)
    wanted = [reference.masked_marginals(network, TARGET, name, window) for name in NAMES]
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert found[5] == 0.0  # A7A changes nothing
    assert np.abs(found[:5]).min() > 1e-3


def test_the_window_changes_what_is_seen_and_a_wide_one_nothing(network, mutants):
    whole, cut, wide = (
        score_mutants(Inference(network), TARGET, mutants, window=window)
        for window in (None, 6, 14)
    )
    assert np.abs(whole - cut).max() > 1e-4
    np.testing.assert_array_equal(whole, wide)


def test_wt_marginals(network, mutants):
    found = score_mutants(Inference(network), TARGET, mutants, "wt-marginals")
    wanted = [reference.wt_marginals(network, TARGET, name) for name in NAMES]
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    masked = score_mutants(Inference(network), TARGET, mutants)
    assert np.abs(found - masked).max() > 1e-3


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("max_tokens", [50, 10_000])
def test_pseudo_log_likelihood(network, mutants, official, max_tokens):
    inference = Inference(network, max_tokens)
    found = score_mutants(inference, TARGET, mutants, PLL, official_off_by_one=official)
    wild = reference.pseudo_log_likelihood(network, TARGET, official)
    wanted = [
        reference.pseudo_log_likelihood(network, sequence, official) - wild
        for sequence in mutants.sequences(TARGET)
    ]
    np.testing.assert_allclose(found, wanted, atol=5e-5)


def test_the_official_error_is_another_number(network):
    right, official = (
        pseudo_log_likelihoods(Inference(network), [TARGET], flag)[0] for flag in (False, True)
    )
    assert abs(right - official) > 0.1


def test_insertions_and_deletions(network):
    sequences = ["MKTAYIAKQRXWW", "MKT", TARGET, "M"]
    found = score_sequences(Inference(network, 30), TARGET, sequences)
    wild = reference.pseudo_log_likelihood(network, TARGET)
    wanted = [reference.pseudo_log_likelihood(network, one) - wild for one in sequences]
    np.testing.assert_allclose(found, wanted, atol=5e-5)
    assert found[2] == 0.0


def test_only_distinct_positions_are_computed(network, mutants):
    seen = []

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, tokens, cu_seqlens, max_len, at):
            seen.append((tokens.shape[0], at.shape[0]))
            return self.inner(tokens, cu_seqlens, max_len, at=at)

    score_mutants(Inference(Counting(), 3 * 14), TARGET, mutants)
    positions = len(np.unique(mutants.positions))
    assert sum(n for _, n in seen) == positions == 8
    assert max(tokens for tokens, _ in seen) == 3 * 14
    table = marginal_log_probs(Inference(network), TARGET, np.array([4]))
    assert np.isnan(table).any(axis=1).tolist() == [i != 4 for i in range(12)]
    np.testing.assert_allclose(np.exp(table[4]).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize(("tokens", "size"), [(20, 8), (9, 8), (8, 8), (5, 8), (33, 10)])
def test_packs_are_cut_as_the_official_window(tokens, size):
    row = token_row("ACDEFGHIKLMNPQRSTVWYACDEFGHIKLMNPQRSTVW"[: tokens - 2])
    at = np.arange(tokens)
    packs = list(masked_packs([row], np.zeros(tokens, np.int64), at, 30, size))
    assert [place for chosen, _ in packs for place in at[chosen]] == at.tolist()
    for chosen, pack in packs:
        cu = pack.cu_seqlens.tolist()
        assert pack.num_tokens <= 30 or pack.num_sequences == 1
        for copy, (begin, end) in zip(at[chosen], zip(cu, cu[1:], strict=False), strict=True):
            start, stop = reference.optimal_window(int(copy), tokens, size)
            expected = row[start:stop].copy()
            labels = pack.labels[begin:end]
            assert labels[copy - start] == expected[copy - start]
            assert int((labels != -100).sum()) == 1
            expected[copy - start] = 32
            assert pack.tokens[begin:end].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "marginals"}, "choose one of masked-marginals"),
        ({"strategy": "wt-marginals", "window": 8}, "no effect on wt-marginals"),
        ({"strategy": PLL, "window": 8}, "no effect on pseudo-log-likelihood"),
        ({"window": 7}, "even number"),
        ({"official_off_by_one": True}, "effect on pseudo-log-likelihood only"),
    ],
)
def test_settings_without_effect_are_refused(network, mutants, options, message):
    with pytest.raises(ConfigError, match=message):
        score_mutants(Inference(network), TARGET, mutants, **options)


def test_the_network_keeps_its_modes_and_gradients(network, mutants):
    network.train()
    list(network.modules())[-1].training = False
    before = [module.training for module in network.modules()]
    for strategy in STRATEGIES:
        score_mutants(Inference(network), TARGET, mutants, strategy)
    assert [module.training for module in network.modules()] == before
    with pytest.raises(KeyError), evaluation_mode(network):
        raise KeyError
    assert [module.training for module in network.modules()] == before
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()


def test_memory_that_runs_out_is_explained():
    class Full(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, *_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    mutants, _, _ = parse_mutants(["K2A"], TARGET)
    with pytest.raises(DataError, match="14 tokens.*Lower max_tokens"):
        score_mutants(Inference(Full()), TARGET, mutants)
