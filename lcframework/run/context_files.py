"""What `lcf context` reads and writes: documents, questions, the model of a context; and the bars
that are shown meanwhile."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lcframework.errors import CheckpointError, DataError
from lcframework.models.llm.load import load_llm
from lcframework.models.squeezed import SqueezedContext
from lcframework.models.squeezed.artifact import read_about

log = logging.getLogger(__name__)
BINARY = {b"%PDF": "a PDF (pdftotext FILE -)", b"PK\x03\x04": "a zip archive, docx or epub",
          b"\x1f\x8b": "gzip (gunzip it)", b"\xfd7zXZ": "xz (unxz it)"}  # fmt: skip
EVERY_S = 10.0
Progress = Callable[[str, int, int], None]


def read_document(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        DataError: missing, a folder, empty, binary or in another encoding.
    """
    content = _read(path, "document")
    for start, what in BINARY.items():
        if content.startswith(start):
            raise DataError(f"{path} is not plain text but {what}. Turn it into a text file first.")
    text = _decode(path, content)
    if not text.strip():
        raise DataError(f"{path} is empty: there is no document to read.")
    return text


def read_questions(path: str) -> list[str]:
    """One question a line; empty lines are skipped.

    Args:
        path: a UTF-8 file, or "-" for standard input.

    Raises:
        DataError: missing, no text, or without a question.
    """
    if path == "-":
        text = sys.stdin.read()
    else:
        text = _decode(Path(path), _read(Path(path), "file of questions"))
    questions = [line.strip() for line in text.splitlines() if line.strip()]
    if not questions:
        raise DataError(f"{path} holds no question; write one on each line.")
    return questions


def _read(path: Path, what: str) -> bytes:
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a {what}.")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such {what}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def _decode(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 text. Turn it into UTF-8, for example with "
            f"`iconv -f latin1 -t utf-8 {path.name}`."
        ) from error
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise DataError(f"{path}, line {line}: a NUL byte; this is not a text file.")
    return text


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse now what could not be written after minutes of work.

    Raises:
        DataError: the file exists, or its folder cannot be written to.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(
            f"{path} exists already and is left as it is. Name another file, or add --overwrite."
        )
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise DataError(f"{path} cannot be written: {place} is no folder that takes files.")


def open_context(
    path: Path, *, model: str | None = None, dtype: str | None = None, device: str = "auto"
) -> SqueezedContext:
    """Load a context with its model.

    Args:
        path: the context's file.
        model: path or name of its model; None: where the context was built.
        dtype: of the weights; None: the one it was built in.
        device: as in `load_llm`.

    Raises:
        DataError: no context file, or one of another model, dtype or tokenizer.
        CheckpointError: the model is not where it was, or cannot be loaded.
    """
    about = read_about(path)  # before a model is loaded
    dtype = about["model"]["dtype"] if dtype in (None, "auto") else dtype
    try:
        network, tokenizer = load_llm(
            model or about["model_path"] or "", dtype=str(dtype), device=device,
            attn_implementation="squeezed",
        )  # fmt: skip
    except CheckpointError as error:
        if model is not None:
            raise
        raise CheckpointError(
            f"{path} was built with {about['model']['architecture']} from "
            f"{about['model_path'] or 'an unknown place'}, which cannot be loaded. {error} If the "
            "model is elsewhere now, name it with --model."
        ) from error
    return SqueezedContext.load(path, network, tokenizer)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Gives what `SqueezedContext.build` reports to: bars on a terminal, lines in a log."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield report


def _lines() -> Progress:
    last: dict[str, float] = {}

    def report(what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if done == of or now - last.get(what, now - EVERY_S) >= EVERY_S:
            last[what] = now
            log.info("%s: %s of %s", what, f"{done:,}", f"{of:,}")

    return report
