"""A protein interaction graph with its sequences: nodes are distinct sequences.

Two names with the same sequence are one node, with the edges of both: databases name a protein
differently, and a sequence must not stand on both sides of a split. Legend: V nodes, R names."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcframework.data.fasta import read_fasta
from lcframework.data.fasta_files import expand_inputs
from lcframework.data.graphs.csr import EdgeCounts, Graph, build_graph
from lcframework.data.graphs.edge_lists import EdgeListCounts, read_edges
from lcframework.errors import DataError


@dataclass(frozen=True)
class ProteinGraph:
    """Sequences and who interacts with whom.

    Attributes:
        graph: V nodes.
        tokens: uint8 token ids of the residues of all nodes behind one another.
        starts: (V+1,) int64 where each node's residues begin.
        names: (V,) the first name of each node's sequence.
        files: (V,) int32, in which of the FASTA files it stood first.
        merged: how many further names had a sequence that was there before.
        lines, pairs: what became of the edge lists' lines and of the pairs in them.
    """

    graph: Graph
    tokens: NDArray[np.uint8]
    starts: NDArray[np.int64]
    names: list[str]
    files: NDArray[np.int32]
    merged: int
    lines: EdgeListCounts
    pairs: EdgeCounts

    def residues(self, node: int) -> NDArray[np.uint8]:
        """(length,) token ids of one node."""
        return self.tokens[self.starts[node] : self.starts[node + 1]]

    def lengths(self) -> NDArray[np.int64]:
        """(V,) residues of each node."""
        return np.diff(self.starts)

    def report(self) -> dict[str, Any]:
        """What was read and what was left out, for results.json."""
        degrees = self.graph.degrees()
        return {
            "proteins": self.graph.nodes,
            "edges": self.graph.edges,
            "isolated": int((degrees == 0).sum()),
            "names_merged_by_sequence": self.merged,
            **asdict(self.pairs),
            **asdict(self.lines),
        }


def read_protein_graph(
    sequences: str | Path | Sequence[str | Path],
    edges: str | Path | Sequence[str | Path],
    min_score: float | None = None,
    drop_unknown: bool = False,
) -> ProteinGraph:
    """Read FASTA files and edge lists; arguments as `fasta_files.expand_inputs` and `read_edges`.

    Raises:
        DataError: what those raise; one name for two sequences; a graph of fewer than two proteins
            or without an edge.
    """
    numbers, nodes, merged = _read_sequences(expand_inputs(sequences))
    lines = EdgeListCounts()
    edge_files = expand_inputs(edges)
    found = read_edges(edge_files, numbers, min_score, drop_unknown, lines)
    shown = ", ".join(str(path) for path in edge_files)
    if len(nodes.names) < 2:
        raise DataError(
            f"A graph needs two proteins, there is {len(nodes.names)} distinct sequence. Check the "
            "FASTA files."
        )
    graph, pairs = build_graph(found, len(nodes.names))
    if graph.edges == 0:
        raise DataError(
            f"{shown}: no edge is left of {lines.lines:,} lines: {lines.low_scores:,} have a low "
            f"score, {lines.unknown:,} name an unknown protein, {pairs.self_loops:,} join a "
            "protein with itself. Lower min_score, or check that names are those of the FASTA file."
        )
    starts = np.concatenate([[0], np.cumsum(nodes.lengths)]).astype(np.int64)
    files = np.array(nodes.files, np.int32)
    tokens = np.concatenate(nodes.tokens)
    return ProteinGraph(graph, tokens, starts, nodes.names, files, merged, lines, pairs)


@dataclass(frozen=True)
class _Nodes:
    names: list[str]
    tokens: list[NDArray[np.uint8]]
    lengths: list[int]
    files: list[int]


def _read_sequences(paths: Sequence[Path]) -> tuple[dict[str, int], _Nodes, int]:
    numbers: dict[str, int] = {}
    by_sequence: dict[bytes, int] = {}
    nodes = _Nodes([], [], [], [])
    merged = 0
    for file, path in enumerate(paths):
        for block in read_fasta([path]):
            ends = np.cumsum(block.lengths)
            name_ends = np.cumsum(block.id_lengths)
            for record, (end, name_end) in enumerate(zip(ends, name_ends, strict=True)):
                residues = block.tokens[end - block.lengths[record] : end]
                name = block.id_bytes[name_end - block.id_lengths[record] : name_end]
                name = name.tobytes().decode(errors="replace")
                node = by_sequence.setdefault(residues.tobytes(), len(nodes.names))
                if numbers.setdefault(name, node) != node:
                    raise DataError(
                        f"{path}, line {int(block.lines[record])}: the protein {name!r} stood "
                        "there before with another sequence. Keep one of them, or rename."
                    )
                if node < len(nodes.names):
                    merged += 1
                    continue
                nodes.names.append(name)
                nodes.tokens.append(residues.copy())
                nodes.lengths.append(len(residues))
                nodes.files.append(file)
    return numbers, nodes, merged
