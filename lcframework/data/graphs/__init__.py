"""Protein interaction graphs: reading, a compressed sparse row core, random walks."""
