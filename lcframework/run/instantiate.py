"""The one place where a config node becomes an object, with an allow-list of packages.

A `_target_` in YAML is code that runs. Hydra follows any dotted path, through re-exported modules
too (`somepackage.helpers.os.system`), so the check looks at where the found object is *defined*,
not at how it was named.
"""

import importlib
import os
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from lcframework.errors import ConfigError, LCFrameworkError

ALLOWED_MODULES = ("lcframework", "lightning.pytorch", "torch.optim", "torchmetrics")
EXTRA_VARIABLE = "LCFRAMEWORK_ALLOWED_TARGETS"


def allowed_modules() -> tuple[str, ...]:
    """Modules whose classes and functions a config may call, plus those named (comma-separated) in
    the environment."""
    extra = os.environ.get(EXTRA_VARIABLE, "")
    return ALLOWED_MODULES + tuple(name.strip() for name in extra.split(",") if name.strip())


def locate(dotted: str) -> Any:
    """Import the object a dotted path names.

    Raises:
        ConfigError: nothing lies at that path.
    """
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            # Only "this prefix is no module" may be retried; a missing dependency inside it must be
            # told.
            if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
                continue
            raise
        for attribute in parts[cut:]:
            if not hasattr(found, attribute):
                raise ConfigError(
                    f"_target_ '{dotted}': '{name}' has no '{attribute}'; check the spelling."
                )
            found = getattr(found, attribute)
        return found
    raise ConfigError(f"_target_ '{dotted}' names no importable module; give the full dotted path.")


def _within(module: str, allowed: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in allowed)


def check_target(dotted: str) -> None:
    """Refuse a `_target_` outside the allow-list, before anything of it is imported or called.

    Raises:
        ConfigError: the target, or the module that really defines it, is not allowed.
    """
    allowed = allowed_modules()
    names = ", ".join(allowed)
    cure = f"Allowed are {names}; add a package you trust with {EXTRA_VARIABLE}=mypackage."
    if not _within(dotted, allowed):
        raise ConfigError(
            f"_target_ '{dotted}' is not in the list of packages a config may call. {cure}"
        )
    found = locate(dotted)
    home = getattr(found, "__module__", None) or ""
    if not callable(found) or not _within(home, allowed):
        raise ConfigError(f"_target_ '{dotted}' leads to {found!r} defined in '{home}'. {cure}")


def _check_all(node: Any) -> None:
    if isinstance(node, dict):
        if "_target_" in node:
            check_target(str(node["_target_"]))
        for value in node.values():
            _check_all(value)
    elif isinstance(node, list):
        for value in node:
            _check_all(value)


def instantiate(node: DictConfig | ListConfig | dict | None, **overrides: Any) -> Any:
    """Build what a config node describes: one node, one constructor call.

    Args:
        node: a config node with `_target_`, or None.
        **overrides: keyword arguments passed on top of the node's own.

    Returns:
        The constructed object, None for None. Nested values arrive as plain Python, never as config
        objects.

    Raises:
        ConfigError: a `_target_` outside the allow-list or one that cannot be found, or settings
            that its constructor refuses (`ValueError`, `TypeError`).
        LCFrameworkError: what the constructor refuses, in its own words.
    """
    if node is None:
        return None
    import hydra
    from hydra.errors import InstantiationException

    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    _check_all(plain)
    assert isinstance(plain, dict)
    target = plain.get("_target_")
    try:
        if not overrides:
            return hydra.utils.instantiate({"_convert_": "all", **plain})
        # Hydra would turn objects given to it into config nodes; a call of ours leaves them as they
        # are.
        plain = {key: value for key, value in plain.items() if key not in overrides}
        call = hydra.utils.instantiate({"_convert_": "all", **plain, "_partial_": True})
        return call(**overrides)
    except InstantiationException as error:
        # A constructor's message to the user reaches them as one paragraph, without Hydra's frame.
        cause = error.__cause__
        if isinstance(cause, LCFrameworkError):
            raise cause from None
        if isinstance(cause, ValueError | TypeError):
            raise _refusal(target, cause) from cause
        raise
    except (ValueError, TypeError) as error:
        raise _refusal(target, error) from error


def _refusal(target: Any, error: Exception) -> ConfigError:
    return ConfigError(f"{target} refuses its settings: {error}")


def instantiate_all(nodes: DictConfig | dict | None) -> list[Any]:
    """Build every child of a group such as `callbacks`; a child set to null is left out."""
    if not nodes:
        return []
    return [instantiate(node) for node in nodes.values() if node]
