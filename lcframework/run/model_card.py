"""The README.md of an exported model: how to load it, what it is, what was measured."""

from typing import Any

from lcframework import __version__
from lcframework.models.lcplm.model import LCPLM

TEMPLATE = """---
library_name: transformers
pipeline_tag: fill-mask
tags:
- protein
- masked-lm
- mamba
- lcplm
---
# LC-PLM protein language model

A bidirectional Mamba masked language model of proteins (LC-PLM, arXiv 2411.08909), trained and
exported by lcframework {version} from `{source}`. It is not the published checkpoint.

## Use
`pip install lcframework`, then plain transformers code and one import that registers the
architecture (the folder holds no code, `trust_remote_code` is not needed):
```python
import lcframework.models.lcplm.huggingface  # registers "lcplm" with the Auto classes
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

model = AutoModelForMaskedLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
pipeline("fill-mask", model=model, tokenizer=tokenizer)("MKT<mask>YIAKQR")
```
LoRA by PEFT: `LoraConfig(target_modules=["in_proj", "out_proj"])`.

## What it is
| | |
|---|---|
| parameters | {parameters:,} ({block_parameters:,} in blocks) |
| width, blocks, states | {d_model}, {n_layers}, {d_state} |
| vocabulary | ESM-2's {vocab_size} tokens; embedding and head have {pad_vocab_to} rows, not tied |
| longest input | no limit but memory, which grows in proportion to the tokens |

Give `attention_mask` with padded batches: padding then has no influence. Rows {vocab_size} to
{last_row} of embedding and head belong to no token of the tokenizer and are untrained; tokens added
to it take them, without `resize_token_embeddings`. The tokenizer is transformers' `EsmTokenizer`:
write residues in upper case; `J`, `*` and lower case become `<unk>`.

## What was measured
{measured}

## Limits
Trained to predict masked residues, nothing else. Its training data, hence its biases, are those of
the run above; no licence of the weights is stated here, whoever publishes them has to.
"""


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _measured(results: dict[str, Any] | None) -> str:
    metrics = (results or {}).get("metrics")
    if results is None or not metrics:
        return (
            "No test result is recorded for exactly these weights. "
            "`python -m lcframework.evaluate` measures a run."
        )
    run = results["run"]
    lines = [
        f"Step {run.get('steps')}, {run.get('tokens') or 0:,} training tokens, "
        f"experiment `{run.get('experiment')}`, seed {run.get('seed')}; 95% intervals.",
        "",
        "| metric | value | low | high | n |",
        "|---|---|---|---|---|",
    ]
    for name, found in metrics.items():
        cells = [_number(found.get(key)) for key in ("value", "low", "high")]
        lines.append(f"| {name} | {' | '.join(cells)} | {found.get('n') or ''} |")
    return "\n".join(lines)


def model_card(network: LCPLM, source: str, results: dict[str, Any] | None) -> str:
    """Text of the model card.

    Args:
        network: the exported network.
        source: name of the checkpoint file or of what was imported.
        results: content of the `results.json` of these weights; None if there is none.

    Returns:
        Markdown with the hub's front matter.
    """
    return TEMPLATE.format(
        version=__version__,
        source=source,
        parameters=network.num_parameters(),
        block_parameters=network.num_parameters("blocks"),
        measured=_measured(results),
        last_row=network.hparams["pad_vocab_to"] - 1,
        **{key: network.hparams[key] for key in ("d_model", "n_layers", "d_state")},
        **{key: network.hparams[key] for key in ("vocab_size", "pad_vocab_to")},
    )
