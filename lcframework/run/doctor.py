"""What `lcf doctor` finds: versions, devices, backends that really run, extras, places to write to.

A backend counts as available when it computes a small case here; nothing is inferred from what is
installed.
"""

import os
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from lcframework.data.homologues import INSTALL, PROGRAM, find_mmseqs
from lcframework.run.results import versions

LOW_DISK_GB = 5.0
"""Below this much free space a note is given: checkpoints of the larger models take gigabytes."""


def check(what: str, status: str, found: str, cure: str = "") -> dict[str, str]:
    """One line of the examination; `status` is "ok", "note" (something optional) or "broken"."""
    return {"what": what, "status": status, "found": found, "cure": cure}


def examine(runs: Path) -> dict[str, Any]:
    """Look at everything.

    Args:
        runs: the folder that runs are written to; it need not exist.

    Returns:
        `ok`: whether nothing needed is broken; `versions`, `devices`, `backends`: the facts as
        values; `checks`: one entry per line shown, with `what`, `status`, `found`, `cure`.
    """
    base = _base_packages()
    packages = versions()
    checks = [check("versions", "ok", ", ".join(f"{k} {v}" for k, v in packages.items())), *base]
    devices: dict[str, Any] = {}
    backends: dict[str, Any] = {}
    if all(one["status"] != "broken" for one in base):
        from lcframework.run.doctor_devices import examine_backends, examine_devices

        devices, more = examine_devices()
        backends, tried = examine_backends(devices)
        checks += more + tried
    checks += _extras()
    checks.append(_mmseqs())
    checks += [_writable("run directory", runs), _writable("token stores", _stores())]
    return {
        "ok": all(one["status"] != "broken" for one in checks),
        "versions": packages,
        "devices": devices,
        "backends": backends,
        "checks": checks,
    }


def _requirements() -> dict[str, list[Any]]:
    """The package's requirements that apply on this platform, by extra ("" for the base)."""
    from packaging.requirements import Requirement

    grouped: dict[str, list[Any]] = {"": []}
    try:
        lines = metadata.requires("lcframework") or []
    except metadata.PackageNotFoundError:
        return grouped
    for line in lines:
        requirement = Requirement(line)
        named = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        extra = named.group(1) if named else ""
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": extra}):
            grouped.setdefault(extra, []).append(requirement)
    return grouped


def _unmet(requirement: Any) -> str:
    """Why a requirement is not met, "" if it is."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is not {requirement.specifier}"
    return ""


def _base_packages() -> list[dict[str, str]]:
    needed = _requirements()[""]
    if not needed:
        return [
            check(
                "installation",
                "note",
                "lcframework runs from a source tree; its requirements are not recorded here",
                "pip install -e .",
            )
        ]
    lacking = [reason for one in needed if (reason := _unmet(one))]
    if lacking:
        return [check("requirements", "broken", "; ".join(lacking), "pip install -U lcframework")]
    return [check("requirements", "ok", f"all {len(needed)} packages installed and in range")]


def _extras() -> list[dict[str, str]]:
    checks = []
    for extra, needed in _requirements().items():
        # An extra may name other extras of this package; those are lines of their own.
        others = [one for one in needed if one.name != "lcframework"]
        if not extra or not others:
            continue
        lacking = [reason for one in others if (reason := _unmet(one))]
        if lacking:
            cure = f"pip install 'lcframework[{extra}]'"
            checks.append(check(f"extra [{extra}]", "note", "; ".join(lacking), cure))
        else:
            checks.append(check(f"extra [{extra}]", "ok", "installed"))
    return checks


def _mmseqs() -> dict[str, str]:
    """The one program that is used and that pip does not install."""
    program = find_mmseqs()
    if program is not None:
        return check(PROGRAM, "ok", program)
    found = "not on the PATH; lcf data split-long cannot remove homologues without it"
    return check(PROGRAM, "note", found, INSTALL)


def _stores() -> Path:
    return Path(os.environ.get("LCF_STORES") or Path.home() / ".cache" / "lcframework" / "stores")


def _writable(what: str, folder: Path) -> dict[str, str]:
    """Whether `folder`, or the nearest folder above it that exists, takes a file; nothing stays."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        cure = (
            "lcf doctor --runs DIR, and paths.runs=DIR when training"
            if what == "run directory"
            else "export LCF_STORES=DIR"
        )
        return check(what, "broken", f"{place} is not writable ({error.strerror})", cure)
    free = shutil.disk_usage(place).free / 1e9
    text = f"{folder} is writable, {free:,.1f} GB free"
    if free < LOW_DISK_GB:
        return check(what, "note", text, f"free some space or choose another disk than {place}")
    return check(what, "ok", text)
