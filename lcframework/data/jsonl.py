"""JSON lines from plain, compressed (.gz, .xz, .zst) or zipped files, each with where it stood."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lcframework.data.fasta_files import read_chunks
from lcframework.errors import DataError

_BLOCK = 1 << 20


def read_jsonl(path: str | Path, member: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file.

    Args:
        path: a file, or with `member` a zip archive; nothing of it is unpacked to disk.
        member: name of the file inside the archive.

    Yields:
        Where it stood, in words, and the object. Empty lines are passed over.

    Raises:
        DataError: the file is missing, damaged or not UTF-8, or a line is no JSON object.
    """
    path = Path(path)
    name = str(path) if member is None else f"{path}, {member}"
    if not path.is_file():
        raise DataError(f"{name}: there is no such file. Check the spelling of its path.")
    content = (
        b"".join(part for part, _ in read_chunks(path, _BLOCK))
        if member is None
        else (_member(path, member))
    )
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line.decode())
        except ValueError as error:
            raise DataError(
                f"{where}: not JSON ({error}). The file may be cut or damaged: download it again."
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: a JSON object is wanted, this is a {type(row).__name__}.")
        yield where, row


def _member(path: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except KeyError as error:
        raise DataError(f"{path} holds no {member}: it is another archive.") from error
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(
            f"{path} is no zip archive or damaged ({error}): download it again."
        ) from error
