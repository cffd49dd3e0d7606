"""Residue positions from a PDB or mmCIF file, in the order of a given sequence.

Contacts are between C-beta atoms (C-alpha for glycine and where C-beta is missing), as in CASP.
Biopython, an optional package, reads the files.
"""

import gzip
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcframework.errors import ConfigError, DataError

CIF, PDB = (".cif", ".mmcif"), (".pdb", ".ent")
MIN_IDENTITY = 0.9


def require_biopython(path: Path) -> None:
    """Refuse early where the reader is not installed.

    Raises:
        ConfigError: with the command that installs it.
    """
    try:
        import Bio.PDB  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading structures needs the package biopython, which is not installed. Run "
            "`pip install 'lcframework[structures]'`."
        ) from error


def residue_places(
    path: Path, sequence: str, chain: str | None = None
) -> tuple[NDArray[np.float32], str]:
    """Where the residues of a sequence are.

    Args:
        path: .pdb, .ent, .cif or .mmcif, plain or .gz; the first model counts.
        sequence: L residues; the chain may lack some of them, or have others at its ends.
        chain: its name; None for the chain that fits the sequence best.

    Returns:
        (L, 3) float32 in Angstrom, NaN where a residue is not resolved; and the chain's name.

    Raises:
        ConfigError: biopython is not installed.
        DataError: a bad file, no such chain, or a chain of another protein.
    """
    require_biopython(path)
    chains = _chains(path)
    if chain is not None and chain not in chains:
        raise DataError(f"{path} has no chain {chain!r}; it has {', '.join(chains)}.")
    wanted = {chain: chains[chain]} if chain is not None else chains
    fits = {name: _aligned(sequence, letters) for name, (letters, _) in wanted.items()}
    best = max(fits, key=lambda name: fits[name][1])
    pairs, identical = fits[best]
    if not pairs or identical < MIN_IDENTITY * len(pairs) or identical < 0.3 * len(sequence):
        raise DataError(
            f"{path}, chain {best}: {identical} of its residues are those of the sequence of "
            f"{len(sequence)}: it is another protein. Name the right file or chain."
        )
    found = np.full((len(sequence), 3), np.nan, dtype=np.float32)
    for own, other in pairs:
        found[own] = wanted[best][1][other]
    return found, best


def chain_sequences(path: Path) -> dict[str, str]:
    """Chain -> letters of its resolved residues, for proteins without a FASTA file.

    Raises:
        ConfigError: biopython is not installed.
        DataError: a bad file.
    """
    require_biopython(path)
    return {name: letters for name, (letters, _) in _chains(path).items()}


def _chains(path: Path) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Chain -> (letters, (n, 3) positions) of the first model's amino acids."""
    from Bio.Data.PDBData import protein_letters_3to1_extended as one_letter

    found = {}
    for chain in _model(path):
        letters, places = [], []
        for residue in chain:
            letter = one_letter.get(residue.get_resname().strip().upper())
            atom = next((residue[name] for name in ("CB", "CA") if name in residue), None)
            if letter is not None and atom is not None:
                letters.append(letter)
                places.append(atom.get_coord())
        if letters:
            found[chain.id] = "".join(letters), np.array(places, dtype=np.float32)
    if not found:
        raise DataError(f"{path} holds no protein chain with coordinates.")
    return found


def _model(path: Path) -> Any:
    from Bio.PDB.MMCIFParser import MMCIFParser
    from Bio.PDB.PDBParser import PDBParser

    suffixes = [one.lower() for one in path.suffixes if one.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in (*CIF, *PDB):
        raise DataError(f"{path}: a structure's name ends in {', '.join((*PDB, *CIF))}, or .gz.")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Check the spelling of its path.")
    parser: Any = (MMCIFParser if kind in CIF else PDBParser)(QUIET=True)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gaps in chains, which NaN rows stand for here
            return next(iter(parser.get_structure("it", io.StringIO(text))))
    except Exception as error:
        # Biopython raises many kinds of errors on damaged files.
        raise DataError(
            f"{path}: no readable structure ({type(error).__name__}: {error}). Download it again."
        ) from error


def _aligned(sequence: str, letters: str) -> tuple[list[tuple[int, int]], int]:
    """Pairs (place in the sequence, place in the chain) of a global alignment, and how many of them
    are identical."""
    from Bio.Align import PairwiseAligner

    aligner = PairwiseAligner(
        mode="global", match_score=2.0, mismatch_score=-2.0, open_gap_score=-3.0,
        extend_gap_score=-0.1, end_gap_score=0.0,
    )  # fmt: skip
    aligned = aligner.align(sequence, letters)[0].aligned
    pairs = [
        (own, other)
        for (start, stop), (first, _) in zip(*aligned, strict=True)
        for own, other in zip(range(start, stop), range(first, first + stop - start), strict=True)
    ]
    return pairs, sum(sequence[own] == letters[other] for own, other in pairs)
