"""Fetching one address into one file: resumed, retried a bounded number of times, never half done.

The bytes go to `NAME.part`, with a note beside it (`NAME.part.json`) of what the server called
that version of the file, so that a later run only appends to the same version. Whoever calls
verifies the `.part` file and gives it its final name.
"""

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lcframework import __version__
from lcframework.errors import DownloadError

logger = logging.getLogger(__name__)

SCHEMES = ("https", "http", "file")
TIMEOUT_S = 60.0
BLOCK = 1 << 20
ATTEMPTS = 5
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
Advance = Callable[[int, int | None], None]
"""Called with the bytes on disk so far and the total, None where the server does not say."""


class UnreachableError(DownloadError):
    """The server cannot be reached or does not give the file."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from https to anything weaker nor out of http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in allowed:
            raise DownloadError(f"{req.full_url} redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_scheme(url: str) -> None:
    """Refuse addresses other than http(s) and file.

    Raises:
        ValueError: another scheme.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"{url} must begin with one of {', '.join(s + '://' for s in SCHEMES)}")


def read_small(url: str, max_bytes: int) -> bytes:
    """Fetch a small file into memory, with retries.

    Raises:
        UnreachableError: it cannot be fetched.
    """
    for attempt in range(ATTEMPTS):
        try:
            with _open(url, {}) as response:
                return response.read(max_bytes + 1)
        except _CONNECTION_ERRORS as error:
            _wait_or_give_up(url, error, attempt)
    raise AssertionError("unreachable: the last attempt raises")


def fetch_part(url: str, part: Path, version: str, size: int | None, advance: Advance) -> None:
    """Complete `part` from `url`, appending to what an earlier try left if that still fits.

    Args:
        url: http(s) or file address.
        part: the unfinished file; its folder exists.
        version: what identifies the wanted content, for example its checksum; an unfinished file
            of another version is thrown away.
        size: bytes of the whole file, None if unknown.
        advance: told about every block.

    Raises:
        UnreachableError: `ATTEMPTS` tries in a row without a new byte, or an HTTP error that will
            not pass. What was fetched stays in `part`.
        DownloadError: the disk refuses, or the server's file has another size.
    """
    note = part.with_name(part.name + ".json")
    _drop_other_version(part, note, version)
    attempt, furthest = 0, _bytes_in(part)
    while size is None or _bytes_in(part) != size:
        try:
            _transfer(url, part, note, version, size, advance)
            return
        except _CONNECTION_ERRORS as error:
            # Against the furthest point ever, or a server that always starts anew could keep us.
            attempt = 0 if _bytes_in(part) > furthest else attempt
            furthest = max(furthest, _bytes_in(part))
            _wait_or_give_up(url, error, attempt)
            attempt += 1


def _transfer(
    url: str, part: Path, note: Path, version: str, size: int | None, advance: Advance
) -> None:
    """One request, appended to `part` or, where the server cannot resume, written anew."""
    have = _bytes_in(part)
    response = _open_from(url, have, _read_note(note).get("validator", ""), size)
    if response is None:
        return
    with response:
        resumed = response.status == 206
        done = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = size if length is None else done + int(length)
        if size is not None and total != size:
            raise DownloadError(
                f"{url} has {total:,} bytes where {size:,} are expected: the file and its checksum "
                "are of different releases; try again later"
            )
        with _disk_errors(part), part.open("ab" if resumed else "wb") as stream:
            _write_note(note, {"version": version, "validator": _validator(response)})
            advance(done, total)
            for block in _blocks(response):
                stream.write(block)
                done += len(block)
                advance(done, total)
        if total is not None and done < total:
            raise http.client.IncompleteRead(b"", total - done)


class _ReadError(Exception):
    """An OSError of the connection, kept apart from those of the disk."""


def _blocks(response: Any) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK):
            yield block
    except OSError as error:
        raise _ReadError(str(error)) from error


@contextmanager
def _disk_errors(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{part} could not be written ({error}); make room or name another folder. What was "
            "fetched stays there, and the same command goes on from it"
        ) from error


def _open_from(url: str, have: int, validator: str, size: int | None) -> Any:
    """The rest behind `have` bytes, or the whole file, or None if there is no rest."""
    if not have or urlsplit(url).scheme == "file":
        return _open(url, {})
    headers = {"Range": f"bytes={have}-"}
    if validator:
        headers["If-Range"] = validator
    try:
        response = _open(url, headers)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        complete = error.headers.get("Content-Range") == f"bytes */{have}"
        return None if complete and size is None else _open(url, {})
    if response.status == 206 and not _continues(response, have, size):
        response.close()
        return _open(url, {})
    return response


def _continues(response: Any, have: int, size: int | None) -> bool:
    """Whether a 206 answer is the rest of the file that `part` began."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    fits = size is None or total in ("*", str(size))
    return unit == "bytes" and span.partition("-")[0] == str(have) and fits


def _open(url: str, headers: dict[str, str]) -> Any:
    check_scheme(url)
    opener = urllib.request.build_opener(_SafeRedirects)
    agent = {"User-Agent": f"lcframework/{__version__}", "Accept-Encoding": "identity"}
    return opener.open(urllib.request.Request(url, headers=agent | headers), timeout=TIMEOUT_S)


_CONNECTION_ERRORS = (OSError, http.client.HTTPException, _ReadError)


def _validator(response: Any) -> str:
    tag = response.headers.get("ETag", "")
    # A weak tag promises equal meaning, not equal bytes; If-Range must not carry one (RFC 9110).
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _wait_or_give_up(url: str, error: Exception, attempt: int) -> None:
    if isinstance(error, urllib.error.HTTPError):
        passing = error.code in _RETRIED_STATUS
    else:
        passing = urlsplit(url).scheme != "file"
    if not passing or attempt + 1 >= ATTEMPTS:
        raise UnreachableError(f"{url} could not be fetched: {error}") from error
    seconds = backoff_seconds(attempt)
    logger.warning("%s: %s; trying again in %.0f s", url, error, seconds)
    time.sleep(seconds)


def backoff_seconds(attempt: int) -> float:
    """Seconds to wait after the given failed attempt (0, 1, ...): 1, 2, 4, ... at most 30."""
    return min(2.0**attempt, 30.0)


def _drop_other_version(part: Path, note: Path, version: str) -> None:
    if part.exists() and _read_note(note).get("version") != version:
        logger.info("%s belongs to another version and is thrown away", part)
        part.unlink()


def _read_note(note: Path) -> dict[str, str]:
    try:
        content = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}  # no note: the part is of an unknown version and starts anew
    return content if isinstance(content, dict) else {}


def _write_note(note: Path, content: dict[str, str]) -> None:
    temporary = note.with_name(f".{note.name}.tmp-{os.getpid()}")
    temporary.write_text(json.dumps(content))
    temporary.replace(note)


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
