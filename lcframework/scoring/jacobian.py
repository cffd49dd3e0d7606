"""From a categorical Jacobian to contact scores (Zhang et al. 2024, "Protein language models learn
evolutionary statistics of interacting sequence motifs", PNAS 121).

Legend: L residues, A = 20 amino acids; J (L, A, L, A): change of the logit of amino acid b at
residue j when residue i becomes amino acid a.
"""

import numpy as np
from numpy.typing import NDArray


def centred(jacobian: NDArray[np.float32]) -> NDArray[np.float32]:
    """The Jacobian with mean zero along each of its four axes; changes it in place.

    Takes away what a substitution does everywhere, and what every substitution does somewhere.
    """
    for axis in range(4):
        jacobian -= jacobian.mean(axis=axis, keepdims=True, dtype=np.float64).astype(np.float32)
    return jacobian


def coupling_norms(jacobian: NDArray[np.float32]) -> NDArray[np.float64]:
    """(L, L) Frobenius norms of the symmetrised blocks (J[i, :, j, :] + J[j, :, i, :]^T) / 2, with
    a diagonal of zeros."""
    length = len(jacobian)
    norms = np.zeros((length, length))
    for i in range(length):
        forth = jacobian[i].transpose(1, 0, 2)  # (L, a of i, b of j)
        back = jacobian[:, :, i, :].transpose(0, 2, 1)  # (L, b of i, a of j)
        block = (forth.astype(np.float64) + back) / 2.0
        norms[i] = np.sqrt((block * block).sum((1, 2)))
    np.fill_diagonal(norms, 0.0)
    return norms


def average_product_corrected(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norms minus (row mean x column mean / mean), which takes away what a residue shares with all
    others (Dunn et al. 2008); diagonal of zeros. A map of zeros stays one."""
    total = norms.sum()
    if total <= 0:
        return norms.copy()
    corrected = norms - np.outer(norms.sum(1), norms.sum(0)) / total
    np.fill_diagonal(corrected, 0.0)
    return corrected


def contact_scores(jacobian: NDArray[np.float32]) -> NDArray[np.float64]:
    """(L, L) symmetric scores, higher is likelier in contact.

    Args:
        jacobian: (L, 20, L, 20); it is centred in place.
    """
    return average_product_corrected(coupling_norms(centred(jacobian)))
