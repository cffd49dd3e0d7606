"""TAPE's records from LMDB, from a JSON list (`.json`) or from JSON lines, plain or compressed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lcframework.data.fasta_files import read_chunks
from lcframework.data.jsonl import read_jsonl
from lcframework.data.tape.restricted_pickle import loads
from lcframework.errors import DataError

Record = tuple[str, dict[str, Any]]
COMPRESSED = ("", ".gz", ".xz", ".zst")
SUFFIXES = (".lmdb", *(f".{kind}{how}" for kind in ("json", "jsonl") for how in COMPRESSED))


def read_records(path: Path) -> Iterator[Record]:
    """The records of one file.

    Args:
        path: its name ends in one of `SUFFIXES`.

    Yields:
        Where a record stood, in words, and the record.

    Raises:
        DataError: the file is missing, damaged or of another kind, or lmdb is not installed.
    """
    if path.suffix == ".lmdb":
        yield from _from_lmdb(path)
    elif ".json" in path.suffixes:
        yield from _from_json(path)
    elif ".jsonl" in path.suffixes:
        yield from read_jsonl(path)
    else:
        raise DataError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}.")


def _from_json(path: Path) -> Iterator[Record]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Check the spelling of its path.")
    try:
        rows = json.loads(b"".join(part for part, _ in read_chunks(path, 1 << 20)))
    except ValueError as error:
        raise DataError(
            f"{path}: not JSON ({error}). It may be cut or damaged: download it again; JSON lines "
            "end in .jsonl."
        ) from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: TAPE's JSON files hold a list, this holds {type(rows).__name__}.")
    for index, row in enumerate(rows):
        where = f"{path}, record {index}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: an object is wanted, this is a {type(row).__name__}.")
        yield where, row


def _from_lmdb(path: Path) -> Iterator[Record]:
    try:
        import lmdb
    except ImportError as error:
        raise DataError(
            f"{path}: LMDB files need the package lmdb, which is not installed. Run "
            "`pip install 'lcframework[lmdb]'`, or convert the file to JSON lines."
        ) from error
    if not path.exists():
        raise DataError(f"{path}: there is no such file. Check the spelling of its path.")
    try:
        with (
            lmdb.open(
                str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
            ) as environment,
            environment.begin() as transaction,
        ):
            yield from _of_transaction(path, transaction)
    except lmdb.Error as error:
        raise DataError(f"{path}: no readable LMDB file ({error}). Copy it again.") from error


def _of_transaction(path: Path, transaction: Any) -> Iterator[Record]:
    raw = transaction.get(b"num_examples")
    if raw is None:
        raise DataError(f"{path}: it has no `num_examples`, so it is no file of TAPE.")
    count = loads(raw, f"{path}, num_examples")
    if not isinstance(count, int) or count < 0:
        raise DataError(f"{path}: `num_examples` is {count!r}, not a number.")
    for index in range(count):
        where = f"{path}, record {index}"
        raw = transaction.get(str(index).encode())
        if raw is None:
            raise DataError(f"{where} of {count} is missing. The file is cut: copy it again.")
        row = loads(raw, where)
        if not isinstance(row, dict):
            raise DataError(f"{where}: a dict is wanted, this is a {type(row).__name__}.")
        yield where, row
