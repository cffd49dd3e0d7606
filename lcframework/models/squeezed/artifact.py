"""A context as one file: safetensors, versioned, with a checksum, bound to its model and tokenizer.

Layout: tensors `ids`, then for layer n either `n.sliding_keys`, `n.sliding_values`, or `n.keys`,
`n.values`, `n.exact_keys`, `n.exact_values`, `n.positions`, `n.value_centroids` (if built with
them), and for each of its levels l `n.l.centroids`, `.offsets`, `.children`, `.parents` (but on the
top), `.scores`. The header holds everything else as JSON, and the checksum of all of it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from lcframework.errors import CheckpointError, DataError
from lcframework.files import DISK_FULL, replace_file
from lcframework.models.llm.prompts import PromptParts
from lcframework.models.llm.store import resolve_model
from lcframework.models.squeezed.build import LayerContext
from lcframework.models.squeezed.calibration import Sketch
from lcframework.models.squeezed.checks import check_model, model_fingerprint, tokenizer_fingerprint
from lcframework.models.squeezed.hierarchy import ClusterPlan
from lcframework.ops.squeezed_attention import FixedKV, Level

if TYPE_CHECKING:
    from lcframework.models.squeezed.context import SqueezedContext

KEY = "lcframework_squeezed_context"
"""The only key of the safetensors metadata, whose order in the file is random."""
VERSION = 2
_LEVEL = ("centroids", "offsets", "children", "parents")
_FIXED = ("keys", "values", "exact_keys", "exact_values", "value_centroids")


def save_context(context: "SqueezedContext", path: Path, overwrite: bool = False) -> Path:
    """Write a context, whole or not at all; returns the path.

    Args:
        context: what to write.
        path: the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        DataError: the file exists, its folder cannot be written to, or the disk is full.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(
            f"{path} exists; nothing was written. Name another file, remove that one, or save with "
            "overwrite=True."
        )
    tensors = {"ids": context.ids.cpu()}
    for number, layer in enumerate(context.layers):
        tensors |= {f"{number}.{name}": one for name, one in _layer_tensors(layer)}
    about = {
        "model": model_fingerprint(context.model),
        "model_path": context.model.name_or_path,
        "tokenizer": tokenizer_fingerprint(context.tokenizer),
        "parts": asdict(context.parts),
        "plan": asdict(context.plan),
        "facts": context.facts,
        "levels": [0 if one.fixed is None else len(one.fixed.levels) for one in context.layers],
        "layers": [{"scale": one.scale, "facts": one.facts} for one in context.layers],
    }
    header = json.dumps(about, sort_keys=True)
    outer = {
        "version": VERSION,
        "sha256": _digest(header, tensors.items()),
        "about_sha256": _digest(header, ()),  # without tensors: `read_about` does not read them
        "about": header,
    }
    metadata = {KEY: json.dumps(outer)}
    try:
        replace_file(path, lambda temporary: save_file(tensors, temporary, metadata))
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in DISK_FULL or "No space left" in str(error)
        size = sum(one.nbytes for one in tensors.values()) / 1e9
        raise DataError(
            f"{path} could not be written: {error}. "
            + (f"The file needs {size:.2f} GB. " if full else "")
            + "Nothing was left behind; name a file on another disk."
        ) from error
    return path


def _layer_tensors(layer: LayerContext) -> Iterator[tuple[str, Tensor]]:
    if layer.fixed is None:
        assert layer.sliding is not None
        yield "sliding_keys", layer.sliding[0].cpu().contiguous()
        yield "sliding_values", layer.sliding[1].cpu().contiguous()
        return
    assert layer.sketch is not None and layer.positions is not None
    yield "positions", layer.positions.cpu().contiguous()
    for name in _FIXED:
        tensor = getattr(layer.fixed, name)
        if tensor is not None:
            yield name, tensor.cpu().contiguous()
    for number, level in enumerate(layer.fixed.levels):
        yield f"{number}.scores", layer.sketch.scores[number].cpu().contiguous()
        for name in _LEVEL:
            tensor = getattr(level, name)
            if tensor is not None:
                yield f"{number}.{name}", tensor.cpu().contiguous()


def _digest(header: str, tensors: Any) -> str:
    """sha256 of the header and of every tensor's name, dtype, shape and bytes, in name order."""
    digest = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _open(path: Path) -> tuple[Any, dict[str, Any]]:
    """The safetensors file and what its header holds: `version`, `sha256`, `about`."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. `SqueezedContext.build` makes a context.")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is truncated or is no context file ({error}). Build it again."
        ) from error
    header = (file.metadata() or {}).get(KEY)
    if header is None:
        raise DataError(f"{path} is a safetensors file, but not of a squeezed context.")
    try:
        outer = json.loads(header)
        version = outer["version"]
        wanted = {"version", "sha256", "about_sha256", "about"}
        whole = version != VERSION or (
            outer.keys() == wanted and outer["about_sha256"] == _digest(outer["about"], ())
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        version, whole = VERSION, False
    if not whole:
        raise DataError(f"{path} is damaged: its header is not whole. Build the context again.")
    if version != VERSION:
        raise DataError(
            f"{path} was written in version {version} of the format, and this "
            f"lcframework reads version {VERSION}. Build the context again."
        )
    return file, outer


def read_about(path: str | Path) -> dict[str, Any]:
    """What a context's file says of itself, without a model and without its tensors' contents.

    Returns:
        `tokens`, `bytes`, `layers`, `squeezed_layers`, `heads`, `clusters` per level, `clustered`,
        `model`, `model_path` (where it was loaded from, to find it again), `tokenizer`, `parts`,
        `plan`, `facts`, and per layer `scale` and `facts` in `per_layer`.

    Raises:
        DataError: the file is missing, truncated, of another version or no context.
    """
    path = Path(path)
    opened, outer = _open(path)
    about = json.loads(outer["about"])
    squeezed = [n for n, count in enumerate(about["levels"]) if count]
    first = squeezed[0] if squeezed else 0
    keys = f"{first}.keys" if squeezed else f"{first}.sliding_keys"
    with opened as file:
        try:
            shape = file.get_slice(keys).get_shape()
            tokens = file.get_slice("ids").get_shape()[0]
            clusters = [
                file.get_slice(f"{first}.{n}.centroids").get_shape()[1]
                for n in range(about["levels"][first])
            ]
        except (SafetensorError, IndexError) as error:
            raise DataError(f"{path} is damaged ({error}). Build the context again.") from error
    return {
        "tokens": tokens,
        "bytes": path.stat().st_size,
        "layers": len(about["levels"]),
        "squeezed_layers": squeezed,
        "heads": shape[0],
        "clustered": shape[1] if squeezed else 0,
        "clusters": clusters,
        "per_layer": about["layers"],
        "model_path": about["model_path"],
        **{key: about[key] for key in ("model", "tokenizer", "parts", "plan", "facts")},
    }


def load_context(
    path: Path, model: PreTrainedModel, tokenizer: Any = None, *, verify: bool = True
) -> "SqueezedContext":
    """Read a context onto the model's device.

    Args:
        path: the file.
        model: the model it was built with; attention "squeezed", evaluation mode.
        tokenizer: its tokenizer; None: the one in the model's folder.
        verify: compute the checksum (about a second per GB).

    Raises:
        ConfigError: a model for which the method is not defined.
        DataError: the file is missing, truncated, damaged, of another version, or was built with
            another model, dtype or tokenizer.
    """
    from lcframework.models.squeezed.context import SqueezedContext

    check_model(model)
    opened, outer = _open(path)
    about = json.loads(outer["about"])
    with opened as file:
        _same_model(path, about["model"], model)
        tokenizer = _tokenizer_of(path, model) if tokenizer is None else tokenizer
        if tokenizer_fingerprint(tokenizer) != about["tokenizer"]:
            raise DataError(
                f"{path} was built with another tokenizer, so a question's tokens would not fit "
                "the context's. Load the tokenizer that belongs to the model, or build it again."
            )
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is damaged ({error}). Build the context again.") from error
    if verify and _digest(outer["about"], tensors.items()) != outer["sha256"]:
        raise DataError(f"{path} is damaged: its checksum differs. Build the context again.")
    ids = tensors.pop("ids")
    layers = []
    for number, (levels, more) in enumerate(zip(about["levels"], about["layers"], strict=True)):
        own = {name: tensors.get(f"{number}.{name}") for name in _names(levels)}
        layers.append(_layer(own, levels, more, model.device))
    return SqueezedContext(
        model,
        tokenizer,
        PromptParts(**about["parts"]),
        ids,
        ClusterPlan(**about["plan"]),
        layers,
        about["facts"],
    )


def _same_model(path: Path, built: dict[str, str], model: PreTrainedModel) -> None:
    now = model_fingerprint(model)
    for name, cure in (
        ("architecture", "Load that model"),
        ("dtype", f"Load the model with dtype={built['dtype']}"),
        ("weights", "Load the very model it was built with"),
    ):
        if built[name] != now[name]:
            what = "other weights" if name == "weights" else f"{name} {built[name]}"
            raise DataError(
                f"{path} was built with {what}, and the model given is {now['architecture']} in "
                f"{now['dtype']}. {cure}, or build the context again."
            )


def _tokenizer_of(path: Path, model: PreTrainedModel) -> Any:
    """The tokenizer beside the model's weights, or inside its GGUF file."""
    from transformers import AutoTokenizer

    try:
        where = resolve_model(model.name_or_path or "?")
    except CheckpointError as error:
        raise DataError(
            f"{path}: the model was not loaded from a folder or file, so its tokenizer is not "
            "known. Give it: SqueezedContext.load(path, model, tokenizer)."
        ) from error
    if where.is_dir():
        return AutoTokenizer.from_pretrained(where, local_files_only=True)
    from lcframework.models.llm.gguf_file import check_gguf, mend_tokenizer

    tokenizer = AutoTokenizer.from_pretrained(where.parent, gguf_file=where.name)
    mend_tokenizer(tokenizer, check_gguf(where))
    return tokenizer


def _names(levels: int) -> list[str]:
    if not levels:
        return ["sliding_keys", "sliding_values"]
    parts = [f"{n}.{name}" for n in range(levels) for name in (*_LEVEL, "scores")]
    return ["positions", *_FIXED, *parts]


def _layer(
    own: dict[str, Tensor | None], levels: int, more: dict[str, Any], device: torch.device
) -> LayerContext:
    def put(name: str) -> Any:
        tensor = own[name]
        return None if tensor is None else tensor.to(device)

    if not levels:
        return LayerContext(sliding=(put("sliding_keys"), put("sliding_values")), **more)
    built = tuple(Level(*(put(f"{n}.{name}") for name in _LEVEL)) for n in range(levels))
    one = {name: put(name) for name in _FIXED if name != "value_centroids"}
    fixed = FixedKV(**one, levels=built, value_centroids=put("value_centroids"))
    fixed.check()
    scores = tuple(put(f"{n}.scores") for n in range(levels))
    sketch = Sketch(scores, tuple(level.sizes for level in built))
    return LayerContext(fixed, sketch, put("positions"), **more)
