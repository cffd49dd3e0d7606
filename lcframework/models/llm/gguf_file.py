"""Loading a GGUF file through transformers, which unpacks its weights.

transformers reads most of a file rightly. What it would get wrong without a word is refused
(scaled rotary positions) or mended (the pre-tokenizer of SmolLM's vocabulary, the end token) here.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lcframework.errors import ConfigError
from lcframework.models.llm.gguf_header import GGUFHeader, read_gguf_header

NEEDED = ("gguf", "accelerate")
DIGIT_VOCABULARIES = (
    "smollm",
    "starcoder",
    "refact",
    "command-r",
    "codeshell",
    "exaone",
    "minerva-7b",
)
"""`tokenizer.ggml.pre` of vocabularies learned with every digit on its own (llama.cpp,
src/llama-vocab.cpp); transformers splits text for them as for GPT-2, "\\n\\n5" then differs."""
SPECIAL = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token"}
SCALED_BY_TRANSFORMERS = ("gpt-oss",)


def check_gguf(path: Path) -> GGUFHeader:
    """Read a file's header and refuse what cannot be loaded rightly.

    Raises:
        CheckpointError: damaged, or no GGUF file.
        ConfigError: packages are missing, an architecture transformers does not unpack, or rotary
            positions with a scaling that transformers does not read from GGUF.
    """
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(
            f"A GGUF file needs the packages {' and '.join(lacking)}: pip install "
            f"{' '.join(lacking)}"
        )
    header = read_gguf_header(path)
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}
    plain = {one.replace("_", "").replace("-", "") for one in known}
    if header.architecture.replace("_", "").replace("-", "") not in plain:
        raise ConfigError(
            f"{path} holds a model of the architecture {header.architecture!r}, which transformers "
            f"cannot load from GGUF; it can {', '.join(sorted(known))}. Take the model as a "
            "Hugging Face folder."
        )
    _check_rope(path, header)
    return header


def _check_rope(path: Path, header: GGUFHeader) -> None:
    scaling = header.values.get(f"{header.architecture}.rope.scaling.type", "none")
    factors = sorted(one for one in header.tensors if one.startswith("rope_f"))
    if header.architecture in SCALED_BY_TRANSFORMERS or (scaling == "none" and not factors):
        return
    what = f"the scaling {scaling!r}" if scaling != "none" else f"factors ({', '.join(factors)})"
    raise ConfigError(
        f"{path} has rotary positions with {what}, which transformers leaves out when it loads "
        "GGUF: beyond its original length the model would be wrong. Take the model as a Hugging "
        "Face folder."
    )


def mend_tokenizer(tokenizer: Any, header: GGUFHeader) -> None:
    """Split text as the vocabulary was learned, and name the special tokens that the file names,
    where transformers does not (5.17 takes the first token of a chat for its end)."""
    for name, attribute in SPECIAL.items():
        number = header.values.get(f"tokenizer.ggml.{name}_token_id")
        token = None if number is None else tokenizer.convert_ids_to_tokens(number)
        if token is not None and getattr(tokenizer, attribute) != token:
            setattr(tokenizer, attribute, token)
    if header.values.get("tokenizer.ggml.pre") in DIGIT_VOCABULARIES:
        from tokenizers import pre_tokenizers

        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def forget_quantization(model: Any) -> None:
    """Let save_pretrained and peft know that the weights have been unpacked."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or getattr(quantizer, "packed_modules", None):
        return  # newer transformers can leave some architectures packed
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


@contextmanager
def one_reading() -> Iterator[None]:
    """Inside, a GGUF file's metadata are parsed once.

    transformers parses them for the configuration, the tokenizer and the weights each, which for a
    vocabulary of 262,144 takes three times six seconds.
    """
    import gguf

    original = gguf.GGUFReader
    readers: dict[Any, Any] = {}

    def remembered(path: Any, *args: Any, **kwargs: Any) -> Any:
        key = (str(path), args, tuple(sorted(kwargs.items())))
        if key not in readers:
            readers[key] = original(path, *args, **kwargs)
        return readers[key]

    gguf.GGUFReader = remembered  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        gguf.GGUFReader = original  # type: ignore[misc]
