"""Reading protein FASTA as blocks of tokens, vectorised over whole blocks of bytes.

What becomes of each character stands in the table of `fasta_rules`. The identifier is the header's
first word; of `sp|P12345|NAME` and `tr|P12345|NAME` it is the accession.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcframework.data import fasta_rules
from lcframework.data.fasta_files import read_chunks
from lcframework.data.fasta_rules import FastaCounts, NucleotideWatch
from lcframework.data.ragged import gather_ranges, segment_sums
from lcframework.errors import DataError

BLOCK_BYTES = 4 << 20
_NEWLINE, _GREATER, _BAR = ord("\n"), ord(">"), ord("|")
_WORD_END = np.zeros(256, dtype=np.bool_)
_WORD_END[list(b"\n\r \t")] = True


@dataclass(frozen=True)
class FastaBlock:
    """Whole records, R of them.

    Attributes:
        path: the file.
        tokens: (sum of lengths,) uint8 token ids of the residues, behind one another.
        lengths: (R,) int64 residues per record, each at least 1.
        id_bytes: uint8, the identifiers behind one another.
        id_lengths: (R,) int64 bytes per identifier.
        lines: (R,) int64, 1-based line of each header.
        consumed: bytes of the file on disk read so far.
    """

    path: Path
    tokens: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    id_bytes: NDArray[np.uint8]
    id_lengths: NDArray[np.int64]
    lines: NDArray[np.int64]
    consumed: int

    def name(self, record: int) -> str:
        """The identifier of one of the block's records."""
        end = int(self.id_lengths[: record + 1].sum())
        start = end - int(self.id_lengths[record])
        return self.id_bytes[start:end].tobytes().decode(errors="replace")


class _FileState:
    """What carries over from one block of a file to the next."""

    def __init__(self, path: Path, counts: FastaCounts) -> None:
        self.path = path
        self.counts = counts
        self.line = 1
        self.records = 0
        self.nucleotides = NucleotideWatch(path)


def read_fasta(
    paths: Sequence[Path], counts: FastaCounts | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[FastaBlock]:
    """Read files one after another.

    Memory is bounded by a small multiple of `block_bytes` plus the longest record.

    Args:
        paths: plain, gzip, xz or zstd files (see `fasta_files.expand_inputs`).
        counts: filled while reading, if given.
        block_bytes: decompressed bytes per block.

    Yields:
        Blocks of at least one record each, in file order.

    Raises:
        DataError: a file breaks the rules of `fasta_rules`, is truncated or cannot be read.
            Duplicate identifiers are the caller's to find.
    """
    counts = FastaCounts() if counts is None else counts
    for path in paths:
        state = _FileState(path, counts)
        for text, consumed in _whole_records(path, block_bytes):
            block = _parse(text, consumed, state)
            if len(block.lengths):
                yield block
        if not state.records:
            raise DataError(
                f"{path} is empty: it holds no FASTA record. Remove it from the input or check how "
                "it was made."
            )
        state.nucleotides.judge()


def _whole_records(path: Path, block_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Blocks of bytes that end with a newline and, blank lines aside, start with a header."""
    pending: list[bytes] = []
    in_records = False
    consumed, last, line = 0, b"", 1
    for chunk, consumed in read_chunks(path, block_bytes):
        if not in_records:
            in_records = _reaches_header(chunk, path, line)
            line += chunk.count(b"\n")
        cut = chunk.rfind(b"\n>") + 1
        # The border may fall between the newline and the ">".
        if last == b"\n" and chunk.startswith(b">") and pending:
            yield b"".join(pending), consumed
            pending = []
        last = chunk[-1:]
        if cut:
            yield b"".join([*pending, chunk[:cut]]), consumed
            pending = []
        pending.append(chunk[cut:])
    text = b"".join(pending)
    if text:
        yield text if text.endswith(b"\n") else text + b"\n", consumed


def _reaches_header(chunk: bytes, path: Path, line: int) -> bool:
    text = chunk.lstrip()
    if text and not text.startswith(b">"):
        line += chunk[: len(chunk) - len(text)].count(b"\n")
        shown = text.splitlines()[0][:40].decode(errors="replace")
        raise DataError(
            f"{path}, line {line}: text before the first '>' ({shown!r}). A FASTA file starts with "
            "a header line; check that this is one, and how it is compressed."
        )
    return bool(text)


def _parse(text: bytes, consumed: int, state: _FileState) -> FastaBlock:
    raw = np.frombuffer(text, dtype=np.uint8)
    newlines = np.flatnonzero(raw == _NEWLINE)
    starts = np.flatnonzero(raw == _GREATER)
    starts = starts[(starts == 0) | (raw[starts - 1] == _NEWLINE)]
    header_rank = np.searchsorted(newlines, starts)
    lines = state.line + header_rank
    id_bytes, id_lengths = _identifiers(raw, starts, lines, state.path)

    body = raw.copy()
    in_header = np.zeros(len(raw), dtype=np.int8)
    in_header[starts] = 1
    in_header[newlines[header_rank]] = -1
    body[np.cumsum(in_header, dtype=np.int8).view(np.bool_)] = _NEWLINE

    codes = fasta_rules.CODES[body]
    bad = fasta_rules.first_bad_character(codes)
    if bad is not None:
        _refuse_character(raw, bad, newlines, starts, state)
    fasta_rules.resolve_stops(codes, starts, state.counts)
    fasta_rules.count_rules(body, codes, state.counts)
    is_residue = codes < fasta_rules.FIRST_NON_RESIDUE
    lengths = segment_sums(is_residue, starts)
    tokens = codes[is_residue]
    block = FastaBlock(state.path, tokens, lengths, id_bytes, id_lengths, lines, consumed)
    _refuse_empty_records(block)
    state.nucleotides.see(body, starts, lengths)
    state.records += len(starts)
    state.line += len(newlines)
    state.counts.records += len(starts)
    state.counts.residues += len(tokens)
    return block


def _identifiers(
    raw: NDArray[np.uint8], starts: NDArray[np.int64], lines: NDArray[np.int64], path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not starts.size:
        return raw[:0], starts
    word_ends = np.flatnonzero(_WORD_END[raw])
    begins = starts + 1
    ends = word_ends[np.searchsorted(word_ends, begins)]
    nameless = np.flatnonzero(ends == begins)
    if nameless.size:
        raise DataError(
            f"{path}, line {int(lines[nameless[0]])}: the header has no identifier. Write one "
            "right after '>', without a blank."
        )
    # One bar past every place that is looked up, so that each search finds one.
    bars = np.append(np.flatnonzero(raw == _BAR), len(raw) + 3)
    # A byte after the identifier's first always exists: at the least the header's newline.
    first, second = raw[begins], raw[begins + 1]
    database = (first == ord("s")) & (second == ord("p"))
    database |= (first == ord("t")) & (second == ord("r"))
    accessions = begins + 3
    accession_ends = np.minimum(bars[np.searchsorted(bars, accessions)], ends)
    is_uniprot = database & (bars[np.searchsorted(bars, begins)] == begins + 2)
    is_uniprot &= accession_ends > accessions
    begins = np.where(is_uniprot, accessions, begins)
    ends = np.where(is_uniprot, accession_ends, ends)
    return gather_ranges(raw, begins, ends - begins), ends - begins


def _refuse_character(
    raw: NDArray[np.uint8],
    where: int,
    newlines: NDArray[np.int64],
    starts: NDArray[np.int64],
    state: _FileState,
) -> None:
    line = state.line + int(np.searchsorted(newlines, where))
    header = int(starts[np.searchsorted(starts, where) - 1])
    name = raw[header + 1 : header + 200].tobytes().split()[0].decode(errors="replace")
    raise DataError(
        f"{state.path}, line {line}: record {name} holds {chr(raw[where])!r}, which is no "
        "amino-acid letter. Remove it, or write X for an unknown residue."
    )


def _refuse_empty_records(block: FastaBlock) -> None:
    empty = np.flatnonzero(block.lengths == 0)
    if empty.size:
        record = int(empty[0])
        raise DataError(
            f"{block.path}, line {int(block.lines[record])}: record {block.name(record)} has no "
            "residues. Remove the record or add its sequence."
        )
