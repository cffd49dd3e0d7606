"""Finding input files and reading their bytes, compressed or not."""

import glob
import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from lcframework.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_XZ_MAGIC = b"\xfd7zXZ\x00"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_UTF8_BOM = b"\xef\xbb\xbf"
_COMPRESSED_CHUNK = 1 << 20
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError)


def expand_inputs(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that paths and glob patterns name.

    Args:
        inputs: one path or pattern, or several. Matches of one pattern are sorted; the order of the
            patterns is kept; a file named twice counts once.

    Returns:
        At least one existing file.

    Raises:
        DataError: nothing is given, a path or pattern matches nothing, or a match is a folder.
    """
    patterns = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if not patterns:
        raise DataError("No FASTA input is given: name at least one file or pattern.")
    found: dict[Path, Path] = {}
    for pattern in patterns:
        for path in _matches(Path(pattern).expanduser()):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _matches(pattern: Path) -> list[Path]:
    if pattern.is_dir():
        raise DataError(
            f"{pattern} is a folder, not a FASTA file: name a file in it, or a pattern such as "
            f"'{pattern}/*.fasta.gz'."
        )
    if pattern.exists():
        return [pattern]
    names = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207 (absolute patterns)
    files = [Path(name) for name in names if Path(name).is_file()]
    if not files:
        raise DataError(
            f"No FASTA file at {pattern}: the path or pattern matches no file. Check the spelling; "
            "relative paths start at the current folder."
        )
    return files


class Decompressed(Protocol):
    """What the FASTA parser needs of an open file."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` decompressed bytes, empty at the end."""
        ...


class _ZstdFile:
    """Reads zstd frames and, unlike zstandard's own stream reader, notices a truncated one."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._started = False

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        missing = size
        while missing > 0:
            # The next frame begins in what the last one left over.
            data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._started = zstandard.ZstdDecompressor().decompressobj(), False
            data = data or self._raw.read(min(_COMPRESSED_CHUNK, max(missing // 4, 1 << 14)))
            if not data:
                if self._started:
                    raise EOFError("the last zstd frame is incomplete")
                break
            self._started = True
            parts.append(self._frame.decompress(data))
            missing -= len(parts[-1])
        return b"".join(parts)


def _open_decompressed(raw: BinaryIO) -> Decompressed:
    magic = raw.read(8)
    raw.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        return gzip.GzipFile(fileobj=raw)
    if magic.startswith(_XZ_MAGIC):
        return lzma.LZMAFile(raw)
    if magic.startswith(_ZSTD_MAGIC):
        return _ZstdFile(raw)
    return raw


def read_chunks(path: Path, size: int) -> Iterator[tuple[bytes, int]]:
    """A file's decompressed bytes in chunks of about `size`.

    The compression is told by the first bytes, never by the name.

    Args:
        path: plain, gzip, xz or zstd file.
        size: bytes per chunk; a zstd chunk may be somewhat larger.

    Yields:
        Each non-empty chunk, and how many bytes of the file on disk have been consumed so far.

    Raises:
        DataError: the file cannot be read, or is truncated or damaged.
    """
    try:
        with path.open("rb") as raw:
            source = _open_decompressed(raw)
            first = True
            while chunk := source.read(size):
                yield chunk.removeprefix(_UTF8_BOM) if first else chunk, raw.tell()
                first = False
    except _DAMAGE as error:
        raise DataError(
            f"{path} is truncated or damaged ({error}): copy or download it again, then compare "
            "its size or checksum with the source's."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error}): check the path and its rights."
        ) from error
