"""What a Hugging Face folder holds, looked at before its weights are read."""

import json
from pathlib import Path
from typing import Any

from lcframework.errors import CheckpointError, ConfigError

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
POINTER = b"version https://git-lfs"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        CheckpointError: missing, or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no JSON object.")
    return found


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no causal language model with safetensors weights and a tokenizer.

    Raises:
        CheckpointError: no config.json, no or only pickled weights, a missing shard, Git LFS
            pointers, no tokenizer.
        ConfigError: code of its own, an unknown or encoder-decoder architecture.
    """
    config = folder / "config.json"
    if not config.is_file():
        inside = sorted(folder.glob("*.gguf"))
        hint = f" It holds GGUF files: name one of them, such as {inside[0]}." if inside else ""
        raise CheckpointError(
            f"{folder} is not a model folder: there is no config.json in it. Give the folder that "
            f"save_pretrained wrote, or a .gguf file.{hint}"
        )
    _check_architecture(config, read_json(config))
    _check_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise CheckpointError(
            f"{folder} has no tokenizer: none of {', '.join(TOKENIZERS)} is there. Save it beside "
            "the weights with tokenizer.save_pretrained(FOLDER)."
        )


def _check_architecture(path: Path, config: dict[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    kind = config.get("model_type")
    if config.get("auto_map") and kind not in KNOWN:
        raise ConfigError(
            f"{path} asks for Python code from the model's folder (auto_map), which is never run. "
            "Only architectures that transformers itself knows are loaded."
        )
    if config.get("is_encoder_decoder"):
        raise ConfigError(
            f"{path} describes an encoder-decoder ({kind}); a causal language model (a decoder) is "
            "needed."
        )
    if kind not in KNOWN:
        raise ConfigError(
            f"{path} says model_type {kind!r}, which is no causal language model that transformers "
            "knows. Take another model, or a newer transformers."
        )
    names = config.get("architectures") or []
    if names and not any(_generates(one) for one in names):
        raise ConfigError(
            f"{path} describes {', '.join(names)}, which does not generate text: it has no head "
            "that predicts the next token. Take a model whose architecture ends in ForCausalLM."
        )


def _generates(name: str) -> bool:
    return name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))


def _check_weights(folder: Path) -> None:
    if (folder / INDEX).is_file():
        shards = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
        if not shards or any(Path(str(one)).name != one for one in shards):
            raise CheckpointError(f"{folder / INDEX} names no files, or files outside its folder.")
        missing = [one for one in shards if not (folder / one).is_file()]
        if missing:
            raise CheckpointError(
                f"{folder} lacks {len(missing)} of its {len(shards)} weight files, such as "
                f"{missing[0]}. Fetch the whole model."
            )
        files = [folder / one for one in shards]
    else:
        files = [one for one in (folder / "model.safetensors",) if one.is_file()]
    if not files:
        pickled = sorted(one.name for pattern in PICKLES for one in folder.glob(pattern))
        if pickled:
            raise CheckpointError(
                f"{folder} has its weights only as pickle files ({', '.join(pickled[:3])}), which "
                "can run code when they are opened and are refused. Convert them where you trust "
                "them: model.save_pretrained(FOLDER, safe_serialization=True)."
            )
        raise CheckpointError(f"{folder} holds no weights: neither model.safetensors nor {INDEX}.")
    for path in files:
        _check_file(path)


def _check_file(path: Path) -> None:
    """The file is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(len(POINTER))
        if first == POINTER:
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its folder."
            )
        length = int.from_bytes(first[:8], "little")
        file.seek(8)
        try:
            if length + 8 > size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
            end = max(
                (v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is no safetensors file, or was cut short ({error}). Fetch it again."
            ) from error
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path} has {size:,} bytes where its header asks for {8 + length + end:,}: it was cut "
            "short or damaged. Fetch it again."
        )
