"""The files of a published LC-PLM checkpoint: config.json beside safetensors, shards or a .bin."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lcframework.data.alphabet import TOKENS
from lcframework.errors import CheckpointError
from lcframework.models.lcplm.model import LCPLM
from lcframework.models.lcplm.published import network_from_published

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
POINTER = b"version https://git-lfs"


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing; the sizes of the network are read from it. Keep config.json "
            "beside the weights."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of one file, without running code in it."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing. Fetch the whole checkpoint.")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull` in its folder."
            )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        # PyTorch's own words would advise to run the code in the file.
        pickled = isinstance(error, pickle.UnpicklingError)
        says = "more than tensors in it" if pickled else str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be read ({says}): it is damaged, cut short or no checkpoint. Fetch it "
            "again."
        ) from error


def _weight_files(where: Path) -> list[Path]:
    """The files that hold the tensors of `where`, a folder or one file."""
    if where.is_file():
        return [where]
    for name in INDEX_FILES:
        if (where / name).is_file():
            names = sorted(set(_read_json(where / name)["weight_map"].values()))
            if any(Path(one).name != one for one in names):
                raise CheckpointError(f"{where / name} names a file outside its folder.")
            return [where / one for one in names]
    for name in WEIGHT_FILES:
        if (where / name).is_file():
            return [where / name]
    raise CheckpointError(
        f"{where} holds no weights: none of {', '.join((*WEIGHT_FILES, *INDEX_FILES))} is there."
    )


def check_vocabulary(folder: Path) -> None:
    """Compare the tokens of a folder's vocab.txt, where there is one, with ours.

    Raises:
        CheckpointError: names the first id whose token differs.
    """
    path = folder / "vocab.txt"
    if not path.is_file():
        return
    have = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    for index, token in enumerate(TOKENS):
        found = have[index] if index < len(have) else "nothing"
        if found != token:
            raise CheckpointError(
                f"{path}, line {index + 1}: id {index} is {found!r}, in ESM-2's vocabulary, which "
                f"LC-PLM was trained with, it is {token!r}. Put the right file back or remove it: "
                "the import writes ESM-2's tokenizer."
            )


def read_published(where: Path) -> LCPLM:
    """The network of a published checkpoint.

    Args:
        where: a folder with config.json and weights (whole or in shards), or one .safetensors or
            .bin file with config.json beside it.

    Raises:
        CheckpointError: a file is missing, damaged or a Git LFS pointer, or a key does not fit; the
            message names it.
    """
    if not where.exists():
        raise CheckpointError(f"{where}: there is no such file or folder.")
    files = _weight_files(where)
    folder = where if where.is_dir() else where.parent
    config = _read_json(folder / "config.json")
    check_vocabulary(folder)
    tensors: dict[str, Tensor] = {}
    for path in files:
        found = _read_tensors(path)
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise CheckpointError(f"{path} holds {twice[0]}, which another shard holds too.")
        tensors |= found
    return network_from_published(config, tensors, where)
