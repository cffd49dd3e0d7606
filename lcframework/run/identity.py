"""Who a run is: its id, its directory, and the lock that keeps a second process out of it.

A run id must survive a requeue, or a preempted job silently starts from zero: on SLURM it is made
from the array or job id, elsewhere from the time of the first start.
"""

import fcntl
import os
import re
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from lcframework.errors import RunDirError

LOCK_NAME = ".lock"
_held: set[IO[str]] = set()


def _leave_to_parent() -> None:
    """Close a forked child's copies of the lock files: a data worker that outlives its killed
    parent by seconds would keep the next start out."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def run_id(environment: Mapping[str, str] | None = None) -> str:
    """An id that is the same for every start of one SLURM job, and a time stamp elsewhere.

    Args:
        environment: stands in for `os.environ` in tests.

    Returns:
        `slurm-<array job>_<task>`, `slurm-<job>`, or `YYYY-MM-DD_HH-MM-SS-<pid>`.
    """
    found = os.environ if environment is None else environment
    if "SLURM_ARRAY_JOB_ID" in found and "SLURM_ARRAY_TASK_ID" in found:
        return f"slurm-{found['SLURM_ARRAY_JOB_ID']}_{found['SLURM_ARRAY_TASK_ID']}"
    # An interactive shell inside an allocation starts many runs under one job id.
    if "SLURM_JOB_ID" in found and found.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return f"slurm-{found['SLURM_JOB_ID']}"
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{os.getpid()}"


def slug(text: str) -> str:
    """`text` as one safe folder name: `lcplm/quickstart` becomes `lcplm-quickstart`."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-") or "run"


class RunDirLock:
    """An exclusive lock on a run directory, held while the block runs and freed by the kernel if
    the process dies.

    Example:
        >>> with RunDirLock(Path("runs/demo")):  # doctest: +SKIP
        ...     train()

    Raises:
        RunDirError: another process holds it; the message names its pid and host.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        self._file: IO[str] | None = None

    def __enter__(self) -> "RunDirLock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise RunDirError(
                f"{self.path.parent} is in use by another process ({holder}). Wait for it, "
                f"stop it, or start this "
                "run under another name with run_id=NAME."
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
        _held.add(file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            _held.discard(self._file)
            self._file.close()
            self._file = None
