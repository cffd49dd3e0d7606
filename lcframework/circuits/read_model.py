"""Finds and reads what describes a model: a Hugging Face folder or config.json, one of our YAML
files, a run's config.yaml, or a composition."""

import json
from pathlib import Path
from typing import Any

import yaml

from lcframework.circuits.architecture import Architecture
from lcframework.circuits.composition import Composition, read_composition
from lcframework.circuits.families import from_hugging_face
from lcframework.circuits.families_ours import TARGETS
from lcframework.circuits.values import Values
from lcframework.errors import ConfigError


def read_model(where: str | Path) -> Architecture | Composition:
    """The structure of a model.

    Args:
        where: a folder with config.json, a .json file, or a .yaml file: a node with `_target_` (as
            in conf/model), a run's config.yaml with such a node under `model`, or a composition
            (`components` and `model`, see `composition`).

    Raises:
        ConfigError: there is no such file, or it describes no model; the message names the line of
            a syntax error and the cure.
    """
    path = _find(Path(where))
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".json":
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{path}, line {error.lineno}: not JSON ({error.msg}). Copy the file again."
            ) from error
    else:
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "syntax"
            raise ConfigError(f"{path}{line}: not YAML ({problem}). Correct the line.") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values. Give a model's config.")
    if path.suffix == ".json":
        return from_hugging_face(path, raw)
    if "components" in raw:
        return read_composition(path, raw)
    return _from_yaml(path, raw)


def _find(path: Path) -> Path:
    if path.is_dir():
        if (path / "config.json").is_file():
            return path / "config.json"
        if (path / "adapter_config.json").is_file():
            raise ConfigError(
                f"{path} is an adapter (adapter_config.json) without the model it belongs to. Give "
                "the folder of the base model; a low-rank adapter changes weights, not the circuit."
            )
        raise ConfigError(
            f"{path} has no config.json. Give a Hugging Face model folder, a config.json or a "
            "YAML file such as conf/model/lcplm_8m.yaml."
        )
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file or folder. Give a model folder, a config.json or a YAML file; "
            "names on the Hugging Face hub are not downloaded."
        )
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise ConfigError(
            f"{path}: only .json and .yaml files are read. Give the model's config.json."
        )
    return path


def _from_yaml(path: Path, raw: dict[str, Any]) -> Architecture:
    node = raw
    if "_target_" not in node and isinstance(raw.get("model"), dict):
        node = raw["model"]
    target = node.get("_target_")
    if target not in TARGETS:
        named = f"_target_ {target!r}" if target else "no _target_"
        raise ConfigError(
            f"{path} has {named}; known are {', '.join(TARGETS)}. A network of another kind is "
            "described as a composition (keys components and model) or by its config.json."
        )
    for key, value in node.items():
        if isinstance(value, str) and "${" in value:
            raise ConfigError(
                f"{path}: {key} = {value!r} is an interpolation. Give the resolved config.yaml of "
                "a run, or the output of --cfg job --resolve."
            )
    return TARGETS[target](Values(path, node))
