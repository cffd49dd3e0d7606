"""`lcf import-lcplm`: the published LC-PLM checkpoint as a Hugging Face folder."""

import argparse
from pathlib import Path
from typing import Any

CARD = """---
library_name: transformers
pipeline_tag: fill-mask
license: cc-by-nc-4.0
tags: [protein, masked-lm, mamba, lcplm]
---
# LC-PLM, imported

The weights of the checkpoint `{source}` in the published layout of LC-PLM (arXiv 2411.08909),
{count:,} parameters, rewritten by lcframework for the one-projection form; the function is the
same. The published weights are licensed CC-BY-NC-4.0 by their authors; that licence goes with this
folder.

```python
import lcframework.models.lcplm.huggingface  # registers the classes
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```

Unlike the published code this model honours `attention_mask`: padding changes nothing.
"""


def register(commands: Any) -> None:
    """Add `lcf import-lcplm` to the subcommands."""
    parser = commands.add_parser(
        "import-lcplm", help="turn the published LC-PLM checkpoint into a Hugging Face folder"
    )
    parser.add_argument(
        "checkpoint", help="folder with config.json and weights, or one .safetensors or .bin file"
    )
    parser.add_argument("--to", required=True, help="folder to write; must not exist or be empty")
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from lcframework.models.lcplm.published_files import read_published
    from lcframework.run.export import refuse_occupied, write_folder

    source, target = Path(arguments.checkpoint), Path(arguments.to).expanduser().absolute()
    refuse_occupied(target)  # before gigabytes are read
    network = read_published(source)
    write_folder(network, target, CARD.format(source=source.name, count=network.num_parameters()))
    Console().print(f"Written: {target}, {network.num_parameters():,} parameters")
