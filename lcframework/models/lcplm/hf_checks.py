"""Errors that transformers would leave as a warning, a wrong result or a bare traceback."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from lcframework.data.alphabet import TOKENS
from lcframework.errors import CheckpointError

INDEX_FILE = "model.safetensors.index.json"
VOCABULARY_FILE = "vocab.txt"
HEAD = "lm_head.weight"
OURS = "LC-PLM was given"
CPU_ALLOCATOR = ("DefaultCPUAllocator", "not enough memory")


def refuse_other_model(config: dict[str, Any], where: Any, model_type: str) -> None:
    """Stop at a configuration of another architecture, which would load as random weights.

    Raises:
        CheckpointError: `config["model_type"]` is not `model_type`.
    """
    said = config.get("model_type")
    if said != model_type:
        named = f"the architecture {said!r}" if said else "no architecture (model_type)"
        raise CheckpointError(
            f"{where}: config.json names {named}, not {model_type!r}. Load it with the classes of "
            "its own architecture (AutoModelForMaskedLM finds them), or name a folder that "
            "`lcf export` or save_pretrained wrote."
        )


def check_folder(where: Any, subfolder: str = "") -> None:
    """Check what a local folder says about its shards and vocabulary; a hub name is left alone.

    Args:
        where: what `from_pretrained` was given.
        subfolder: its argument of that name.

    Raises:
        CheckpointError: a shard of the index is missing, or `vocab.txt` is not the model's
            vocabulary.
    """
    if where is None or not Path(where).is_dir():
        return
    folder = Path(where) / subfolder
    index = folder / INDEX_FILE
    if index.is_file():
        shards = sorted(set(_weight_map(index).values()))
        missing = [name for name in shards if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{folder} is incomplete: {INDEX_FILE} lists {len(shards)} shards, "
                f"{len(missing)} of them missing: {', '.join(missing)}. Copy the missing files "
                "into it or export it again."
            )
    _check_vocabulary(folder)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        return dict(json.loads(index.read_text())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{index} is no index of shards ({error!r}). Copy it again or export the model again."
        ) from error


def refuse_other_keys(about: Mapping[str, Any], where: Any) -> None:
    """Stop if files and encoder do not have the same keys; a head may be new or left over.

    Args:
        about: transformers' loading info, with `missing_keys` and `unexpected_keys`.
        where: what `from_pretrained` was given.

    Raises:
        CheckpointError: names the first of them.
    """
    missing, unknown = (
        sorted(set(about[kind]) - {HEAD}) for kind in ("missing_keys", "unexpected_keys")
    )
    if missing or unknown:
        says = (
            f"lacks {len(missing)} of" if missing else f"holds {len(unknown)} keys that are none of"
        )
        raise CheckpointError(
            f"{where} {says} the model's parameters, the first is {(missing or unknown)[0]}. The "
            "weights are partial or those of another config.json: copy or export them again."
        )


@contextmanager
def explain_damage(where: Any) -> Iterator[None]:
    """Name the folder whose weights cannot be read.

    Raises:
        CheckpointError: instead of safetensors' error.
    """
    try:
        yield
    except SafetensorError as error:
        raise CheckpointError(
            f"The weights in {where} cannot be read ({error}): they are damaged, cut short or a "
            "Git LFS pointer (git lfs pull). Copy or export them again."
        ) from error


def _check_vocabulary(folder: Path) -> None:
    config, vocabulary = folder / "config.json", folder / VOCABULARY_FILE
    if not (config.is_file() and vocabulary.is_file()):
        return
    said = json.loads(config.read_text())
    if said.get("model_type") != "lcplm":
        return  # refused with its own message when the configuration is read
    want = said.get("vocab_list", list(TOKENS))
    have = [line.strip() for line in vocabulary.read_text(encoding="utf-8").splitlines()]
    if have == want:
        return
    place = next(
        (i for i, (a, b) in enumerate(zip(want, have, strict=False)) if a != b),
        min(len(want), len(have)),
    )
    names = [repr(one[place]) if place < len(one) else "nothing" for one in (want, have)]
    raise CheckpointError(
        f"{vocabulary} is not the vocabulary this model was trained with: id {place} is "
        f"{names[0]} in config.json (vocab_list, {len(want)} tokens) and {names[1]} in "
        f"{VOCABULARY_FILE} ({len(have)} tokens). Put the tokenizer files of the export back; "
        "further tokens are added with tokenizer.add_tokens, which leaves that file alone."
    )


def refuse_unpredicted(labels: torch.Tensor, n_tokens: int) -> None:
    """Stop at a label that the head has no logit for; on a GPU it would be an assert in a kernel.

    Args:
        labels: int64, any shape, negative where ignored.
        n_tokens: number of logits.

    Raises:
        ValueError: a label is `n_tokens` or more.
    """
    largest = int(labels.max()) if labels.numel() else -1
    if largest >= n_tokens:
        raise ValueError(
            f"A label is {largest}, but only tokens below {n_tokens} are predicted. For tokens "
            "added to the tokenizer call model.resize_token_embeddings(len(tokenizer)) first."
        )


def estimated_gigabytes(config: Any, tokens: int, training: bool) -> float:
    """Least memory of the activations at 4 bytes a value, in 1e9 bytes.

    Per block and token: residual and norm 2d; in_proj 2E; convolution and step in both directions
    2E + 2E; gated output E. A forward without gradients holds one block's, training all blocks'.
    """
    inner = config.expand * config.d_model
    per_token = 2 * config.d_model + 7 * inner
    blocks = config.n_layers if training else 1
    return 4e-9 * tokens * (blocks * per_token + config.vocab_size)


class _Explainer:
    """Context manager of `explain_memory`."""

    def __init__(self, config: Any, given: torch.Tensor) -> None:
        self.config, self.tokens = config, given.shape[:2].numel()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, RuntimeError) or OURS in (text := str(error)):
            return
        if not (
            isinstance(error, torch.OutOfMemoryError) or any(one in text for one in CPU_ALLOCATOR)
        ):
            return
        backward = torch.is_grad_enabled()
        cure = (
            "call model.gradient_checkpointing_enable() to train, use torch.inference_mode() to "
            "predict, make the batch smaller"
            if backward
            else "make the batch smaller"
        )
        gigabytes = estimated_gigabytes(self.config, self.tokens, backward)
        raise torch.OutOfMemoryError(
            f"{text.splitlines()[0]} {OURS} {self.tokens:,} tokens, whose activations need at "
            f"least about {gigabytes:.3g} GB beside the weights. Cure: {cure}, load with "
            "dtype=torch.bfloat16, or cut the sequence; memory grows in proportion to the tokens."
        ) from error


def explain_memory(config: Any, given: torch.Tensor) -> AbstractContextManager[None]:
    """Re-raise an out-of-memory error of the block with what was asked for and the cure.

    The error keeps its type and its first line, so that batch-size finders still see it. Under
    torch.compile errors pass unchanged.

    Args:
        config: sizes of the model.
        given: (B, L, ...) the batch.

    Raises:
        torch.OutOfMemoryError: with tokens (padding included), an estimate and the cure.
    """
    return nullcontext() if torch.compiler.is_compiling() else _Explainer(config, given)
