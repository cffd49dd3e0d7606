"""The two files that `lcf embed` writes, part by part, so that memory holds one pack's rows.

`.npz`: plain numpy arrays. `.parquet`: one row per protein or residue, for pandas, polars, DuckDB;
written with pyarrow, an optional package.
"""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcframework.data.alphabet import decode
from lcframework.errors import ConfigError

SUFFIXES = (".npz", ".parquet")
Parts = Iterator[tuple[int, int, NDArray[np.float32]]]


@dataclass(frozen=True)
class Embedded:
    """What is written.

    Attributes:
        names: S identifiers.
        proteins: S arrays of token ids, one per residue.
        per_residue: whether a row is a residue or a protein.
        about: what the numbers are, such as {"layer": "4", "convention": "residual"}.
        parts: (first protein, one behind the last, (rows, d) float32), in order.
    """

    names: list[str]
    proteins: Sequence[NDArray[np.uint8]]
    per_residue: bool
    about: dict[str, str]
    parts: Parts


def check_suffix(output: Path) -> None:
    """Refuse a kind of file that cannot be written, before anything is computed.

    Raises:
        ConfigError: another suffix, or pyarrow is missing.
    """
    if output.suffix not in SUFFIXES:
        raise ConfigError(
            f"-o {output}: embeddings are written as {' or '.join(SUFFIXES)}; give a name that "
            "ends so."
        )
    if output.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"-o {output}: Parquet needs the package pyarrow, which is not installed. Run "
                "`pip install 'lcframework[parquet]'`, or write .npz."
            ) from error


def write_embeddings(path: Path, what: Embedded) -> None:
    """Write the file; its suffix decides the kind.

    Args:
        path: ends in `.npz` or `.parquet`; overwritten.
        what: the embeddings.
    """
    (_write_parquet if path.suffix == ".parquet" else _write_npz)(path, what)


def _write_npz(path: Path, what: Embedded) -> None:
    lengths = np.array([len(one) for one in what.proteins], dtype=np.int64)
    rows = int(lengths.sum()) if what.per_residue else len(lengths)
    small = {
        "ids": np.array(what.names),
        "lengths": lengths,
        "about": np.array([f"{key} {value}" for key, value in what.about.items()]),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            _stream(member, what.parts, rows)


def _stream(member: Any, parts: Parts, rows: int) -> None:
    header_written = False
    for _, _, part in parts:
        if not header_written:
            shape = (rows, part.shape[1])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(member, header)
            header_written = True
        member.write(np.ascontiguousarray(part, dtype="<f4").tobytes())


def _write_parquet(path: Path, what: Embedded) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for first, last, values in what.parts:
            schema = _schema(pa, values.shape[1], what)
            if writer is None:
                writer = pq.ParquetWriter(path, schema)
            flat = pa.array(np.ascontiguousarray(values, dtype="<f4").reshape(-1))
            vectors = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
            columns = [*_labels(what, first, last), vectors]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    finally:
        if writer is not None:
            writer.close()


def _schema(pa: Any, width: int, what: Embedded) -> Any:
    vector = ("embedding", pa.list_(pa.float32(), width))
    if what.per_residue:
        fields = [("id", pa.string()), ("position", pa.int64()), ("residue", pa.string()), vector]
    else:
        fields = [("id", pa.string()), ("length", pa.int64()), vector]
    return pa.schema(fields, metadata=what.about)


def _labels(what: Embedded, first: int, last: int) -> list[Any]:
    """The columns beside the vectors."""
    import pyarrow as pa

    lengths = np.array([len(one) for one in what.proteins[first:last]], dtype=np.int64)
    names = what.names[first:last]
    if not what.per_residue:
        return [pa.array(names), pa.array(lengths)]
    return [
        pa.array(np.repeat(np.array(names, dtype=object), lengths), pa.string()),
        pa.array(np.concatenate([np.arange(1, length + 1) for length in lengths.tolist()])),
        pa.array(list("".join(decode(one) for one in what.proteins[first:last]))),
    ]
