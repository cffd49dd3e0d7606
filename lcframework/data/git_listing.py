"""Size and checksum of a file in a git repository, from the listing of its folder that GitHub's API
gives (https://docs.github.com/en/rest/repos/contents).

Git names a file's content by the SHA-1 of `blob SIZE\\0` and the content.
"""

import hashlib
import json
from typing import Any

from lcframework.data.metalink import GIT, Expected
from lcframework.errors import DownloadError


def is_listing(content: bytes) -> bool:
    """Whether it looks like one."""
    return content.lstrip()[:1] in (b"[", b"{")


def parse_listing(content: bytes, file_name: str, where: str) -> Expected:
    """Find one file of a listing.

    Raises:
        DownloadError: it is no listing, or does not have the file.
    """
    try:
        entries = json.loads(content.decode())
        if not isinstance(entries, list):
            raise ValueError(f"it says {str(entries)[:200]}")
        found = next((one for one in entries if one["name"] == file_name), None)
        if found is not None:
            return Expected(GIT, found["sha"], int(found["size"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(
            f"{where} is no listing of a folder in a git repository ({error}). GitHub answers so "
            "where too many asked from one address: try again in an hour"
        ) from error
    raise DownloadError(f"{where} lists {len(entries)} files but not {file_name}")


def git_blob(size: int) -> Any:
    """A hash object that git's name of a content of `size` bytes comes out of."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
