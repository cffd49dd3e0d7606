"""Where fetched models lie, and how a user's `--model` becomes a path. Imports no torch."""

import hashlib
import os
from pathlib import Path

from lcframework.errors import CheckpointError, ConfigError
from lcframework.models.llm.packaged import PACKAGED, ModelFile, PackagedModel

MODELS_VARIABLE = "LCF_MODELS"
BLOCK = 1 << 20


def models_root() -> Path:
    """`$LCF_MODELS`, else `~/.cache/lcframework/models`."""
    named = os.environ.get(MODELS_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "lcframework" / "models"


def find_packaged(name: str) -> PackagedModel:
    """The declared model of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PACKAGED:
        raise ConfigError(
            f"No packaged model is called {name!r}; there are: {', '.join(PACKAGED)} "
            "(lcf models list)."
        )
    return PACKAGED[name]


def folder_of(model: PackagedModel) -> Path:
    """Where the model lies, or would lie."""
    return models_root() / model.name


def path_of(model: PackagedModel) -> Path:
    """What stands for the model: its GGUF file, or its folder."""
    return folder_of(model) / model.main if model.main else folder_of(model)


def difference(path: Path, file: ModelFile, thorough: bool) -> str:
    """How a file differs from what is declared, in words; "" if it does not.

    Args:
        path: the file.
        file: what it should be.
        thorough: compare the checksum, not only the size.
    """
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != file.size:
        return f"has {size:,} bytes instead of {file.size:,}"
    if thorough and sha256_of(path) != file.sha256:
        return "has another checksum than the one declared"
    return ""


def sha256_of(path: Path) -> str:
    """Checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_fetched(model: PackagedModel, thorough: bool = False) -> bool:
    """Whether every file is there and right."""
    folder = folder_of(model)
    return not any(difference(folder / one.name, one, thorough) for one in model.files)


def fetched_path(model: PackagedModel) -> Path:
    """The path of a fetched model.

    Raises:
        CheckpointError: it was not fetched, or its files are not whole (sizes are compared).
    """
    folder = folder_of(model)
    if not folder.exists():
        raise CheckpointError(
            f"The model {model.name} has not been fetched yet ({folder} is not there). Fetch it "
            f"with: lcf models get {model.name}"
        )
    for one in model.files:
        wrong = difference(folder / one.name, one, thorough=False)
        if wrong:
            raise CheckpointError(
                f"{folder / one.name} {wrong}. Fetch the model again: lcf models get {model.name}"
            )
    return path_of(model)


def resolve_model(model: str | Path) -> Path:
    """The file or folder that a user means.

    An existing path wins over a name: a folder called `smollm2` here is that folder.

    Args:
        model: a folder, a GGUF file, or a name from `lcf models list`.

    Raises:
        CheckpointError: a known name that was not fetched, or no such path.
    """
    path = Path(model).expanduser()
    if path.exists():
        return path
    if str(model) in PACKAGED:
        return fetched_path(PACKAGED[str(model)])
    raise CheckpointError(
        f"There is no model at {path}. Give a Hugging Face folder (config.json beside "
        f"*.safetensors), a .gguf file, or one of the names {', '.join(PACKAGED)} "
        "(lcf models list). Nothing is downloaded from a hub."
    )
