import subprocess
import sys

import numpy as np
import pytest

from lcframework.data.alphabet import (
    ENCODE_TABLE,
    STANDARD_IDS,
    STANDARD_RESIDUES,
    TOKEN_TO_ID,
    TOKENS,
    UNKNOWN_BYTE,
    decode,
    encode,
)


def test_ids_are_those_of_esm2():
    assert len(TOKENS) == 33
    known = {"<cls>": 0, "<pad>": 1, "<eos>": 2, "<unk>": 3, "L": 4, "C": 23, "X": 24, "B": 25}
    known |= {"U": 26, "Z": 27, "O": 28, ".": 29, "-": 30, "<null_1>": 31, "<mask>": 32}
    assert {token: TOKEN_TO_ID[token] for token in known} == known
    assert decode(STANDARD_IDS) == STANDARD_RESIDUES
    assert sorted(STANDARD_RESIDUES) == list("ACDEFGHIKLMNPQRSTVWY")


def test_encode_then_decode():
    assert decode(encode("mkXBZUO.-W")) == "MKXBZUO.-W"
    assert encode("MKV").dtype == np.uint8
    assert (ENCODE_TABLE != UNKNOWN_BYTE).sum() == 2 * 25 + 2


def test_bad_characters_and_ids_are_named():
    with pytest.raises(ValueError, match=r"byte 2 .*'J'"):
        encode("MKJ")
    with pytest.raises(ValueError, match="id 32 at position 1"):
        decode(np.array([4, 32]))


def test_the_alphabet_loads_no_torch():
    code = "import sys, lcframework.data.alphabet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
