"""A trained run as a folder that plain transformers code loads: weights, configuration, tokenizer,
model card."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import EsmTokenizer

from lcframework.data.alphabet import TOKENS
from lcframework.errors import CheckpointError
from lcframework.models.lcplm.hf_checks import VOCABULARY_FILE
from lcframework.models.lcplm.huggingface import LCPLMForMaskedLM
from lcframework.models.lcplm.model import LCPLM
from lcframework.run.model_card import model_card
from lcframework.run.networks import find_checkpoint, load_network
from lcframework.run.results import FILE_NAME

log = logging.getLogger(__name__)


def refuse_occupied(folder: Path) -> None:
    """Stop before anything is overwritten.

    Raises:
        CheckpointError: `folder` is a file or a folder that holds something.
    """
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise CheckpointError(
            f"--to {folder} exists and is not an empty folder. Nothing was written; name a new "
            "folder or remove that one."
        )


def write_tokenizer(folder: Path) -> None:
    """Write ESM-2's tokenizer: `vocab.txt` and transformers' own `EsmTokenizer` around it."""
    vocabulary = folder / VOCABULARY_FILE
    vocabulary.write_text("\n".join(TOKENS), encoding="utf-8")
    EsmTokenizer(str(vocabulary)).save_pretrained(folder)


def write_folder(network: LCPLM, to: Path, card: str) -> None:
    """Write an export under a temporary name beside `to` and rename it.

    Args:
        network: what to export, on any device.
        to: the new folder; parents are made.
        card: content of README.md.

    Raises:
        CheckpointError: `to` holds something already.
    """
    refuse_occupied(to)
    temporary = to.with_name(f".{to.name}.tmp-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        LCPLMForMaskedLM.from_network(network).save_pretrained(temporary)
        for weights in temporary.glob("*.safetensors"):  # written for their owner's eyes alone
            shutil.copymode(temporary / "config.json", weights)
        write_tokenizer(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        refuse_occupied(to)  # another process may have written it meanwhile
        if to.exists():
            to.rmdir()
        os.replace(temporary, to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _results_of(checkpoint: Path) -> dict[str, Any] | None:
    """The run's `results.json`, if its test ran on the weights of this very step."""
    path = checkpoint.parent.parent / FILE_NAME
    if not path.is_file() or not checkpoint.stem.isdigit():
        return None
    record = json.loads(path.read_text())
    return record if record["run"].get("steps") == int(checkpoint.stem) else None


def export(run: str, to: Path) -> Path:
    """`lcf export`.

    Args:
        run: run directory (its newest valid checkpoint) or checkpoint file.
        to: folder to write.

    Returns:
        `to`, absolute.

    Raises:
        CheckpointError: no usable checkpoint, a network other than LC-PLM, or `to` holds something.
    """
    to = to.expanduser().absolute()
    refuse_occupied(to)
    checkpoint = find_checkpoint(run)
    network = load_network(checkpoint)
    if not isinstance(network, LCPLM):
        raise CheckpointError(
            f"{checkpoint} holds an {getattr(network, 'architecture', '?')} network; `lcf export` "
            "writes LC-PLM only. An esm2 network is transformers' EsmForMaskedLM already: "
            "lcframework.run.networks.load_network(path).network.save_pretrained(folder) saves it."
        )
    write_folder(network, to, model_card(network, checkpoint.name, _results_of(checkpoint)))
    log.info("Exported %s to %s", checkpoint, to)
    return to
