"""Any causal language model, from a Hugging Face folder or a GGUF file: `load_llm`."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lcframework.errors import CheckpointError, ConfigError
from lcframework.models.llm.folder import check_folder
from lcframework.models.llm.gguf_file import (
    check_gguf,
    forget_quantization,
    mend_tokenizer,
    one_reading,
)
from lcframework.models.llm.packaged import PACKAGED
from lcframework.models.llm.store import path_of, resolve_model

log = logging.getLogger(__name__)

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float16": torch.float16, "fp16": torch.float16,
}  # fmt: skip
SQUEEZED = "squeezed"


def load_llm(
    path: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    attn_implementation: str | None = None,
) -> tuple[PreTrainedModel, Any]:
    """Load a causal language model and its tokenizer, for inference.

    Nothing is downloaded, no code of the model's folder is run, pickled weights are refused, and a
    weight that the files do not hold is an error, never a random number. A GGUF file brings its own
    tokenizer and chat template; its weights are unpacked to `dtype`.

    Args:
        path: a folder (config.json, *.safetensors, tokenizer), a .gguf file, or a name from
            `lcf models list` that was fetched.
        dtype: "auto" (a folder's own; for GGUF bfloat16 on a GPU and float32 elsewhere), "float32",
            "bfloat16", "float16" or a torch.dtype.
        device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1" and so on.
        attn_implementation: for transformers, such as "sdpa" or "squeezed"; None: its choice.

    Returns:
        The model in evaluation mode on its device, and the tokenizer.

    Raises:
        CheckpointError: no such path or not fetched, no model folder, damaged, pickled or missing
            weights, no tokenizer.
        ConfigError: an unknown dtype, device or architecture; an encoder-decoder or encoder; with
            "squeezed" also a model without rotary positions; not enough memory.
    """
    where = resolve_model(path)
    _refuse_encoder_name(path, where)
    place = find_device(device)
    if where.is_dir():
        check_folder(where)
        source: dict[str, Any] = {"pretrained_model_name_or_path": str(where)}
        model, tokenizer = _load(source, where, _dtype(dtype, "auto"), place, attn_implementation)
    else:
        header = check_gguf(where)
        source = {"pretrained_model_name_or_path": str(where.parent), "gguf_file": where.name}
        default = torch.bfloat16 if place.type == "cuda" else torch.float32
        with one_reading():
            model, tokenizer = _load(
                source, where, _dtype(dtype, default), place, attn_implementation
            )
        mend_tokenizer(tokenizer, header)
        forget_quantization(model)
    # What a context's file names as its model; a packaged name is the same on every machine.
    model.name_or_path = str(path) if where == _packaged(path) else str(where.resolve())
    return model, tokenizer


def _refuse_encoder_name(name: str | Path, where: Path) -> None:
    packaged = PACKAGED.get(str(name))
    if packaged is not None and not packaged.generates and not Path(name).exists():
        fits = ", ".join(one.name for one in PACKAGED.values() if one.generates)
        raise ConfigError(
            f"{packaged.name} ({where}) is a sentence encoder and generates no text; of the "
            f"packaged models {fits} do."
        )


def _packaged(name: str | Path) -> Path | None:
    """Where the packaged model of this name lies; None for any other path."""
    known = PACKAGED.get(str(name))
    return path_of(known) if known is not None and not Path(name).exists() else None


def find_device(device: str | torch.device) -> torch.device:
    """The device meant, checked.

    Raises:
        ConfigError: no such device here.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"The device {device!s} cannot be used here ({str(error).splitlines()[0]}). Choose "
            "auto, cpu, cuda or cuda:N; `lcf doctor` says what this machine has."
        ) from error
    return found


def _dtype(dtype: str | torch.dtype, default: Any) -> Any:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return default
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r} is unknown: choose one of auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def _load(
    source: dict[str, Any], where: Path, dtype: Any, device: torch.device, attention: str | None
) -> tuple[PreTrainedModel, Any]:
    common = {**source, "local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(**common)
        if attention == SQUEEZED:
            _check_squeezable(config)
        tokenizer = AutoTokenizer.from_pretrained(**common)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **common, config=config, dtype=dtype, device_map={"": device}, use_safetensors=True,
            attn_implementation=attention, output_loading_info=True,
        )  # fmt: skip
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"{where} does not fit into the memory of {device}. Load it in bfloat16, on another "
            "device, or take a smaller model."
        ) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise CheckpointError(f"{where} cannot be loaded by transformers: {first[0]}") from error
    model, info = loaded
    _check_complete(where, info)
    return model.eval(), tokenizer


def _check_squeezable(config: Any) -> None:
    """Refuse, before gigabytes are read, a model that squeezed attention does not know."""
    from lcframework.models.squeezed.checks import check_model

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            skeleton = AutoModelForCausalLM.from_config(config, attn_implementation=SQUEEZED)
        except KeyError as error:
            if error.args != (SQUEEZED,):
                raise
            raise ConfigError(
                f"transformers does not let the attention of {config.model_type} be chosen, so "
                "squeezed attention cannot be used with it. Take another architecture."
            ) from error
    check_model(skeleton.eval())


def _check_complete(where: Path, info: dict[str, Any]) -> None:
    """Every weight came from the files: transformers would fill a missing one with noise."""
    missing = sorted(info.get("missing_keys") or ())
    mismatched = sorted(str(one) for one in info.get("mismatched_keys") or ())
    if missing or mismatched:
        names = [*missing, *mismatched]
        raise CheckpointError(
            f"{where} lacks {len(names)} weights of its own architecture or has them in another "
            f"shape, such as {names[0]}; they would be random numbers. The files are those of "
            "another model, or of a part of one."
        )
