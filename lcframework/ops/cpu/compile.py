"""Numba for the CPU kernels: whether it is there, and how kernels are compiled and cached.

This module imports numba only when a kernel is asked for: `import lcframework` stays light.
"""

import functools
import hashlib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
SOURCES = ("ops/cpu/*.py", "ops/**/numba_*.py")
"""Every file whose functions are inlined into a kernel."""

_looked: list[str | None] = []  # not functools.cache, which torch.compile warns of


def why_unavailable() -> str | None:
    """None where the kernels can run, else the reason in one sentence."""
    if not _looked:
        _looked.append(_look())
    return _looked[0]


def _look() -> str | None:
    if importlib.util.find_spec("numba") is None:
        return "the package numba is not installed (pip install numba)"
    try:
        from numba.core import config
    except Exception as error:  # an old numba beside a new numpy or Python raises at import
        return f"numba cannot be imported ({str(error).splitlines()[0]})"
    if getattr(config, "DISABLE_JIT", 0):
        return "NUMBA_DISABLE_JIT is set"
    return None


def usable(device: torch.device) -> bool:
    """Whether backend="auto" takes the CPU kernels; warns where a CPU has to do without."""
    if device.type != "cpu":
        return False
    reason = why_unavailable()
    if reason is not None:
        warnings.warn(
            f"the fast CPU kernels cannot run, plain PyTorch is used: {reason}.", stacklevel=4
        )
    return reason is None


def refuse_unless_usable(device: torch.device) -> None:
    """For backend="numba".

    Raises:
        RuntimeError: the kernels cannot run here; the message says why.
    """
    reason = why_unavailable()
    if reason is None and device.type != "cpu":
        reason = f"the tensors are on {device}, its kernels are for the CPU"
    if reason is not None:
        raise RuntimeError(f"backend='numba' cannot run here: {reason}. Use backend='auto'.")


@functools.cache
def _sources() -> str:
    """Fingerprint of all kernel sources."""
    package = Path(__file__).parents[2]
    files = sorted({file for pattern in SOURCES for file in package.glob(pattern)})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def kernel(function: Callable) -> Any:
    """Compile a kernel at its first call for each set of dtypes; machine code is kept on disk.

    The code lies where numba keeps it: in NUMBA_CACHE_DIR, else beside the source, else (an
    installation one may not write to) in the user's cache folder. Where none of them can be
    written, each process compiles anew and says so. A kernel releases the GIL. Reductions over
    channels may be reordered (`reassoc`), in one order per machine code; NaN and infinity are
    respected.
    """
    import numba

    # Numba looks only at the kernel's own file to tell whether its code is stale.
    function.__qualname__ = f"{function.__qualname__}_{_sources()}"
    options: dict[str, Any] = {**OPTIONS, "nogil": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that it may write to
        warnings.warn(
            "no folder for the machine code of the CPU kernels can be written, so each process "
            "compiles them anew for some seconds. Set NUMBA_CACHE_DIR to a folder that can.",
            stacklevel=2,
        )
        return numba.njit(**options)(function)


def inlined(function: Callable) -> Any:
    """A part of kernels, compiled into them."""
    import numba

    return numba.njit(**OPTIONS)(function)


def launch(function: Any, *arguments: Any) -> None:
    """Call a kernel; where its machine code cannot be kept (a full disk), warn and go on."""
    try:
        function(*arguments)
    except OSError as error:  # raised by numba after compiling and before the kernel ran
        warnings.warn(f"the machine code of a CPU kernel could not be kept: {error}", stacklevel=2)
        function(*arguments)
