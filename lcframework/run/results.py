"""`results.json`: the one record of what a run measured (layout: docs of the run directory in the
README)."""

import functools
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from lcframework.errors import RunDirError
from lcframework.files import write_json as write_json  # part of this module's interface

FILE_NAME = "results.json"
REPORTED_PACKAGES = (
    "lcframework",
    "torch",
    "lightning",
    "hydra-core",
    "transformers",
    "numpy",
    "triton",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for name in REPORTED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def git_revision() -> str | None:
    """Commit of the source tree when this process first asked, with `-dirty` if it has changes;
    None outside a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=here, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def read_results(folder: Path) -> dict[str, Any]:
    """The `results.json` of a run directory.

    Raises:
        RunDirError: it is not one of ours.
    """
    path = folder / FILE_NAME
    try:
        record = json.loads(path.read_text())
        if not record.keys() >= {"run", "metrics", "tables"}:
            raise ValueError("run, metrics or tables are missing")
    except (ValueError, AttributeError) as error:
        raise RunDirError(
            f"{path} is no record of a run ({error}): move it away, or evaluate the run again."
        ) from error
    return record
