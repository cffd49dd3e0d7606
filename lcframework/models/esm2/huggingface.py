"""A Hugging Face folder of ESM-2 (`EsmForMaskedLM`) as our packed network.

Published ESM-2 checkpoints use `token_dropout`: masked residues enter as zeros, and all embeddings
of a protein are scaled by (1 - 0.15 * 0.8) / (1 - its share of masks). transformers would take that
share over a whole pack; the packed network takes it per protein, so that each gets the logits it
would get alone.
"""

import json
from pathlib import Path
from typing import Any

from transformers import EsmForMaskedLM

from lcframework.data.alphabet import MASK_ID, PAD_ID, TOKENS, VOCAB_SIZE
from lcframework.errors import CheckpointError
from lcframework.models.esm2.model import ESM2
from lcframework.models.lcplm.hf_checks import explain_damage

CONTACT_HEAD = "esm.contact_head."
# What the packed network is built with, so that no folder is read as something that it is not.
NEEDED = {
    "vocab_size": VOCAB_SIZE,
    "mask_token_id": MASK_ID,
    "pad_token_id": PAD_ID,
    "position_embedding_type": "rotary",
    "emb_layer_norm_before": False,
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
ABSENT = {"emb_layer_norm_before": False, "tie_word_embeddings": True}
"""What transformers takes where config.json says nothing, or null."""


def load_esm2(folder: Path) -> ESM2:
    """The network of a folder that `EsmForMaskedLM.save_pretrained` or the ESM-2 authors wrote.

    Args:
        folder: with `config.json`, weights and perhaps `vocab.txt`.

    Raises:
        CheckpointError: the folder holds another kind of ESM (absolute positions, another
            alphabet), an encoder without its head, or damaged weights.
    """
    config = json.loads((folder / "config.json").read_text())
    _check_config(folder, config)
    try:
        with explain_damage(folder):
            loaded: Any = EsmForMaskedLM.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: its weights cannot be loaded ({str(error).splitlines()[0]}). Copy the "
            "folder again, with model.safetensors beside config.json."
        ) from error
    model, about = loaded
    # Old versions of transformers saved no contact head, and the task of a masked LM needs none.
    missing = sorted(key for key in about["missing_keys"] if not key.startswith(CONTACT_HEAD))
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights of a masked language model, the first is "
            f"{missing[0]}; they would be random. Name the folder of EsmForMaskedLM."
        )
    network = ESM2(
        d_model=config["hidden_size"],
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        ffn_ratio=config["intermediate_size"] // config["hidden_size"],
        token_dropout=bool(config.get("token_dropout", False)),
    )
    network.network.load_state_dict(
        {
            key: value
            for key, value in model.state_dict().items()
            if not key.startswith(CONTACT_HEAD)
        }
    )
    return network.eval()


def _check_config(folder: Path, config: dict[str, Any]) -> None:
    wrong = [
        f"{key} is {config.get(key)!r} instead of {value!r}"
        for key, value in NEEDED.items()
        if (ABSENT.get(key) if config.get(key) is None else config[key]) != value
    ]
    if config.get("intermediate_size", 0) % config.get("hidden_size", 1):
        wrong.append("intermediate_size is no multiple of hidden_size")
    if config.get("is_folding_model"):
        wrong.append("it is a folding model")
    vocabulary = folder / "vocab.txt"
    if vocabulary.is_file() and tuple(vocabulary.read_text().split()) != TOKENS:
        wrong.append("vocab.txt is not ESM-2's alphabet")
    if wrong:
        raise CheckpointError(
            f"{folder} holds an ESM model other than ESM-2 ({'; '.join(wrong)}), which cannot be "
            "run packed here. ESM-2 folders (facebook/esm2_t6_8M_UR50D and its larger sizes) can."
        )
