"""Declared downloads: where each data set comes from, under which licence, and how it is verified.

Nothing is fetched at import or in passing: only `fetch`, behind `lcf data get NAME`, goes online.

UniProt replaces UniRef50 under the same address about every eight weeks, so no checksum written
down here could stay right. It publishes the current release's size and MD5 in `RELEASE.metalink`
beside the file; that is fetched first, over https, and kept as `NAME.metalink` beside the download
as a record of the release. This finds a damaged or cut file. It does not prove who wrote it, since
file and checksum come from the same server.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lcframework.data.download import (
    BLOCK,
    Advance,
    UnreachableError,
    check_scheme,
    fetch_part,
    read_small,
)
from lcframework.data.git_listing import git_blob
from lcframework.data.lfs_pointer import parse_published
from lcframework.data.metalink import GIT, MAX_BYTES, Expected
from lcframework.errors import DownloadError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One file that can be downloaded.

    Attributes:
        name: what the user types.
        url: http(s) or file address; its last part names the file.
        licence: licence of the content.
        description: one line.
        size: bytes; needed with `md5`; only for information with `metalink`.
        sha256: checksum, if the file never changes.
        md5: checksum, if the publisher gives no better one.
        metalink: address of a metalink that lists the file, of its Git LFS pointer, or of GitHub's
            listing of its folder, if it changes with releases or the publisher's own checksum is
            to be taken.

    Raises:
        ValueError: an address of another kind, or not exactly one way to verify the file.
    """

    name: str
    url: str
    licence: str
    description: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    metalink: str | None = None

    def __post_init__(self) -> None:
        for url in filter(None, (self.url, self.metalink)):
            check_scheme(url)
        if not self.file_name:
            raise ValueError(f"{self.url} names no file")
        if sum(way is not None for way in (self.sha256, self.md5, self.metalink)) != 1:
            raise ValueError(f"{self.name} needs exactly one of sha256, md5 and metalink")
        if self.md5 is not None and self.size is None:
            raise ValueError(f"{self.name}: md5 needs the size beside it")

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return Path(unquote(urlsplit(self.url).path)).name


_UNIREF50 = "https://ftp.uniprot.org/pub/databases/uniprot/uniref/uniref50"
_LONGBENCH = "https://huggingface.co/datasets/THUDM/LongBench"
_QASPER = "https://qasper-dataset.s3.us-west-2.amazonaws.com"
_PAPER = "CC BY 4.0 (Dasigi et al., NAACL 2021)"
_MIDDLE = "nelson-liu/lost-in-the-middle"
_MIDDLE_COMMIT = "29b8a6d042ce29abccee3db1a73171a107d7e6af"


def _on_github(repository: str, revision: str, folder: str, name: str) -> dict[str, Any]:
    """Addresses of a file of a repository and of what git says of it."""
    return {
        "url": f"https://raw.githubusercontent.com/{repository}/{revision}/{folder}/{name}",
        "metalink": f"https://api.github.com/repos/{repository}/contents/{folder}?ref={revision}",
    }


def _quality(split: str) -> Source:
    return Source(
        name=f"quality-{split}",
        licence="CC BY 4.0 (Pang et al., NAACL 2022; the articles keep their own terms)",
        description=f"QuALITY v1.0.1 without HTML, {split}: data.{split.replace('dev', 'valid')}",
        **_on_github("nyu-mll/quality", "main", "data/v1.0.1",
                     f"QuALITY.v1.0.1.htmlstripped.{split}"),
    )  # fmt: skip


SOURCES: dict[str, Source] = {
    "uniref50": Source(
        name="uniref50",
        url=f"{_UNIREF50}/uniref50.fasta.gz",
        licence="CC BY 4.0 (UniProt Consortium)",
        description="UniProt's clusters at 50% identity, current release, about 9 GB",
        metalink=f"{_UNIREF50}/RELEASE.metalink",
    ),
    "longbench": Source(
        name="longbench",
        url=f"{_LONGBENCH}/resolve/main/data.zip",
        licence="MIT (LongBench; the texts keep the terms of their own sources)",
        description="LongBench and LongBench-E, all tasks, read as it is: data.path=data.zip",
        metalink=f"{_LONGBENCH}/raw/main/data.zip",
    ),
    "qasper": Source(
        name="qasper",
        url=f"{_QASPER}/qasper-train-dev-v0.3.tgz",
        licence=_PAPER,
        description="Qasper v0.3, training and development, read as it is: data.train, data.valid",
        size=10_835_856,
        sha256="a28fdf966db827bcee3d873107d6b6669864fb7ca8fbf73a192f5e39191bdb5a",
    ),
    "qasper-test": Source(
        name="qasper-test",
        url=f"{_QASPER}/qasper-test-and-evaluator-v0.3.tgz",
        licence=_PAPER,
        description="Qasper v0.3, test, read as it is: data.test",
        sha256="72a52a41193e2838b8074f80ac074b94f956b84886c36a61c58a7df4171bdd72",
    ),
    "quality-train": _quality("train"),
    "quality-dev": _quality("dev"),
    "nq-oracle": Source(
        name="nq-oracle",
        licence="MIT (Liu et al., TACL 2024); NQ: CC BY-SA 3.0",
        description="2,655 questions with their gold passage: data.questions, data.passages of nqd",
        **_on_github(_MIDDLE, _MIDDLE_COMMIT, "qa_data", "nq-open-oracle.jsonl.gz"),
    ),
    "nq-30": Source(
        name="nq-30",
        licence="MIT (Liu et al., TACL 2024); NQ: CC BY-SA 3.0",
        description="the same among 29 passages that Contriever found: data.passages of nqd",
        **_on_github(
            _MIDDLE,
            _MIDDLE_COMMIT,
            "qa_data/30_total_documents",
            "nq-open-30_total_documents_gold_at_0.jsonl.gz",
        ),
    ),
}


def fetch(source: Source, folder: Path, progress: bool = True) -> Path:
    """Download, or find, a source's file and verify it.

    An interrupted download goes on where it stopped, by the same call. A file that is there
    already is verified, against the metalink beside it if there is one, and never overwritten.
    A download that fails its checksum is deleted. The file has its name only when it is whole.

    Args:
        source: what to fetch.
        folder: where to; made if missing.
        progress: show a progress bar.

    Returns:
        Path of the verified file.

    Raises:
        DownloadError: no connection, no room, a wrong checksum, or another file at the path.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.file_name
    with _progress_bar(progress) as advance_as:
        if target.exists():
            expected, _ = _expected(source, target, local=True)
            _check_existing(target, expected, advance_as(f"verifying {target.name}"))
        else:
            expected, metalink = _expected(source, target, local=False)
            part = target.with_name(target.name + ".part")
            _check_room(part, expected)
            try:
                fetch_part(
                    source.url, part, expected.digest, expected.size, advance_as(target.name)
                )
            except UnreachableError as error:
                raise DownloadError(f"{error}. {_by_hand(source, target)}") from error
            _check_part(part, expected, source, advance_as(f"verifying {target.name}"))
            _finish(part, target, metalink)
    logger.info("%s: %s matches %s", source.name, target, _in_words(expected))
    return target


def _record_of(target: Path) -> Path:
    return target.with_name(target.name + ".metalink")


def _expected(source: Source, target: Path, local: bool) -> tuple[Expected, bytes | None]:
    """What the file must be, and the metalink that says so; `local` prefers the one kept here."""
    if source.metalink is None:
        algorithm = "sha256" if source.sha256 is not None else "md5"
        digest = (source.sha256 or source.md5 or "").lower()
        return Expected(algorithm, digest, source.size), None
    record = _record_of(target)
    if local and record.exists():
        with record.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        return parse_published(content, source.file_name, str(record)), content
    try:
        content = read_small(source.metalink, MAX_BYTES)
    except UnreachableError as error:
        raise DownloadError(f"{error}. {_by_hand(source, target)}") from error
    return parse_published(content, source.file_name, source.metalink), content


def _by_hand(source: Source, target: Path) -> str:
    beside = f" and {source.metalink} as {_record_of(target)}" if source.metalink else ""
    return (
        f"Is this machine online? Otherwise download {source.url} elsewhere, put it here as "
        f"{target}{beside}, and run the same command again: it verifies without a connection"
    )


def _check_existing(target: Path, expected: Expected, advance: Advance) -> None:
    wrong = _difference(target, expected, advance)
    if wrong:
        raise DownloadError(
            f"{target} exists already and {wrong} instead of {_in_words(expected)}; it is left as "
            "it is. Move or delete it (and a .metalink beside it), or name another folder, and run "
            "the same command again"
        )


def _check_part(part: Path, expected: Expected, source: Source, advance: Advance) -> None:
    wrong = _difference(part, expected, advance)
    if wrong:
        # Nobody can tell which bytes are wrong, so nothing of it can be resumed.
        part.unlink()
        part.with_name(part.name + ".json").unlink(missing_ok=True)
        raise DownloadError(
            f"{source.url} was fetched but {wrong} instead of {_in_words(expected)}; the download "
            "was deleted. It was damaged on the way, or the release changed meanwhile: run the "
            "same command again"
        )


def _difference(path: Path, expected: Expected, advance: Advance) -> str:
    """What is wrong with a file, in words; empty if nothing."""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        return f"has {size:,} bytes"
    if expected.algorithm == GIT:
        digest = git_blob(size)
    else:
        digest = hashlib.new(expected.algorithm, usedforsecurity=False)
    done = 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
            done += len(block)
            advance(done, size)
    found = digest.hexdigest()
    return "" if found == expected.digest else f"has the {expected.algorithm} {found}"


def _in_words(expected: Expected) -> str:
    size = "" if expected.size is None else f"{expected.size:,} bytes with "
    release = f" (release {expected.release})" if expected.release else ""
    return f"{size}the {expected.algorithm} {expected.digest}{release}"


def _check_room(part: Path, expected: Expected) -> None:
    if expected.size is None:
        return
    needed = expected.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{part.parent} has {free / 1e9:.2f} GB free where {needed / 1e9:.2f} GB are still "
            "needed; make room or name another folder with --to"
        )


def _finish(part: Path, target: Path, metalink: bytes | None) -> None:
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())  # or a power cut could leave the name without the content
    if metalink is not None:
        temporary = part.with_name(f".{target.name}.metalink.tmp-{os.getpid()}")
        temporary.write_bytes(metalink)
        temporary.replace(_record_of(target))
    if target.exists():
        raise DownloadError(f"{target} appeared during the download and is left as it is")
    part.replace(target)
    part.with_name(part.name + ".json").unlink(missing_ok=True)


@contextmanager
def _progress_bar(show: bool) -> Iterator[Callable[[str], Advance]]:
    """Gives a function that adds one bar and returns what moves it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bars:

        def advance_as(description: str) -> Advance:
            task = bars.add_task(description, total=None)

            def advance(done: int, total: int | None) -> None:
                bars.update(task, completed=done, total=total)

            return advance

        yield advance_as
