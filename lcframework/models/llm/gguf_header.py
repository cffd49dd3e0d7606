"""The header of a GGUF file, read in a moment: what the model is, and whether the file is whole.

transformers does the loading; this finds out before, without gigabytes being read, what it would
fail on or, worse, silently leave out. Format: the GGUF specification of ggml, versions 2 and 3.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcframework.errors import CheckpointError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9
ALIGNMENT = 32


@dataclass(frozen=True)
class GGUFHeader:
    """What a file says about itself.

    Attributes:
        architecture: such as "llama".
        values: metadata; arrays are left out.
        tensors: names of the tensors.
    """

    architecture: str
    values: dict[str, Any]
    tensors: frozenset[str]


class _Reader:
    """Reads little-endian values one after another; struct.error past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def unpack(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.place)
        self.place += struct.calcsize(f"<{code}")
        return value

    def skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self.data):
            raise struct.error("past the end")

    def text(self) -> str:
        start, size = self.place + 8, self.unpack("Q")
        self.skip(size)
        return self.data[start : start + size].decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """One value; None for an array."""
        if kind in SCALARS:
            return self.unpack(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            raise ValueError(f"a value of unknown type {kind}")
        element, count = self.unpack("I"), self.unpack("Q")
        if element in SCALARS:
            self.skip(count * struct.calcsize(f"<{SCALARS[element]}"))
        elif element == STRING:
            for _ in range(count):
                self.skip(self.unpack("Q"))
        else:
            raise ValueError(f"an array of type {element}")
        return None


def read_gguf_header(path: Path) -> GGUFHeader:
    """Read the header and compare the file's size with what its tensors need.

    Raises:
        CheckpointError: no GGUF file, a version or tensor type that is not known, or a file cut
            short.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise CheckpointError(
                f"{path} does not begin with the four letters GGUF: it is no GGUF file, or a "
                "pointer to one (Git LFS) instead of the file itself."
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(_Reader(data))
            except struct.error as error:
                raise CheckpointError(
                    f"{path} ends inside its header: it was cut short. Fetch it again."
                ) from error
            except ValueError as error:
                raise CheckpointError(f"{path} cannot be read: it has {error}.") from error


def _parse(reader: _Reader) -> GGUFHeader:
    reader.skip(4)
    version = reader.unpack("I")
    if version not in VERSIONS:
        raise ValueError(f"GGUF version {version}; known are {VERSIONS}")
    n_tensors, n_values = reader.unpack("Q"), reader.unpack("Q")
    values: dict[str, Any] = {}
    for _ in range(n_values):
        key = reader.text()
        value = reader.value(reader.unpack("I"))
        if value is not None:
            values[key] = value
    names, end = set(), 0
    for _ in range(n_tensors):
        name = reader.text()
        elements = 1
        for _ in range(reader.unpack("I")):
            elements *= reader.unpack("Q")
        kind, offset = reader.unpack("I"), reader.unpack("Q")
        names.add(name)
        end = max(end, offset + _bytes(elements, kind))
    alignment = values.get("general.alignment", ALIGNMENT)
    start = -(-reader.place // alignment) * alignment
    if start + end > len(reader.data):
        raise ValueError(
            f"{len(reader.data):,} bytes where its tensors need {start + end:,}; it was cut short, "
            "fetch it again"
        )
    if "general.architecture" not in values:
        raise ValueError("no general.architecture in its metadata")
    return GGUFHeader(str(values["general.architecture"]), values, frozenset(names))


def _bytes(elements: int, kind: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise ValueError(f"tensors of the unknown type {kind}; `pip install -U gguf`") from None
    return elements // block * size
