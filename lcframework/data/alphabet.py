"""ESM-2's 33-token alphabet, and the mapping between sequence bytes and token ids.

The order of the tokens is the one of fair-esm's `ESM-1b` alphabet, which every ESM-2 checkpoint
uses (Lin et al. 2023, "Evolutionary-scale prediction of atomic-level protein structure"), so
weights and embeddings stay comparable. numpy only: the command line and the store builder import
this without loading torch.
"""

import numpy as np
from numpy.typing import NDArray

TOKENS: tuple[str, ...] = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWC",
    *"XBUZO.-",
    *("<null_1>", "<mask>"),
)
TOKEN_TO_ID: dict[str, int] = {token: index for index, token in enumerate(TOKENS)}
VOCAB_SIZE = len(TOKENS)

CLS_ID = TOKEN_TO_ID["<cls>"]
PAD_ID = TOKEN_TO_ID["<pad>"]
EOS_ID = TOKEN_TO_ID["<eos>"]
UNK_ID = TOKEN_TO_ID["<unk>"]
MASK_ID = TOKEN_TO_ID["<mask>"]
X_ID = TOKEN_TO_ID["X"]

STANDARD_RESIDUES = "LAGVSERTIDPKQNFYMHWC"
"""The 20 standard residues, in id order."""
STANDARD_IDS: NDArray[np.uint8] = np.arange(4, 24, dtype=np.uint8)
"""Token ids of the 20 standard residues; they are contiguous, 4 to 23."""
SPECIALS_PER_PROTEIN = 2
"""`<cls>` before and `<eos>` after the residues of each protein."""

UNKNOWN_BYTE = 255
"""What `ENCODE_TABLE` holds for a byte that is no single-letter token."""


def _encode_table() -> NDArray[np.uint8]:
    table = np.full(256, UNKNOWN_BYTE, dtype=np.uint8)
    for token, index in TOKEN_TO_ID.items():
        if len(token) == 1:
            table[ord(token)] = index
            table[ord(token.lower())] = index
    return table


def _decode_table() -> NDArray[np.uint8]:
    single = [token if len(token) == 1 else "?" for token in TOKENS]
    return np.frombuffer("".join(single).encode(), dtype=np.uint8)


ENCODE_TABLE: NDArray[np.uint8] = _encode_table()
"""(256,) uint8: byte -> token id, upper and lower case alike; `UNKNOWN_BYTE` where none."""
_DECODE_TABLE = _decode_table()


def encode(sequence: str) -> NDArray[np.uint8]:
    """Token ids of one protein's residues, without `<cls>` and `<eos>`.

    Args:
        sequence: one-letter codes, upper or lower case.

    Returns:
        (L,) uint8 token ids.

    Raises:
        ValueError: a character is no token; the message names it and its position.
    """
    raw = np.frombuffer(sequence.encode("utf-8"), dtype=np.uint8)
    ids = ENCODE_TABLE[raw]
    bad = np.flatnonzero(ids == UNKNOWN_BYTE)
    if bad.size:
        where = int(bad[0])
        raise ValueError(
            f"byte {where} of the sequence, {chr(raw[where])!r}, is no amino-acid code"
        )
    return ids


def is_protein(sequence: str) -> bool:
    """Whether every character is an amino-acid code and there is at least one."""
    codes = ENCODE_TABLE[np.frombuffer(sequence.encode("utf-8"), dtype=np.uint8)]
    return len(codes) > 0 and not bool((codes == UNKNOWN_BYTE).any())


def decode(ids: NDArray[np.integer]) -> str:
    """The letters of residue token ids.

    Args:
        ids: (L,) integers, all single-letter tokens (4 to 30).

    Returns:
        A string of L letters.

    Raises:
        ValueError: an id is a special token or outside the vocabulary.
    """
    ids = np.asarray(ids)
    bad = np.flatnonzero((ids < TOKEN_TO_ID["L"]) | (ids > TOKEN_TO_ID["-"]))
    if bad.size:
        raise ValueError(f"id {int(ids[bad[0]])} at position {int(bad[0])} is no residue token")
    return _DECODE_TABLE[ids].tobytes().decode("ascii")
