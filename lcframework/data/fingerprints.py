"""Telling whether the files behind a token store are the ones it was built from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcframework.data.alphabet import TOKENS
from lcframework.data.fasta_rules import RULES_VERSION
from lcframework.data.token_store import FORMAT_VERSION
from lcframework.errors import DataError


@dataclass(frozen=True)
class InputFile:
    """One input file as it lies on disk.

    Attributes:
        path: where it lies.
        size: bytes, compressed as it may be.
        mtime_ns: time of its last change.
        sha256: hash of those bytes.
    """

    path: Path
    size: int
    mtime_ns: int
    sha256: str

    def record(self) -> dict[str, Any]:
        """The entry of `meta.json`."""
        return {
            "path": str(self.path.resolve()),
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "sha256": self.sha256,
        }


def describe_inputs(paths: Sequence[Path]) -> list[InputFile]:
    """Hash each file.

    Raises:
        DataError: a file cannot be read.
    """
    files = []
    for path in paths:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}): check its rights.") from error
        files.append(InputFile(path, status.st_size, status.st_mtime_ns, digest))
    return files


def fingerprint_of(files: Sequence[InputFile]) -> str:
    """Hash of what decides a store's bytes: contents in order, alphabet, rules and layout.

    Names and times are left out, so moving or copying the inputs keeps the fingerprint.
    """
    settings = {
        "format": FORMAT_VERSION,
        "rules": RULES_VERSION,
        "alphabet": TOKENS,
        "inputs": [file.sha256 for file in files],
    }
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def unchanged(records: Sequence[dict[str, Any]], paths: Sequence[Path]) -> bool:
    """Whether `paths` are the recorded files with the recorded sizes and times (no hashing)."""
    if len(records) != len(paths):
        return False
    for record, path in zip(records, paths, strict=True):
        status = path.stat()
        now = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        if now != (record["path"], record["size"], record["mtime_ns"]):
            return False
    return True
