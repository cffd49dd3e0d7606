"""Which proteins are held out, and what a graph is known by."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from lcframework.data.counter_random import Stream, draw, stream_key
from lcframework.data.graphs.protein_graph import ProteinGraph


def split_by_sequence(
    proteins: ProteinGraph, shares: dict[str, float], seed: int
) -> dict[str, NDArray[np.bool_]]:
    """(V,) members of "train", "valid" and "test". A protein's split depends on its sequence and
    the seed alone, not on the graph, so that graphs with common proteins split them alike."""
    hashes = np.array(
        [
            int.from_bytes(
                hashlib.blake2b(proteins.residues(node).tobytes(), digest_size=8).digest()
            )
            for node in range(proteins.graph.nodes)
        ],
        np.uint64,
    )
    place = draw(stream_key(seed, 0, Stream.PROTEIN_SPLIT), hashes) * 2.0**-64
    valid = place < shares["valid"]
    test = ~valid & (place < shares["valid"] + shares["test"])
    return {"train": ~valid & ~test, "valid": valid, "test": test}


def fingerprint_of(proteins: ProteinGraph) -> str:
    """A hash of sequences and edges."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (
        proteins.tokens,
        proteins.starts,
        proteins.graph.starts,
        proteins.graph.neighbours,
    ):
        digest.update(part.tobytes())
    return digest.hexdigest()
