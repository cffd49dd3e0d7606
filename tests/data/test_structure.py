"""Positions from PDB and mmCIF files, matched to a sequence."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from lcframework.data.contact_map import contact_map
from lcframework.data.structure import chain_sequences, residue_places
from lcframework.errors import DataError

pytest.importorskip("Bio.PDB", reason="biopython is optional")
NAMES = "ALA CYS ASP GLU PHE GLY HIS ILE LYS LEU MET ASN PRO GLN ARG SER THR VAL TRP TYR"
THREE = dict(zip("ACDEFGHIKLMNPQRSTVWY", NAMES.split(" "), strict=True))
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"


def pdb_text(sequence, chain="A", missing=(), start=1, x=0.0):
    """C-alpha at (i, x, 0), C-beta at (i, x, 1); glycine without C-beta."""
    lines, serial = [], 1
    for index, letter in enumerate(sequence):
        if index in missing:
            continue
        for atom, z in (("CA", 0.0), ("CB", 1.0)):
            if letter == "G" and atom == "CB":
                continue
            lines.append(
                f"ATOM  {serial:5d}  {atom:<3s} {THREE[letter]} {chain}{index + start:4d}    "
                f"{float(index):8.3f}{x:8.3f}{z:8.3f}  1.00  0.00           C  "
            )
            serial += 1
    return "\n".join([*lines, "TER"])


@pytest.mark.parametrize("compress", [False, True])
def test_positions_by_sequence(tmp_path, compress):
    text = pdb_text(SEQUENCE, missing={3, 4}, start=101) + "\nEND\n"
    path = tmp_path / ("a.pdb.gz" if compress else "a.pdb")
    path.write_bytes(gzip.compress(text.encode()) if compress else text.encode())
    places, chain = residue_places(path, SEQUENCE)
    assert chain == "A"
    assert np.isnan(places[[3, 4]]).all()
    kept = [i for i in range(len(SEQUENCE)) if i not in (3, 4)]
    np.testing.assert_allclose(places[kept], [[i, 0.0, 1.0] for i in kept])
    found = contact_map(places)
    assert found[0, 7] == 1 and found[0, 8] == 0 and (found[3] == -1).all()


def test_chains_tags_and_glycine(tmp_path):
    own = "GG" + SEQUENCE
    path = tmp_path / "a.ent"
    text = pdb_text("ACDEFGHIKLMNPQRSTVWY", "X") + "\n" + pdb_text("AAAA" + own, "B", x=5.0)
    path.write_text(text + "\nEND\n")
    places, chain = residue_places(path, own)
    assert chain == "B"  # the one that fits, its four extra residues left out
    np.testing.assert_allclose(places[0], [4, 5, 0])  # glycine: C-alpha
    np.testing.assert_allclose(places[2], [6, 5, 1])
    assert chain_sequences(path) == {"X": "ACDEFGHIKLMNPQRSTVWY", "B": "AAAA" + own}
    with pytest.raises(DataError, match="chain X: .* it is another protein"):
        residue_places(path, own, "X")
    with pytest.raises(DataError, match="no chain 'C'; it has X, B"):
        residue_places(path, own, "C")


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        residue_places(tmp_path / "a.pdb", SEQUENCE)
    with pytest.raises(DataError, match=r"name ends in \.pdb"):
        residue_places(tmp_path / "a.txt", SEQUENCE)
    (tmp_path / "b.pdb").write_text("HEADER nothing\n")
    with pytest.raises(DataError, match="no readable structure|no protein chain"):
        residue_places(tmp_path / "b.pdb", SEQUENCE)
    (tmp_path / "c.cif").write_text("data_x\nloop_\n_atom_site.id\n1 2 3\n")
    with pytest.raises(DataError, match="no readable structure"):
        residue_places(tmp_path / "c.cif", SEQUENCE)


@pytest.mark.realdata
def test_structures_that_biopython_ships():
    """1A8O as PDB and mmCIF: the HIV-1 capsid's C-terminal domain, 70 residues, two MSE."""
    folder = os.environ.get("LCF_STRUCTURES")
    if not folder:
        pytest.skip(
            "LCF_STRUCTURES names no folder; biopython's source archive has one, Tests/PDB "
            "(pip download --no-binary :all: --no-deps biopython)"
        )
    maps = []
    for name in ("1A8O.pdb", "1A8O.cif"):
        sequence = chain_sequences(Path(folder) / name)["A"]
        assert len(sequence) == 70 and sequence.startswith("MDIRQGPKEPFRDYVDRFYK")
        places, _ = residue_places(Path(folder) / name, sequence)
        assert not np.isnan(places).any()
        maps.append(contact_map(places))
    np.testing.assert_array_equal(maps[0], maps[1])
    assert maps[0][np.triu_indices(70, 6)].sum() > 70  # a folded domain
