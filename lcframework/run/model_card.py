"""The README.md of an exported model: how to load it, what it is, what was measured."""

from pathlib import Path
from typing import Any

from lcframework import __version__
from lcframework.models.lcplm.model import LCPLM

FRONT_MATTER = """---
library_name: transformers
pipeline_tag: fill-mask
{licence}tags: [protein, masked-lm, mamba, lcplm]
---
"""
USE = """\
## Use
`pip install lcframework`, then plain transformers code and one import that registers the
architecture:
```python
import lcframework.models.lcplm.huggingface
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

folder = "."  # where this file lies, or the name of the repository
model = AutoModelForMaskedLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
pipeline("fill-mask", model=model, tokenizer=tokenizer)("MKT<mask>YIAKQR")
```
Instead of the import, `trust_remote_code=True` may be given to each `from_pretrained`; the one file
of code here, `modeling_lcplm.py`, imports lcframework and nothing else.

LoRA by PEFT: `LoraConfig(target_modules=["in_proj", "out_proj"])`. Give `attention_mask` with
padded batches: padding then has no influence.
"""
TOKENS_NOTE = """\
Logits are of the {vocab_size} tokens. Embedding and head have {pad_vocab_to} rows; the rest is
unused: tokens added to the tokenizer can stand in the input without `resize_token_embeddings`, and
are predicted after `resize_token_embeddings(len(tokenizer))`. The tokenizer is transformers'
`EsmTokenizer`: write residues in upper case. A run of letters it does not know (`J`, `*`, lower
case) becomes one `<unk>`, which shifts the positions behind it.
"""
TEMPLATE = """\
# LC-PLM protein language model

A bidirectional Mamba masked language model of proteins (LC-PLM, arXiv 2411.08909), trained and
exported by lcframework {version} from `{source}`. It is not the published checkpoint.

{use}
## What it is
| | |
|---|---|
| parameters | {parameters:,} ({block_parameters:,} in blocks) |
| width, blocks, states | {d_model}, {n_layers}, {d_state} |
| vocabulary | ESM-2's 33 tokens; embedding and head are not tied |
| longest input | no limit but memory, which grows in proportion to the tokens |

{tokens}
## What it was trained on
{trained}

## What was measured
{measured}

## Limits
Trained to predict masked residues, nothing else; it shares the biases of its training data. No
licence of the weights is stated here, whoever publishes them has to.
"""
IMPORTED = """\
# LC-PLM, imported

The weights of the checkpoint `{source}` in the published layout of LC-PLM (arXiv 2411.08909),
{parameters:,} parameters, rewritten by lcframework {version} for the one-projection form, which
computes the same function. The published weights are licensed CC-BY-NC-4.0 by their authors; that
licence goes with this folder.

{use}
{tokens}
Unlike the published code this model honours `attention_mask`.
"""


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else ""


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


def _trained(results: dict[str, Any] | None) -> str:
    data = (results or {}).get("data", {}).get("train")
    if data is None:
        return "Not recorded with these weights; the run's `config.yaml` names the files."
    names = ", ".join(f"`{Path(one).name}`" for one in data["path"])
    return (
        f"{data['n']:,} proteins, {data['residues']:,} residues: {names} "
        f"(fingerprint `{data['fingerprint'][:16]}`)."
    )


def _shared_parts(network: LCPLM) -> dict[str, Any]:
    rows = {key: network.hparams[key] for key in ("vocab_size", "pad_vocab_to")}
    return {
        "version": __version__,
        "parameters": network.num_parameters(),
        "use": USE,
        "tokens": TOKENS_NOTE.format(**rows),
    }


def model_card(network: LCPLM, source: str, results: dict[str, Any] | None) -> str:
    """Text of the model card of a run.

    Args:
        network: the exported network.
        source: name of the checkpoint file.
        results: content of the `results.json` of these weights; None if there is none.

    Returns:
        Markdown with the hub's front matter.
    """
    sizes = {key: network.hparams[key] for key in ("d_model", "n_layers", "d_state")}
    return FRONT_MATTER.format(licence="") + TEMPLATE.format(
        source=source,
        block_parameters=network.num_parameters("blocks"),
        trained=_trained(results),
        measured=_measured(results),
        **sizes,
        **_shared_parts(network),
    )


def import_card(network: LCPLM, source: str) -> str:
    """Text of the model card of an imported checkpoint; arguments as `model_card`."""
    front = FRONT_MATTER.format(licence="license: cc-by-nc-4.0\n")
    return front + IMPORTED.format(source=source, **_shared_parts(network))
