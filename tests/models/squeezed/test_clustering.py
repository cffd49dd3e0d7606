"""k-means on keys, the layout made of it, and thresholds from its scores."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from lcframework.errors import ConfigError, DataError
from lcframework.models.squeezed import clustering
from lcframework.models.squeezed.calibration import calibrate, thresholds, weighted_quantile
from lcframework.models.squeezed.clustering import cluster_keys, count, nearest, segment_sums
from lcframework.models.squeezed.hierarchy import ClusterPlan, cluster_layer


def topic_keys(H=2, N=2000, D=24, topics=40, noise=0.7, seed=0):
    """Keys around topics that change along the text, of unequal length."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(H, topics, D, generator=generator)
    which = torch.randint(topics, (H, N), generator=generator)
    keys = centres.gather(1, which[..., None].expand(-1, -1, D))
    keys = keys + noise * torch.randn(H, N, D, generator=generator)
    return keys * (0.5 + torch.rand(H, N, 1, generator=generator))


def loss_of_20_lloyd_iterations_from_plus_plus(keys, K, seed=0):
    unit, generator = F.normalize(keys, dim=-1), torch.Generator().manual_seed(seed)
    rows = torch.arange(len(unit))
    seeds = [unit[rows, torch.randint(unit.shape[1], (len(unit),), generator=generator)]]
    far = 1 - (unit @ seeds[0][:, :, None])[..., 0]
    for _ in range(K - 1):
        chosen = torch.multinomial(far.clamp(min=1e-9), 1, generator=generator)[:, 0]
        seeds.append(unit[rows, chosen])
        far = torch.minimum(far, 1 - (unit @ seeds[-1][:, :, None])[..., 0])
    centres = torch.stack(seeds, 1)
    for _ in range(20):
        labels = nearest(unit, centres)[1]
        sums = torch.zeros_like(centres).scatter_add_(
            1, labels[..., None].expand_as(unit), unit
        )  # fmt: skip
        centres = F.normalize(sums, dim=-1)
    return float(1 - nearest(unit, centres)[0].mean())


@pytest.mark.parametrize("noise", [0.3, 0.7, 3.0])
def test_loss_is_within_1_percent_of_the_slow_way(noise):
    keys = topic_keys(H=3, noise=noise)
    found = cluster_keys(keys, 100)
    want = sum(loss_of_20_lloyd_iterations_from_plus_plus(keys, 100, seed) for seed in range(3)) / 3
    assert float(found.loss.mean()) < 1.01 * want
    assert found.iterations <= 15
    assert found.moved < 1e-3 or found.iterations == 15


def test_labels_sizes_and_loss_hang_together():
    keys = topic_keys()
    found = cluster_keys(keys, 60, iterations=40, moved=1e-9)  # until nothing moves
    assert torch.equal(found.sizes, count(found.labels, 60)) and bool((found.sizes > 0).all())
    unit = F.normalize(keys, dim=-1)
    sums = torch.stack([torch.stack([unit[h][found.labels[h] == k].sum(0) for k in range(60)])
                        for h in range(2)])  # fmt: skip
    ones = torch.ones(keys.shape[:2])
    torch.testing.assert_close(segment_sums(unit, found.labels, 60, ones), sums)
    centres = F.normalize(sums, dim=-1)
    own = (unit * centres.gather(1, found.labels[..., None].expand_as(unit))).sum(-1)
    torch.testing.assert_close(found.loss.float(), 1 - own.mean(1))
    assert bool((own >= nearest(unit, centres)[0] - 1e-5).all())  # each key with its nearest


def test_the_seed_decides_and_memory_chunks_do_not(monkeypatch):
    keys = topic_keys()
    first = cluster_keys(keys, 50, seed=1)
    assert torch.equal(first.labels, cluster_keys(keys, 50, seed=1).labels)
    assert not torch.equal(first.labels, cluster_keys(keys, 50, seed=2).labels)
    monkeypatch.setattr(clustering, "SIMILARITIES_AT_ONCE", 5000)
    chunked = cluster_keys(keys, 50, seed=1)
    assert (chunked.labels == first.labels).float().mean() > 0.99  # sums in another order
    torch.testing.assert_close(chunked.loss, first.loss, rtol=1e-3, atol=0)


def test_the_forms_for_a_gpu_give_the_same(monkeypatch):
    keys = topic_keys(H=3, N=500)
    unit, labels = F.normalize(keys, dim=-1), torch.randint(30, (3, 500))
    labels[labels == 7] = 8  # an empty cluster
    torch.testing.assert_close(
        clustering._sums_sorted(unit, labels, 30), clustering._sums_in_place(unit, labels, 30)
    )
    across = unit[:, :30].transpose(1, 2).contiguous()
    monkeypatch.setattr(clustering, "SIMILARITIES_AT_ONCE", 7000)
    best, index = clustering._nearest_batched(unit, across)
    want_best, want = clustering._nearest_cpu(unit, across)
    torch.testing.assert_close(best, want_best)
    assert torch.equal(index, want)


def test_weights_pull_a_centre():
    """Two directions in one cluster: the loss is that of the weighted mean."""
    keys = torch.eye(2)[None]
    weights = torch.tensor([[3.0, 1.0]])
    loss = cluster_keys(keys, 1, weights=weights).loss.item()
    centre = F.normalize(torch.tensor([3.0, 1.0]), dim=0)
    assert loss == pytest.approx(1 - float((centre * torch.tensor([0.75, 0.25])).sum()))


@pytest.mark.parametrize("K", [1, 7, 30])
def test_duplicates_zero_vectors_and_as_many_clusters_as_points(K):
    keys = torch.zeros(2, 30, 4)
    keys[0, :15] = torch.tensor([1.0, 2.0, 0.0, 0.0])
    keys[1] = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    found = cluster_keys(keys, K)
    assert bool(torch.isfinite(found.loss).all())
    assert found.sizes.sum(1).tolist() == [30, 30]
    assert bool((found.sizes > 0).all())  # empty clusters were given a key each
    if K == 30:
        assert float(found.loss[1]) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="31 clusters of 30"):
        cluster_keys(keys, 31)


PLANS = {
    "flat": ({"levels": 1}, 1),
    "two levels": ({}, 2),
    "four levels": ({"levels": 4, "level_ratio": 3}, 4),
    "log": ({"levels": "log", "level_ratio": 2, "clusters": 0.2}, 4),
    "a number": ({"clusters": 37, "levels": 2}, 2),
    "one cluster": ({"clusters": 1, "levels": 2}, 2),
}


@pytest.mark.parametrize("name", sorted(PLANS))
def test_layout_of_any_number_of_levels(name):
    options, levels = PLANS[name]
    plan = ClusterPlan(window=50, sinks=3, value_centroids=True, **options)
    keys, values = topic_keys(N=900), topic_keys(N=900, D=8, seed=1)
    fixed, positions, _ = cluster_layer(keys, values, plan)
    fixed.check()
    assert len(fixed.levels) == levels == len(plan.sizes(847))
    place = positions.long()
    rows = place[..., None].expand(-1, -1, 24)
    assert torch.equal(fixed.keys, keys.gather(1, rows))  # moved, none lost, none changed
    assert torch.equal(fixed.values, values.gather(1, rows[..., :8]))
    assert torch.equal(place.sort(1).values, torch.arange(3, 850).expand(2, -1))
    assert torch.equal(fixed.exact_keys, torch.cat([keys[:, :3], keys[:, 850:]], 1))
    for level in fixed.levels:
        for h in range(2):
            edges = level.offsets[h].tolist()
            want = torch.stack([fixed.keys[h, a:b].mean(0) for a, b in pairwise(edges)])
            torch.testing.assert_close(level.centroids[h], want, rtol=1e-4, atol=1e-4)
    edges = fixed.levels[0].offsets[0].tolist()
    want = torch.stack([fixed.values[0, a:b].mean(0) for a, b in pairwise(edges)])
    torch.testing.assert_close(fixed.value_centroids[0], want, rtol=1e-4, atol=1e-4)
    for lower, upper in pairwise(fixed.levels):
        for h in range(2):
            own = upper.children[h].diff().long()
            assert (
                lower.parents[h].tolist() == torch.arange(len(own)).repeat_interleave(own).tolist()
            )
            assert torch.equal(upper.offsets[h], lower.offsets[h][upper.children[h].long()])


def test_log_levels_grow_with_the_length():
    plan = ClusterPlan(levels="log")
    counts = [len(plan.sizes(tokens)) for tokens in (500, 10_000, 100_000, 1_000_000)]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] >= 4
    assert ClusterPlan().sizes(10_000) == [500, 100]  # the paper's 5% and 1%


@pytest.mark.parametrize(
    "bad",
    [{"clusters": 0}, {"clusters": 0.0}, {"clusters": -3}, {"clusters": 1.5}, {"levels": 0},
     {"clusters": float("nan")}, {"clusters": float("inf")}, {"levels": "deep"},
     {"level_ratio": 1}, {"window": 0}, {"sinks": -1}, {"seed": -1}, {"seed": 2**32}],
)  # fmt: skip
def test_plans_that_mean_nothing_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ClusterPlan(**bad)


def test_more_clusters_than_tokens_are_refused():
    with pytest.raises(ConfigError, match="more clusters than tokens"):
        ClusterPlan(clusters=500).sizes(400)


def sketches(layers=3, group_heads=2, seed=0):
    fixed = [cluster_layer(topic_keys(N=700, seed=seed + n), topic_keys(N=700, seed=9),
                           ClusterPlan(window=20))[0] for n in range(layers)]  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    queries = [torch.randn(2 * group_heads, 20, 24, generator=generator) for _ in fixed]
    return (
        fixed,
        queries,
        [calibrate(q, f, 24**-0.5, "layer") for q, f in zip(queries, fixed, strict=True)],
    )


def token_scores(fixed, query):
    """The paper's: of every token, mean over queries and the group; float64, token by token."""
    H, G = len(fixed.keys), len(query) // len(fixed.keys)
    level, rows = fixed.levels[0], []
    for h in range(H):
        sizes = level.sizes[h].double()
        heads = []
        for g in range(G):
            a = query[h * G + g].double() @ level.centroids[h].double().T * 24**-0.5
            weight = a.exp() / (sizes * a.exp()).sum(1, keepdim=True)
            heads.append(weight.mean(0))
        rows.append(torch.stack(heads).mean(0).repeat_interleave(level.sizes[h].long()))
    return torch.stack(rows)


@pytest.mark.parametrize("scope", ["global", "layer", "head"])
def test_thresholds_drop_the_share_asked_for(scope):
    """The sketch's quantile is the paper's quantile over all (layer, head, token)."""
    fixed, queries, made = sketches()
    scores = torch.stack([token_scores(f, q) for f, q in zip(fixed, queries, strict=True)])
    largest = max(int(f.levels[0].sizes.max()) for f in fixed)
    for sparsity in (0.3, 0.7, 0.9, 0.99):
        taus = thresholds(made, sparsity, scope=scope)
        tau = torch.stack([one[0] for one in taus]).double()[..., None]
        dropped = (scores <= tau * (1 + 1e-6)).double()
        share = {"global": dropped.mean(), "layer": dropped.mean((1, 2)), "head": dropped.mean(2)}
        n = {"global": scores.numel(), "layer": scores[0].numel(), "head": scores[0, 0].numel()}
        slack = largest / n[scope] + 1e-9  # ties within a cluster
        assert bool((share[scope] >= sparsity - 1e-9).all())
        assert bool((share[scope] <= sparsity + slack).all())
    assert thresholds(made, 0.0) == [None] * 3
    flat = torch.stack([one[0] for one in thresholds(made, 0.7, scope=scope)]).flatten()
    assert len(flat.unique()) == {"global": 1, "layer": 3, "head": 6}[scope]


def test_quantile_by_weight():
    scores, weights = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1, 7, 2])
    assert [float(weighted_quantile(scores, weights, s)) for s in (0.5, 0.7, 0.75, 0.95)] == [
        1.0, 1.0, 2.0, 3.0,
    ]  # fmt: skip
    assert weighted_quantile(scores, weights, 0.0) == -torch.inf


def test_scores_that_overflow_without_the_maximum_are_finite():
    """The published code's exp() of logits above 88 became inf / inf, and dropped everything."""
    fixed, queries, _ = sketches(1)
    made = calibrate(queries[0] * 1e4, fixed[0], 1.0, "layer 0")
    assert bool(torch.isfinite(made.scores[0]).all()) and float(made.scores[0].max()) > 0


def test_scores_that_are_not_finite_are_told():
    fixed, queries, _ = sketches(1)
    queries[0][0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="layer 0 are not finite"):
        calibrate(queries[0], fixed[0], 1.0, "layer 0")
