"""What the readers of QA data sets share: checked fields of a row, documents made of passages."""

from collections.abc import Iterator, Sequence
from typing import Any

from lcframework.data.focused.example import QAExample, Span
from lcframework.errors import DataError


def text_of(row: dict[str, Any], name: str, where: str) -> str:
    """A field that must be a text.

    Raises:
        DataError: it is not.
    """
    if not isinstance(row.get(name), str):
        raise DataError(f"{where}: {name} must be a text.")
    return row[name]


def texts_of(row: dict[str, Any], name: str, where: str) -> list[str]:
    """A field that must be a list of texts, not empty.

    Raises:
        DataError: it is not.
    """
    given = row.get(name)
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given) or not given:
        raise DataError(f"{where}: {name} must be a list of texts with at least one.")
    return given


def objects_of(row: Any, name: str, where: str) -> Iterator[dict[str, Any]]:
    """A field that must be a list of objects.

    Raises:
        DataError: it is not.
    """
    given = row.get(name) if isinstance(row, dict) else None
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise DataError(f"{where}: {name} must be a list of objects.")
    return iter(given)


def joined(texts: Sequence[str], between: str = "\n\n") -> tuple[str, tuple[Span, ...]]:
    """The texts as one document, and the range of each."""
    spans, at = [], 0
    for text in texts:
        spans.append((at, at + len(text)))
        at += len(text) + len(between)
    return between.join(texts), tuple(spans)


def checked(where: str, **values: Any) -> QAExample:
    """An example that knows where it stood.

    Raises:
        DataError: it is not sound; the message begins with `where`.
    """
    try:
        return QAExample(**values, source=where)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
