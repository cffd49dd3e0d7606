"""Made-up proteins and FASTA files for the tests of the protein data."""

from pathlib import Path

import numpy as np

from lcframework.data.alphabet import STANDARD_RESIDUES


def random_proteins(count: int, low: int = 5, high: int = 60, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    letters = np.array(list(STANDARD_RESIDUES))
    return ["".join(generator.choice(letters, generator.integers(low, high))) for _ in range(count)]


def fasta_text(proteins: list[str], prefix: str = "p") -> str:
    return "".join(f">{prefix}{index}\n{protein}\n" for index, protein in enumerate(proteins))


def write_fasta(path: Path, proteins: list[str], prefix: str = "p") -> Path:
    path.write_text(fasta_text(proteins, prefix))
    return path
