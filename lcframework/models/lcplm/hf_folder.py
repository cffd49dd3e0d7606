"""Writing a network as a Hugging Face folder: weights, configuration, tokenizer, model card; whole
or not at all."""

import os
import shutil
import tempfile
from pathlib import Path

from lcframework.errors import CheckpointError
from lcframework.models.lcplm.model import LCPLM

CARD = """---
library_name: transformers
pipeline_tag: fill-mask
tags: [biology, protein, mamba]
---
# LC-PLM, {millions:.2f}M parameters

A bidirectional Mamba protein language model (arXiv 2411.08909): width {d_model}, {n_layers} blocks,
written by lcframework {version} from {origin}.

```python
import lcframework.models.lcplm.huggingface  # registers the classes
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```

Input: protein sequences, ESM-2's 33 tokens. Padding has no influence on the logits. Embedding and
head have {rows} rows; rows beyond the 33 tokens are untrained.
{results}
"""


def refuse_existing(folder: Path) -> None:
    """Stop before anything is overwritten.

    Raises:
        CheckpointError: `folder` is a file or holds something.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CheckpointError(
            f"{folder} exists already and is not overwritten. Choose another --to, or remove it."
        )


def write_folder(network: LCPLM, folder: Path, origin: str, results: str = "") -> None:
    """Write `network` so that `from_pretrained(folder)` gives the same logits.

    Args:
        network: what is written.
        folder: must not exist or be empty; appears when everything is in it.
        origin: where the weights come from, for the model card.
        results: lines on measured quality for the model card.

    Raises:
        CheckpointError: `folder` holds something.
    """
    from lcframework import __version__
    from lcframework.models.lcplm.huggingface import LCPLMForMaskedLM
    from lcframework.models.lcplm.tokenizer import lcplm_tokenizer

    refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model = LCPLMForMaskedLM.from_network(network)
        model.save_pretrained(temporary)
        lcplm_tokenizer().save_pretrained(temporary)
        sizes = network.hparams
        card = CARD.format(
            millions=network.num_parameters() / 1e6,
            d_model=sizes["d_model"],
            n_layers=sizes["n_layers"],
            rows=sizes["pad_vocab_to"],
            version=__version__,
            origin=origin,
            results=results,
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
        temporary.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
