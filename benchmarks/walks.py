"""Random walks on one core: ours against pecanpy and torch_cluster, on seeded R-MAT graphs.

Run: OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/walks.py [--edges 1000000 40000000].
Walks of 40 nodes with p = 0.5 and q = 2; preprocessing is timed apart. Peers that are not installed
are left out, and said so; pecanpy 2 runs on numpy 2 by names that numpy dropped."""

import argparse
import os
import resource
import time
from collections.abc import Callable

import numpy as np
from harness import Row, compare, write_results
from numpy.typing import NDArray

from lcframework.data.graphs.csr import Graph, build_graph
from lcframework.data.graphs.walks import random_walks

P, Q, LENGTH, SEED = 0.5, 2.0, 40, 1
QUADRANTS = (0.57, 0.19, 0.19, 0.05)
"""R-MAT's usual probabilities (Chakrabarti, Zhan, Faloutsos 2004; Graph500)."""


def rmat(edges: int) -> NDArray[np.int32]:
    """(edges, 2) pairs over about a twentieth as many nodes, repeats and self loops included."""
    scale = max(1, round(np.log2(edges / 20)))
    generator = np.random.default_rng(SEED)
    pairs = np.zeros((edges, 2), np.int32)
    limits = np.cumsum(QUADRANTS)[:3].astype(np.float32)
    for _ in range(scale):
        quadrant = np.searchsorted(limits, generator.random(edges, np.float32)).astype(np.int32)
        pairs[:, 0] = 2 * pairs[:, 0] + quadrant // 2
        pairs[:, 1] = 2 * pairs[:, 1] + quadrant % 2
    # Node numbers say nothing of degrees in real graphs.
    order = generator.permutation(1 << scale).astype(np.int32)
    return order[pairs]


Walker = Callable[[NDArray[np.int64]], None]


def ours(graph: Graph) -> Walker:
    def walk(nodes: NDArray[np.int64]) -> None:
        random_walks(graph, nodes, np.zeros(len(nodes), np.int64), LENGTH, P, Q, SEED)

    return walk


def pecanpy(graph: Graph) -> Walker:
    old = {"bool8": np.bool_, "object0": np.object_, "int0": np.intp, "uint0": np.uintp}
    old |= {"void0": np.void, "bytes0": np.bytes_, "str0": np.str_, "float_": np.float64}
    old |= {"complex_": np.complex128, "singlecomplex": np.complex64, "cfloat": np.complex128}
    old |= {"longfloat": np.longdouble, "clongfloat": np.clongdouble, "unicode_": np.str_}
    old |= {"longcomplex": np.clongdouble, "string_": np.bytes_}
    for name, kind in old.items():
        if not hasattr(np, name):
            setattr(np, name, kind)
    from numba_progress import ProgressBar  # pyright: ignore[reportMissingImports]
    from pecanpy.pecanpy import SparseOTF  # pyright: ignore[reportMissingImports]

    peer = SparseOTF(P, Q, workers=1, verbose=False, random_state=SEED)
    peer.indptr = graph.starts.astype(np.uint32)
    peer.indices = graph.neighbours.astype(np.uint32)
    peer.data = np.ones(len(graph.neighbours), np.float32)
    peer._preprocess_transition_probs()
    forward, has_neighbours = peer.get_move_forward(), peer.get_has_nbrs()

    def walk(nodes: NDArray[np.int64]) -> None:
        with ProgressBar(total=len(nodes), disable=True) as progress:
            peer._random_walks(
                len(nodes), LENGTH - 1, SEED, nodes.astype(np.uint32), has_neighbours, forward,
                progress,
            )  # fmt: skip

    return walk


def torch_cluster(graph: Graph) -> Walker:
    import torch
    import torch_cluster  # noqa: F401 # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    starts, neighbours = (torch.from_numpy(one).long() for one in (graph.starts, graph.neighbours))

    def walk(nodes: NDArray[np.int64]) -> None:
        begin = torch.from_numpy(nodes)
        torch.ops.torch_cluster.random_walk(starts, neighbours, begin, LENGTH - 1, P, Q)

    return walk


def steps_per_second(walk: Walker, graph: Graph, seconds: float = 4.0) -> float:
    """Median of five runs, each long enough to be measured."""
    occupied = np.flatnonzero(graph.degrees())
    generator = np.random.default_rng(SEED)
    walk(generator.choice(occupied, 10))  # compiles
    count = 10
    while True:
        nodes = generator.choice(occupied, count)
        start = time.perf_counter()
        walk(nodes)
        spent = time.perf_counter() - start
        if spent > seconds / 10:
            break
        count *= 4
    rates = []
    for _ in range(5):
        nodes = generator.choice(occupied, count)
        start = time.perf_counter()
        walk(nodes)
        rates.append(count * (LENGTH - 1) / (time.perf_counter() - start))
    return sorted(rates)[2]


def rows_of(edges: int) -> list[Row]:
    pairs = rmat(edges)
    build_graph(pairs[:10], int(pairs.max()) + 1)  # compiles
    start = time.perf_counter()
    graph, _ = build_graph(pairs, int(pairs.max()) + 1)
    built = time.perf_counter() - start
    del pairs
    name = f"R-MAT {edges / 1e6:,.0f}M pairs, {graph.nodes:,} nodes, {graph.edges:,} edges"
    print(f"{name}: rows in {built:.1f} s", flush=True)
    rows = [Row(name, "preprocessing", "s", built)]
    found = {}
    for label, make in (("ours", ours), ("pecanpy", pecanpy), ("torch_cluster", torch_cluster)):
        try:
            walk = make(graph)
        except ImportError as error:
            print(f"{label} left out: {error}", flush=True)
            continue
        found[label] = steps_per_second(walk, graph)
        print(f"{label}: {found[label]:,.0f} steps/s", flush=True)
    mine = found.pop("ours")
    for label, theirs in found.items():
        rows.append(compare(name, "walks, p=0.5, q=2", "steps/s", mine, label, theirs))
    if not found:
        rows.append(Row(name, "walks, p=0.5, q=2", "steps/s", mine))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows.append(Row(name, "peak memory of the process", "GB", peak, limit=24.0))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, nargs="+", default=[1_000_000, 40_000_000])
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if os.environ.get(name) != "1":
            raise SystemExit(f"One core is compared: set {name}=1.")
    write_results("walks", [row for edges in parser.parse_args().edges for row in rows_of(edges)])


if __name__ == "__main__":
    main()
