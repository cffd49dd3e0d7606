"""Size and checksum that a publisher gives, and from a Git LFS pointer, as Hugging Face serves it
beside a large file.

Format: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

import re

from lcframework.data.git_listing import is_listing, parse_listing
from lcframework.data.metalink import Expected, parse_metalink
from lcframework.errors import DownloadError

START = b"version https://git-lfs.github.com/spec/"
MAX_POINTER = 1024  # the format's own limit


def parse_published(content: bytes, file_name: str, where: str) -> Expected:
    """What a publisher says of a file, in a Git LFS pointer, the listing of a folder in a git
    repository, or a metalink.

    Raises:
        DownloadError: it is none of these, or does not name the file's checksum.
    """
    if content.startswith(START):
        return parse_pointer(content, where)
    if is_listing(content):
        return parse_listing(content, file_name, where)
    return parse_metalink(content, file_name, where)


def parse_pointer(content: bytes, where: str) -> Expected:
    """Read a pointer.

    Raises:
        DownloadError: it lacks the SHA-256 or the size.
    """
    text = content[:MAX_POINTER].decode(errors="replace")
    digest = re.search(r"^oid sha256:([0-9a-f]{64})$", text, re.MULTILINE)
    size = re.search(r"^size (\d+)$", text, re.MULTILINE)
    if len(content) > MAX_POINTER or digest is None or size is None:
        raise DownloadError(f"{where} is no Git LFS pointer with a SHA-256 and a size")
    return Expected("sha256", digest[1], int(size[1]))
