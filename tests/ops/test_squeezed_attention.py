"""Squeezed attention: the PyTorch path against float64 loops, both against plain softmax."""

import dataclasses
import math

import pytest
import torch

from lcframework.ops.squeezed_attention import FixedKV, Level, SelectionRule, squeezed_attention
from lcframework.ops.squeezed_attention.selection import cluster_scores


def borders(sizes):
    return torch.cat([sizes.new_zeros(len(sizes), 1), sizes.cumsum(1)], 1).int()


def random_partition(H, total, parts, generator):
    """Sizes (H, parts) that sum to `total`, some of them 0 or 1."""
    cuts = torch.randint(0, total + 1, (H, parts - 1), generator=generator).sort(1).values
    ends = torch.cat([cuts, torch.full((H, 1), total)], 1)
    return ends.diff(dim=1, prepend=torch.zeros(H, 1, dtype=torch.long))


def fake_context(N, Ks, E=3, H=2, D=6, Dv=5, seed=0, dtype=torch.float64, sizes=None):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    keys, values = normal(H, N, D), normal(H, N, Dv)
    levels, below, token_borders = [], N, None
    for K in Ks:
        part = random_partition(H, below, K, generator) if sizes is None else sizes
        sizes = None
        children = borders(part)
        token_borders = (
            children if token_borders is None else token_borders.gather(1, children.long())
        )
        levels.append([normal(H, K, D), token_borders, children, None])
        below = K
    for lower, upper in zip(levels, levels[1:], strict=False):
        index = torch.arange(lower[0].shape[1])[None].expand(H, -1).contiguous()
        lower[3] = torch.searchsorted(upper[2][:, 1:].contiguous().long(), index, right=True).int()
    K = Ks[0] if Ks else 0
    fixed = FixedKV(
        keys, values, normal(H, E, D), normal(H, E, Dv),
        tuple(Level(*one) for one in levels), normal(H, K, Dv),
    )  # fmt: skip
    fixed.check()
    return fixed, normal


def inputs(normal, B=2, Q=3, T=5, G=2, H=2, D=6, Dv=5, padding=(0, 1)):
    query = normal(B, H * G, Q, D)
    mask = torch.ones(Q, T, dtype=torch.bool).tril(T - Q).expand(B, 1, Q, T).clone()
    for b in range(B):
        pad = T - Q + padding[b % len(padding)] if padding[b % len(padding)] else 0
        mask[b, :, :, :pad] = False
    return query, normal(B, H, T, D), normal(B, H, T, Dv), mask


def thresholds(levels, S, value):
    return torch.full((levels, S), value, dtype=torch.float64)


RULES = {
    "all": {},
    "all, as a threshold": {"tau": -math.inf},
    "threshold": {"tau": 0.015},
    "nothing": {"tau": math.inf},
    "budget": {"budget": 12},
    "budget of 0": {"budget": 0},
    "mass": {"top_p": 0.5},
    "budget under a coarse threshold": {"tau": 0.005, "budget": 12},
}


@pytest.mark.parametrize("group", ["mean", "max", "none"])
@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize(("Ks", "block"), [((11,), None), ((11, 4), 2), ((13, 6, 2), 1)])
def test_path_equals_reference(name, group, Ks, block):
    fixed, normal = fake_context(41, Ks, seed=len(Ks))
    options = dict(RULES[name])
    tau = options.pop("tau", None)
    if tau is not None:
        options["thresholds"] = thresholds(len(Ks), 4 if group == "none" else 2, tau)
    for correct in (False, True):
        rule = SelectionRule(group=group, query_block=block, correct_values=correct, **options)
        given = inputs(normal)
        out, kept = squeezed_attention(given[0], fixed, *given[1:], rule)
        want, want_kept = squeezed_attention(given[0], fixed, *given[1:], rule, backend="reference")
        torch.testing.assert_close(kept, want_kept, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(out, want, rtol=1e-9, atol=1e-9)
        if correct:
            with pytest.raises(ValueError, match="correct"):
                squeezed_attention(given[0], fixed, *given[1:], rule, backend="masked")
            continue
        out, kept = squeezed_attention(given[0], fixed, *given[1:], rule, backend="masked")
        torch.testing.assert_close(kept, want_kept, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(out, want, rtol=1e-9, atol=1e-9)


def test_the_cases_select_something_and_drop_something():
    fixed, normal = fake_context(41, (11, 4), seed=2)
    given = inputs(normal)
    for name in ("threshold", "budget", "mass"):
        options = dict(RULES[name])
        tau = options.pop("tau", None)
        if tau is not None:
            options["thresholds"] = thresholds(2, 2, tau)
        _, kept = squeezed_attention(given[0], fixed, *given[1:], SelectionRule(**options))
        assert 0 < kept.mean() < 41, name


@pytest.mark.parametrize("N", [0, 1, 37])
def test_keeping_all_is_softmax_over_everything(N):
    fixed, normal = fake_context(N, (5,) if N else ())
    query, key, value, mask = inputs(normal, G=3)
    out, kept = squeezed_attention(query, fixed, key, value, mask, SelectionRule())
    assert torch.equal(kept, torch.full((2, 2), float(N), dtype=torch.float64))
    for b in range(2):
        for head in range(6):
            kv = head // 3
            keys = torch.cat([fixed.keys[kv], fixed.exact_keys[kv], key[b, kv]])
            values = torch.cat([fixed.values[kv], fixed.exact_values[kv], value[b, kv]])
            see = torch.cat([torch.ones(3, N + 3, dtype=torch.bool), mask[b, 0]], 1)
            logits = (query[b, head] @ keys.T / 6**0.5).masked_fill(~see, -torch.inf)
            torch.testing.assert_close(out[b, head], logits.softmax(-1) @ values)


def test_no_mask_is_causal():
    fixed, normal = fake_context(20, (4,))
    query, key, value, _ = inputs(normal)
    causal = torch.ones(3, 5, dtype=torch.bool).tril(2)[None, None]
    want, _ = squeezed_attention(query, fixed, key, value, causal, SelectionRule())
    out, _ = squeezed_attention(query, fixed, key, value, None, SelectionRule())
    assert torch.equal(out, want)


def test_the_score_is_the_papers_formula_and_the_comparison_strict():
    fixed, normal = fake_context(9, (3,), sizes=torch.tensor([[2, 3, 4], [4, 4, 1]]))
    query, key, value, _ = inputs(normal, B=1, Q=2, G=1)
    level = fixed.levels[0]
    a = torch.einsum("hqd,hkd->hqk", query[0], level.centroids) / 6**0.5
    score = (a.exp() / (level.sizes[:, None] * a.exp()).sum(-1, keepdim=True)).mean(1)
    same = cluster_scores(query, None, level, None, 6**-0.5, "mean")[0]
    torch.testing.assert_close(same, score)
    middle = same.median(1).values  # a threshold equal to a score drops its cluster
    for tau, clusters in ((middle, 1), (middle - 1e-12, 2)):
        _, kept = squeezed_attention(
            query, fixed, key, value, None, SelectionRule(thresholds=tau[None])
        )
        best = score.argsort(1, descending=True)[:, :clusters]
        assert kept[0].tolist() == level.sizes.gather(1, best).sum(1).tolist()


def test_hierarchy_renormalises_over_survivors():
    """Pruned clusters leave the denominator: a threshold that drops a cluster in the flat lookup
    keeps it once its rivals are gone."""
    fixed, normal = fake_context(
        8, (4, 2), H=1, sizes=torch.tensor([[2, 2, 2, 2]]), seed=3
    )  # fmt: skip
    fixed = dataclasses.replace(
        fixed,
        levels=(
            fixed.levels[0],
            dataclasses.replace(fixed.levels[1], children=torch.tensor([[0, 2, 4]]).int(),
                                offsets=torch.tensor([[0, 4, 8]]).int()),
        ),
    )  # fmt: skip
    fixed = dataclasses.replace(
        fixed,
        levels=(dataclasses.replace(fixed.levels[0], parents=torch.tensor([[0, 0, 1, 1]]).int()),
                fixed.levels[1]),
    )  # fmt: skip
    fixed.check()
    query, key, value, _ = inputs(normal, B=1, H=1, G=1, Q=1)
    a = (fixed.levels[0].centroids[0] @ query[0, 0, 0]) / 6**0.5
    up = (fixed.levels[1].centroids[0] @ query[0, 0, 0]) / 6**0.5
    best_half = int(up.argmax())
    survivors = a[2 * best_half : 2 * best_half + 2].exp()
    among, flat = survivors.min() / (2 * survivors.sum()), survivors.min() / (2 * a.exp().sum())
    coarse = (up.exp() / (4 * up.exp().sum())).mean()
    tau = torch.stack([(among + flat) / 2, coarse])[:, None]
    _, kept = squeezed_attention(query, fixed, key, value, None, SelectionRule(thresholds=tau))
    assert kept.item() == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_dtypes(dtype):
    fixed, normal = fake_context(64, (8,), dtype=dtype, D=16, Dv=16)
    query, key, value, mask = inputs(normal, D=16, Dv=16)
    rule = SelectionRule(thresholds=thresholds(1, 2, 0.012).float())
    out, kept = squeezed_attention(query, fixed, key, value, mask, rule)
    want, want_kept = squeezed_attention(query, fixed, key, value, mask, rule, backend="reference")
    assert out.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(out, want, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(kept.double(), want_kept)


def test_large_logits_do_not_overflow():
    fixed, normal = fake_context(32, (6, 2), dtype=torch.float32)
    query, key, value, mask = inputs(normal)
    rule = SelectionRule(thresholds=thresholds(2, 2, 0.01).float())
    out, kept = squeezed_attention(query * 1e4, fixed, key, value, mask, rule)
    assert torch.isfinite(out).all() and torch.isfinite(kept).all()


def test_memory_bound_does_not_change_the_result(monkeypatch):
    from lcframework.ops.squeezed_attention import segments, selection

    fixed, normal = fake_context(41, (11, 4), seed=2)
    given = inputs(normal)
    rule = SelectionRule(thresholds=thresholds(2, 2, 0.01), correct_values=True)
    want = squeezed_attention(given[0], fixed, *given[1:], rule)
    for module in (segments, selection):
        monkeypatch.setattr(module, "LOGITS_AT_ONCE", 1)
    out = squeezed_attention(given[0], fixed, *given[1:], rule)
    torch.testing.assert_close(out[0], want[0])
    torch.testing.assert_close(out[1], want[1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": (2, 3, 3, 6)}, "do not divide"),
        ({"query": (2, 4, 9, 6)}, "fewer than the 9 queries"),
        ({"key": (2, 2, 5, 7)}, "tail_key must have shape"),
        ({"mask": (2, 1, 3, 4)}, "tail_mask must be bool"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, said):
    fixed, normal = fake_context(20, (4,))
    query, key, value, mask = inputs(normal)
    query = normal(*change.get("query", query.shape))
    key = normal(*change.get("key", key.shape))
    if "mask" in change:
        mask = torch.ones(change["mask"], dtype=torch.bool)
    with pytest.raises(ValueError, match=said):
        squeezed_attention(query, fixed, key, value, mask, SelectionRule())


def test_layouts_that_do_not_hang_together_are_refused():
    fixed, _ = fake_context(20, (4, 2))
    level = fixed.levels[0]
    falling = dataclasses.replace(level, offsets=level.offsets.flip(1))
    with pytest.raises(ValueError, match="must rise from 0 to 20"):
        dataclasses.replace(fixed, levels=(falling, fixed.levels[1])).check()
    with pytest.raises(ValueError, match="parents unless it is the top"):
        dataclasses.replace(fixed, levels=(fixed.levels[0],)).check()
    with pytest.raises(ValueError, match="must have shape"):
        dataclasses.replace(fixed, values=fixed.values[:, 1:]).check()


@pytest.mark.parametrize(
    "bad",
    [
        {"group": "median"},
        {"budget": 3, "top_p": 0.5},
        {"budget": -1},
        {"top_p": 0.0},
        {"query_block": 0},
    ],
)
def test_rules_that_mean_nothing_are_refused(bad):
    with pytest.raises(ValueError):
        SelectionRule(**bad)
