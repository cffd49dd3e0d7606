"""Batched spherical k-means: keys are assigned by cosine, all heads at once, seeded.

Legend: H heads (of any number of layers), N points, K clusters, D size of a point.

Two things are unlike a textbook's k-means. The seeds are drawn in a few rounds, each round's with
probability proportional to the distance from the seeds so far (the sampling of k-means||, Bahmani
et al. 2012, without its reduction step): drawing them one by one, as k-means++ does, costs as much
as all iterations together. And it stops when fewer than one key in a thousand changes its cluster.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SEED_ROUNDS = 8
SIMILARITIES_AT_ONCE = 1 << 26
"""Similarities formed at a time: 256 MB in float32."""
IN_CACHE = 1 << 21
"""The same on a CPU: 8 MB."""


@dataclass(frozen=True)
class Clusters:
    """A clustering of every head's points.

    Attributes:
        labels: (H, N) int64 in [0, K).
        sizes: (H, K) int64, weights not counted.
        loss: (H,) float64, weighted mean of 1 - cosine to the cluster's direction.
        iterations: assignments made after seeding.
        moved: share of points that changed cluster in the last iteration.
    """

    labels: Tensor
    sizes: Tensor
    loss: Tensor
    iterations: int
    moved: float


def cluster_keys(
    keys: Tensor,
    clusters: int,
    *,
    weights: Tensor | None = None,
    seed: int = 0,
    iterations: int = 15,
    moved: float = 1e-3,
) -> Clusters:
    """Cluster each head's points by cosine.

    Args:
        keys: (H, N, D), any float dtype; a zero vector belongs to whichever cluster.
        clusters: K, at least 1, at most N.
        weights: (H, N) non-negative weight of each point; None: 1.
        seed: of the seeds' draw; the same seed gives the same labels on the same machine.
        iterations: at most so many.
        moved: stop when a smaller share of the points changes its cluster.

    Returns:
        The labels and how good they are. Without duplicates among the points no cluster is empty.

    Raises:
        ValueError: more clusters than points, or none.
    """
    H, N, _ = keys.shape
    if not 1 <= clusters <= N:
        raise ValueError(f"{clusters} clusters of {N} points")
    # float16 holds unit vectors to 5e-4 and doubles the speed of a GPU's matrix products.
    unit = F.normalize(keys.float(), dim=-1)
    unit = unit.half() if keys.is_cuda else unit
    if weights is None:
        weights = torch.ones(H, N, device=keys.device)
    weights = weights.float()
    generator = torch.Generator(device=keys.device).manual_seed(seed)
    centres = _seeds(unit, clusters, weights, generator)
    labels = torch.full((H, N), -1, dtype=torch.long, device=keys.device)
    changed, done = 1.0, 0
    while done < iterations and changed >= moved:
        best, new = nearest(unit, centres)
        new = _fill_empty(new, best, clusters)
        changed = float((new != labels).float().mean())
        labels, done = new, done + 1
        centres = F.normalize(segment_sums(unit, labels, clusters, weights), dim=-1).to(unit.dtype)
    cosine = (unit.float() * _rows(centres.float(), labels)).sum(-1)
    loss = ((1 - cosine).double() * weights).sum(-1) / weights.double().sum(-1)
    return Clusters(labels, count(labels, clusters), loss, done, changed)


def _rows(centres_HKD: Tensor, labels_HN: Tensor) -> Tensor:
    return centres_HKD.gather(1, labels_HN[..., None].expand(-1, -1, centres_HKD.shape[-1]))


def count(labels: Tensor, clusters: int) -> Tensor:
    """(H, K) int64 points of each cluster."""
    zero = torch.zeros(labels.shape[0], clusters, dtype=torch.long, device=labels.device)
    return zero.scatter_add_(1, labels, torch.ones_like(labels))


def nearest(unit: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Largest cosine (H, N) float32 and its centre (H, N) int64, never more than
    `SIMILARITIES_AT_ONCE` cosines in memory."""
    across = centres.transpose(1, 2).contiguous()
    return (_nearest_cpu if unit.device.type == "cpu" else _nearest_batched)(unit, across)


def _nearest_batched(unit: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    H, N, _ = unit.shape
    step = max(1, SIMILARITIES_AT_ONCE // (H * across.shape[2]))
    parts = [
        torch.matmul(unit[:, start : start + step], across).max(-1) for start in range(0, N, step)
    ]
    return torch.cat([part.values for part in parts], 1).float(), torch.cat(
        [part.indices for part in parts], 1
    )


def _nearest_cpu(unit: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Head by head in one small buffer: fresh pages for every product would cost more than it."""
    H, N, _ = unit.shape
    K = across.shape[2]
    step = min(N, max(1, min(SIMILARITIES_AT_ONCE, IN_CACHE) // K))
    buffer = torch.empty(step, K)
    best, index = torch.empty(H, N), torch.empty(H, N, dtype=torch.long)
    for head in range(H):
        for start in range(0, N, step):
            rows = slice(start, min(N, start + step))
            cosine = buffer[: rows.stop - start]
            torch.mm(unit[head, rows], across[head], out=cosine)
            torch.max(cosine, -1, out=(best[head, rows], index[head, rows]))
    return best, index


def segment_sums(points: Tensor, labels: Tensor, clusters: int, weights: Tensor) -> Tensor:
    """(H, K, D) float32 weighted sums of each cluster's points; 0 for an empty one. The same sums
    every time: a GPU, which would add in place in a random order, sorts by cluster first."""
    rows = points.float() * weights[..., None]
    add = _sums_in_place if points.device.type == "cpu" else _sums_sorted
    return add(rows, labels, clusters)


def _sums_in_place(rows: Tensor, labels: Tensor, clusters: int) -> Tensor:
    H, _, D = rows.shape
    slots = labels + clusters * torch.arange(H)[:, None]
    sums = torch.zeros(H * clusters, D).index_add_(0, slots.flatten(), rows.flatten(0, 1))
    return sums.view(H, clusters, D)


def _sums_sorted(rows: Tensor, labels: Tensor, clusters: int) -> Tensor:
    H, _, D = rows.shape
    order = labels.argsort(dim=1, stable=True)
    rows = rows.gather(1, order[..., None].expand(-1, -1, D)).flatten(0, 1)
    lengths = count(labels, clusters).flatten()
    sums = torch.segment_reduce(rows, "sum", lengths=lengths, axis=0, unsafe=True)
    return sums.view(H, clusters, D)


def _seeds(unit: Tensor, clusters: int, weights: Tensor, generator: torch.Generator) -> Tensor:
    """(H, K, D) points drawn without repetition, in rounds, by their distance from those so far."""
    H, N, D = unit.shape
    rounds = min(SEED_ROUNDS, clusters)
    counts = [clusters // rounds + (index < clusters % rounds) for index in range(rounds)]
    odds = weights.clamp(min=1e-30).log()
    far = torch.full((H, N), torch.inf, device=unit.device)
    chosen = torch.empty(H, 0, D, dtype=unit.dtype, device=unit.device)
    taken = torch.zeros(H, N, dtype=torch.bool, device=unit.device)
    for wanted in counts:
        # Gumbel noise on log-odds: the largest sums are a weighted draw without repetition.
        noise = torch.rand(H, N, device=unit.device, generator=generator).clamp(min=1e-20)
        score = odds - (-noise.log()).clamp(min=1e-20).log()
        index = score.masked_fill(taken, -torch.inf).topk(wanted, dim=1).indices
        taken = taken.scatter(1, index, True)
        new = unit.gather(1, index[..., None].expand(-1, -1, D))
        chosen = torch.cat([chosen, new], 1)
        # On the sphere the squared distance is 2 - 2 cos.
        far = torch.minimum(far, 1 - nearest(unit, new)[0])
        odds = (far.clamp(min=1e-7) * weights.clamp(min=1e-30)).log()
    return chosen


def _fill_empty(labels: Tensor, best: Tensor, clusters: int) -> Tensor:
    """Give each empty cluster the point that lies worst in a cluster of at least two."""
    sizes = count(labels, clusters)
    empty = sizes == 0
    if not bool(empty.any()):
        return labels
    labels = labels.clone()
    for head in empty.any(1).nonzero().flatten().tolist():
        free = empty[head].nonzero().flatten().tolist()
        size = sizes[head].tolist()
        for point in best[head].argsort(stable=True).tolist():
            if not free:
                break
            old = int(labels[head, point])
            if size[old] > 1:
                size[old] -= 1
                labels[head, point] = free.pop()
    return labels
