"""Adapters of a language model by PEFT, the mask token, and both from and to disk."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from lcframework.errors import CheckpointError, ConfigError
from lcframework.models.llm.identity import model_fingerprint, tokenizer_fingerprint
from lcframework.models.llm.load import load_llm

MASK = "<mask>"
FOCUS = "<focus>"
"""The token that `pooling=special_token` puts behind a prompt, where none is named."""
ABOUT = "focused.json"


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (Hu et al., arXiv 2106.09685).

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: on the adapters' input, in training.
        targets: names of the linear layers; LongLoRA's four by default.
    """

    r: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj")

    def __post_init__(self) -> None:
        if self.r < 1 or not 0 <= self.dropout < 1 or not self.targets:
            raise ValueError(
                f"LoRA needs r of 1 or more, dropout in [0, 1) and a target: {self.r}, "
                f"{self.dropout}, {self.targets}"
            )

    def attach(self, model: Any, rows: Sequence[int] = ()) -> PeftModel:
        """Freeze the model and add adapters to it.

        Args:
            model: a causal language model; changed in place.
            rows: ids of tokens whose embeddings are trained and saved too.

        Raises:
            ConfigError: no layer has one of the names.
        """
        config = LoraConfig(
            r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, bias="none",  # type: ignore[arg-type]
            target_modules=list(self.targets), task_type="CAUSAL_LM",
            trainable_token_indices=list(rows) or None,
        )  # fmt: skip
        try:
            return get_peft_model(model, config)  # type: ignore[return-value]
        except ValueError as error:
            raise ConfigError(f"task.lora.targets={list(self.targets)}: {error}") from error


def ensure_mask_token(model: Any, tokenizer: Any, token: str | None = None) -> tuple[int, bool]:
    """The id of the token that stands for dropped ones.

    Args:
        model: gets one more row where the token is new, the mean of the others.
        tokenizer: gets the token where it is new.
        token: an existing token such as "<unk>"; None: the tokenizer's own mask token, or else a
            new "<mask>".

    Returns:
        The id, and whether it is new.

    Raises:
        ConfigError: the named token is not in the vocabulary.
    """
    named = token or tokenizer.mask_token
    if named is not None:
        found = tokenizer.convert_tokens_to_ids(named)
        if found is None or tokenizer.convert_ids_to_tokens(found) != named:
            raise ConfigError(
                f"task.mask_token={named!r} is no token of this model; leave it out to add {MASK}."
            )
        return found, False
    return _added(model, tokenizer, "mask_token", MASK), True


def ensure_end_token(model: Any, tokenizer: Any, token: str | None = None) -> tuple[int, bool]:
    """The id of the token that stands behind every prompt; arguments and result as of
    `ensure_mask_token`.

    Args:
        model: gets one more row where the token is new, the mean of the others.
        tokenizer: gets the token where it is new.
        token: an existing token; None, or "<focus>": a new "<focus>".

    Raises:
        ConfigError: the named token is not in the vocabulary.
    """
    named = token or FOCUS
    found = tokenizer.convert_tokens_to_ids(named)
    if found is not None and tokenizer.convert_ids_to_tokens(found) == named:
        return found, False
    if named != FOCUS:
        raise ConfigError(
            f"task.end_token={named!r} is no token of this model; leave it out to add {FOCUS}."
        )
    return _added(model, tokenizer, None, FOCUS), True


def _added(model: Any, tokenizer: Any, role: str | None, token: str) -> int:
    """The id of a token that the tokenizer gets, its row the mean of the others."""
    if role is None:
        tokenizer.add_tokens([token], special_tokens=True)
    else:
        tokenizer.add_special_tokens({role: token})
    new = tokenizer.convert_tokens_to_ids(token)
    if new >= len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(new + 1, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[new] = layer.weight[:new].float().mean(0).to(layer.weight.dtype)
    return new


def save_adapter(
    folder: Path, adapted: PeftModel, tokenizer: Any, base: dict[str, Any], new_token: bool,
    end_token: str | None = None,
) -> None:  # fmt: skip
    """Write adapter, tokenizer and which model they belong to; PEFT alone can load the adapter.

    Args:
        folder: replaced if it is there.
        adapted: the model with adapters.
        tokenizer: of training, the mask token included.
        base: `name`, `fingerprint` and `tokenizer` (its fingerprint) of the model before training.
        new_token: whether the mask token was added to the base model's vocabulary.
        end_token: the token that stands behind every prompt; None: there is none.
    """

    def write(temporary: Path) -> None:
        adapted.save_pretrained(str(temporary), save_embedding_layers=False)
        tokenizer.save_pretrained(str(temporary))
        about = {"base": base, "new_token": new_token, "end_token": end_token}
        (temporary / ABOUT).write_text(json.dumps(about, indent=2) + "\n")

    _replace_folder(folder, write)


def _replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write under a temporary name, then rename; the folder of an earlier end of the same run goes
    when the new one stands."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.tmp-") as name:
        fresh, old = Path(name) / "fresh", Path(name) / "old"
        fresh.mkdir()
        write(fresh)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)


def load_adapted(
    path: str | Path, adapter: str | Path | None = None, **options: Any
) -> tuple[Any, Any]:
    """A language model with the adapters of a Focused Learning run merged into its weights.

    Args:
        path: the base model; see `load_llm`.
        adapter: folder that a run wrote (`RUN/adapter`), or the run's; None: the base model.
        **options: of `load_llm`.

    Returns:
        Model and tokenizer, to be used like any other.

    Raises:
        CheckpointError: no adapter there, or one of another base model.
    """
    model, tokenizer = load_llm(path, **options)
    if adapter is None:
        return model, tokenizer
    folder = Path(adapter)
    folder = folder / "adapter" if (folder / "adapter").is_dir() else folder
    if not (folder / ABOUT).is_file():
        raise CheckpointError(
            f"{folder} holds no adapter of a Focused Learning run ({ABOUT} is missing): name the "
            "run's directory."
        )
    about = json.loads((folder / ABOUT).read_text())
    found = base_identity(model, tokenizer)
    differing = [
        name for name in ("fingerprint", "tokenizer") if found[name] != about["base"][name]
    ]
    if differing and options.get("dtype", "auto") == "auto":
        raise CheckpointError(
            f"{folder} was trained on {about['base']['name']}, and {path} is another model (its "
            f"{differing[0]} differs): give the model it was trained on."
        )
    if about["new_token"]:
        ensure_mask_token(model, tokenizer)
    if about.get("end_token"):
        ensure_end_token(model, tokenizer, about["end_token"])
        # What `FocusedGeneration` puts behind prompts, if nobody says otherwise.
        model.config.focused_end_token = about["end_token"]
    merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()  # type: ignore[operator]
    return merged.eval(), tokenizer


def base_identity(model: Any, tokenizer: Any) -> dict[str, str]:
    """Name and fingerprints of a model before anything is added to it."""
    return {
        "name": str(model.name_or_path),
        "fingerprint": model_fingerprint(model),
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }
