"""A network from what a user names: a run directory, a *.ckpt file, or a folder of an export."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from lcframework.errors import CheckpointError
from lcframework.run.checkpoints import load_checkpoint, newest_valid
from lcframework.run.instantiate import instantiate

EXPORT_FILE = "config.json"
ARCHITECTURES = {
    "lcplm": "lcframework.models.lcplm.model.LCPLM",
    "esm2": "lcframework.models.esm2.model.ESM2",
}


def find_checkpoint(where: str) -> Path:
    """The checkpoint meant by a run directory (its newest valid one), a file or an export.

    Raises:
        CheckpointError: nothing usable is there.
    """
    path = Path(where)
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"checkpoint={where}: there is no such file or run directory.")
    if (path / EXPORT_FILE).is_file():
        return path
    inside = path / "checkpoints"
    found = newest_valid(inside if inside.is_dir() else path)
    if found is None:
        raise CheckpointError(
            f"checkpoint={where}: the directory holds no valid *.ckpt and is no export. Name a run "
            "directory, a *.ckpt file or a folder of `lcf export` or `lcf import-lcplm`."
        )
    return found


def load_network(path: Path) -> nn.Module:
    """Rebuild the network a checkpoint was saved from and load its weights.

    Args:
        path: a *.ckpt file or the folder of an export.

    Raises:
        CheckpointError: the file does not say what it holds, or its weights do not fit what it
            says.
    """
    if path.is_dir():
        return _load_export(path)
    checkpoint = load_checkpoint(path)
    said = checkpoint.get("lcframework_model")
    if not said or said.get("architecture") not in ARCHITECTURES:
        raise CheckpointError(
            f"{path} does not name a network of this framework "
            f"({', '.join(ARCHITECTURES)}); it was not written by "
            "lcframework's masked LM task."
        )
    network = instantiate({"_target_": ARCHITECTURES[said["architecture"]], **said["hparams"]})
    weights = {
        key.removeprefix("model."): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith("model.")
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} says it holds {said['architecture']} with {said['hparams']}, but its "
            f"weights do not fit: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return network


def _load_export(folder: Path) -> nn.Module:
    # Only here: transformers' models take seconds to import.
    if _model_type(folder) == "esm":
        from lcframework.models.esm2.huggingface import load_esm2

        return load_esm2(folder)
    from lcframework.models.lcplm.huggingface import LCPLMForMaskedLM

    model, about = LCPLMForMaskedLM.from_pretrained(folder, output_loading_info=True)
    if about["missing_keys"]:
        raise CheckpointError(
            f"{folder} holds an encoder without {', '.join(sorted(about['missing_keys']))}, so it "
            "predicts nothing. Name the export of a masked language model."
        )
    return model.to_network()


def _model_type(folder: Path) -> Any:
    try:
        return json.loads((folder / EXPORT_FILE).read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / EXPORT_FILE} is no configuration of a model ({error}). Name a run "
            "directory, a *.ckpt file or a folder that save_pretrained wrote."
        ) from error
