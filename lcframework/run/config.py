"""The run directory's `config.yaml`: written once, compared on every later start in the same
directory."""

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from lcframework.errors import RunDirError
from lcframework.files import write_text
from lcframework.run.results import FILE_NAME as RESULTS
from lcframework.run.results import git_revision

FILE_NAME = "config.yaml"
DEFINING_KEYS = ("data", "model", "task", "optimizer", "seed", "checkpoint")


def register_resolvers() -> None:
    """Make `${lc.run_id:}`, `${lc.slug:...}` and `${lc.class_name:...}` known to OmegaConf;
    harmless when called again."""
    from lcframework.run.identity import run_id, slug

    OmegaConf.register_new_resolver("lc.run_id", run_id, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("lc.slug", slug, replace=True)
    OmegaConf.register_new_resolver(
        "lc.class_name", lambda target: target.rpartition(".")[2], replace=True
    )


def forget_run_id() -> None:
    """Let the next composition in this process have a time stamp of its own (several runs in one
    script or test)."""
    OmegaConf.clear_cache(OmegaConf.create())


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict) and node:
        items = [
            _flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()
        ]
        return {key: value for one in items for key, value in one.items()}
    return {prefix: node}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines `key: old -> new` for every leaf under the defining keys that differs."""
    lines = []
    for top in DEFINING_KEYS:
        before, after = _flat(old.get(top), top), _flat(new.get(top), top)
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                lines.append(f"{key}: {before.get(key)!r} -> {after.get(key)!r}")
    return lines


def _has_work(folder: Path) -> bool:
    return (folder / RESULTS).is_file() or any((folder / "checkpoints").glob("*.ckpt"))


def record_config(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Write the resolved config into the run directory and return it as plain values.

    A directory that holds a checkpoint or results is a run being resumed: what defines the run
    (data, model, task, optimizer, seed, and the checkpoint of an evaluation) must be the same; the
    trainer, callbacks and loggers may change. A start that failed before it kept anything binds
    nobody.

    Raises:
        RunDirError: the directory belongs to a run with another definition; the message lists what
            differs.
    """
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    plain = cast(dict[str, Any], plain)
    git_revision()  # of the code that starts, not of what is checked out when it ends
    path = folder / FILE_NAME
    if path.is_file() and _has_work(folder):
        old = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
        changed = differences(old, plain)
        if changed:
            raise RunDirError(
                f"{folder} belongs to a run with another definition ({'; '.join(changed)}). "
                f"Start this one under "
                "another name with run_id=NAME, or restore the old values to resume it."
            )
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(plain)))
    return plain
