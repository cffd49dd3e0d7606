"""The exported tokenizer: ESM-2's, and equal to what the data module feeds the network."""

import gzip
import lzma

import pytest
from transformers import AutoTokenizer
from transformers.models.esm.tokenization_esm import EsmTokenizer

from lcframework.data.alphabet import CLS_ID, EOS_ID, MASK_ID, PAD_ID, TOKEN_TO_ID, TOKENS, encode
from lcframework.paths import sample_dir
from lcframework.run.export import write_tokenizer

# The vocabulary of every published ESM-2, in order.
ESM2_VOCABULARY = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-"]
ESM2_VOCABULARY += ["<null_1>", "<mask>"]


@pytest.fixture
def tokenizer(tmp_path):
    """Written, and read again by the class that transformers finds by itself."""
    write_tokenizer(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


@pytest.fixture
def esm2(tmp_path):
    """transformers' tokenizer of ESM-2 with ESM-2's vocabulary, made without our code."""
    path = tmp_path / "esm2_vocab.txt"
    path.write_text("\n".join(ESM2_VOCABULARY))
    return EsmTokenizer(str(path))


def sample_proteins():
    sequences = []
    for name in ("train", "valid"):
        text = gzip.decompress((sample_dir() / f"{name}.fasta.gz").read_bytes()).decode()
        records = text.removeprefix(">").split("\n>")
        sequences += ["".join(record.split("\n")[1:]) for record in records]
    return sequences


def test_equals_esm2_and_the_data_module_on_every_protein_of_the_sample(tokenizer, esm2):
    assert type(tokenizer) is EsmTokenizer
    assert tokenizer.get_vocab() == esm2.get_vocab() == TOKEN_TO_ID
    sequences = sample_proteins()
    assert len(sequences) == 2300
    found = tokenizer(sequences).input_ids
    assert found == esm2(sequences).input_ids
    for ids, sequence in zip(found, sequences, strict=True):
        assert ids == [CLS_ID, *encode(sequence).tolist(), EOS_ID]


@pytest.mark.realdata
def test_equals_esm2_and_the_data_module_on_every_real_protein_with_a_special_letter(
    tokenizer, esm2, real_data
):
    special = set()
    with lzma.open(real_data / "proteins" / "train.fasta.xz", "rt") as file:
        for line in file:
            residues = line.strip()
            if line[0] != ">" and set(residues) & set("BZUXO"):
                ids = tokenizer(residues).input_ids
                assert ids == [CLS_ID, *encode(residues).tolist(), EOS_ID]
                assert ids == esm2(residues).input_ids
                special |= set(residues) & set("BZUXO")
    assert special >= set("XUB")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("BZUXO", list("BZUXO")),
        ("A.-A", list("A.-A")),
        ("<cls><pad><eos><unk>", ["<cls>", "<pad>", "<eos>", "<unk>"]),
        ("L<mask>G", ["L", "<mask>", "G"]),
        ("<mask><mask>", ["<mask>", "<mask>"]),
        ("<null_1>", ["<null_1>"]),
        ("M K T", list("MKT")),
        ("MKT\nAA", list("MKTAA")),
        ("", []),
        ("MJK*", ["M", "<unk>", "K", "<unk>"]),
        ("MjjK", ["M", "<unk>", "K"]),  # a run of unknown letters is one token, as in ESM-2
        ("mkt", ["<unk>"]),
    ],
)
def test_special_cases(tokenizer, esm2, text, tokens):
    ids = tokenizer(text).input_ids
    assert [TOKENS[i] for i in ids[1:-1]] == tokens
    assert ids == esm2(text).input_ids
    for skip in (False, True):
        assert tokenizer.decode(ids, skip_special_tokens=skip) == esm2.decode(
            ids, skip_special_tokens=skip
        )


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_padded_truncated_and_marked(tokenizer, side):
    tokenizer.padding_side = side
    found = tokenizer(["MKTAY", "LA"], padding=True, return_tensors="pt")
    short, pad = [CLS_ID, *encode("LA").tolist(), EOS_ID], [PAD_ID] * 3
    assert found.input_ids.dtype.is_signed and found.input_ids.shape == (2, 7)
    assert found.input_ids[1].tolist() == (short + pad if side == "right" else pad + short)
    assert found.attention_mask.tolist()[1] == (found.input_ids[1] != PAD_ID).int().tolist()
    cut = tokenizer("MKTAY", truncation=True, max_length=4).input_ids
    assert cut == [CLS_ID, *encode("MK").tolist(), EOS_ID]


def test_specials_decoding_and_saving(tokenizer, tmp_path):
    ids = tokenizer("MK<mask>T", return_special_tokens_mask=True)
    assert ids["special_tokens_mask"] == [1, 0, 0, 0, 0, 1]
    assert (tokenizer.cls_token_id, tokenizer.eos_token_id) == (CLS_ID, EOS_ID)
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (PAD_ID, MASK_ID)
    assert tokenizer.decode(ids.input_ids, skip_special_tokens=True).replace(" ", "") == "MKT"
    tokenizer.add_tokens(["<edge>"])
    tokenizer.save_pretrained(tmp_path / "more")
    again = AutoTokenizer.from_pretrained(tmp_path / "more")
    assert again("MK<edge>T").input_ids == [
        CLS_ID,
        *encode("MK").tolist(),
        33,
        *encode("T").tolist(),
        EOS_ID,
    ]
