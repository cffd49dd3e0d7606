"""Which residues touch, from coordinates."""

import numpy as np
from numpy.typing import NDArray

CONTACT_ANGSTROM = 8.0
UNKNOWN = -1
"""Label of a pair that is not known or not scored, as in TAPE."""


def contact_map(
    places: NDArray[np.floating], angstrom: float = CONTACT_ANGSTROM
) -> NDArray[np.int8]:
    """Contacts of a protein of L residues.

    Args:
        places: (L, 3) in Angstrom, NaN rows where a residue is not resolved.
        angstrom: residues closer than this touch.

    Returns:
        (L, L) int8: 1 contact, 0 none, -1 unknown.
    """
    wide = np.asarray(places, dtype=np.float64)
    distance = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(-1))
    found = (distance < angstrom).astype(np.int8)
    found[np.isnan(distance)] = UNKNOWN
    return found
