"""Sizes and checksums from a metalink file, the way UniProt publishes them beside each release.

Both forms are read: version 3.0 (http://www.metalinker.org/, UniProt's) and version 4 (RFC 5854).
"""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from lcframework.errors import DownloadError

MAX_BYTES = 1_000_000
_DIGITS = {"sha256": 64, "md5": 32}
"""Known checksums, strongest first, with their length in hexadecimal digits."""
GIT = "git blob"
"""Git's own name of a content, see `data.git_listing`; no metalink has it."""


@dataclass(frozen=True)
class Expected:
    """What a downloaded file must be.

    Attributes:
        algorithm: "sha256", "md5" or `GIT`.
        digest: lower-case hexadecimal checksum.
        size: bytes, None if nobody says.
        release: the publisher's name of the release, "" if there is none.
    """

    algorithm: str
    digest: str
    size: int | None
    release: str = ""

    def __post_init__(self) -> None:
        digits = 40 if self.algorithm == GIT else _DIGITS.get(self.algorithm)
        if digits is None or not re.fullmatch(f"[0-9a-f]{{{digits}}}", self.digest):
            raise ValueError(f"{self.digest!r} is no {self.algorithm} checksum in lower-case hex")


def parse_metalink(content: bytes, file_name: str, where: str) -> Expected:
    """Find one file's size and strongest checksum.

    Args:
        content: the metalink file.
        file_name: the file that is wanted.
        where: address or path of the metalink, for messages.

    Returns:
        What the file must be.

    Raises:
        DownloadError: the content is too large, no XML, declares entities, or does not list the
            file with a checksum that we know.
    """
    if len(content) > MAX_BYTES:
        raise DownloadError(f"{where} is larger than {MAX_BYTES:,} bytes, so it is no metalink")
    # Entities are the way a small XML file becomes a huge or a curious one; metalinks need none.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DownloadError(f"{where} declares XML entities, which no metalink needs; not read")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DownloadError(
            f"{where} is no metalink: {error}. A network login page may stand in its place; open "
            "the address in a browser"
        ) from error
    files = [item for item in root.iter() if _local(item) == "file"]
    found = next((item for item in files if item.get("name") == file_name), None)
    if found is None:
        raise DownloadError(f"{where} lists {len(files)} files but not {file_name}")
    sizes = [item.text or "" for item in found.iter() if _local(item) == "size"]
    size = int(sizes[0]) if sizes and sizes[0].strip().isdigit() else None
    release = next((item.text or "" for item in root if _local(item) == "version"), "")
    digests = {
        (item.get("type") or "").lower().replace("-", ""): (item.text or "").strip().lower()
        for item in found.iter()
        if _local(item) == "hash"
    }
    for algorithm in _DIGITS:
        if algorithm in digests:
            try:
                return Expected(algorithm, digests[algorithm], size, release.strip())
            except ValueError as error:
                raise DownloadError(f"{where}: {error}") from error
    raise DownloadError(f"{where} has neither a SHA-256 nor an MD5 checksum of {file_name}")


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
