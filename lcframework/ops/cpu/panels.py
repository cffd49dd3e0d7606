"""Panels: a block of tokens of one channel tile, copied to and from a kernel's own memory.

A span is (first, sense, size, low, high): `size` tokens first, first + sense, ... and the channels
[low, high).

Kernels compute on panels in loops of constant length. LLVM vectorises those; loops over rows of the
caller's arrays, whose addresses and lengths it does not know, only for plain copies.
"""

from lcframework.ops.cpu.compile import inlined
from lcframework.ops.cpu.math import put, wide


@inlined
def block_span(start, stop, d, block, length):
    """First token in the direction's time, and size, of a block of the segment [start, stop)."""
    done = block * length
    return (start + done if d == 0 else stop - 1 - done), min(length, stop - start - done)


@inlined
def copy_rows(source, target):
    """target[n, e] = source[n, e] as far as both reach.

    A slice assignment would do, but for its error message numba compiles string functions for
    three seconds.
    """
    for n in range(min(source.shape[0], target.shape[0])):
        for e in range(min(source.shape[1], target.shape[1])):
            target[n, e] = source[n, e]


@inlined
def load_panel(source, span, panel):
    """Fill `panel` with a span of `source` (T, E)."""
    first, sense, size, low, high = span
    for k in range(size):
        row = source[first + sense * k, low:high]
        for e in range(row.size):
            panel[k, e] = wide(row[e])


@inlined
def load_flat(source, stride, span, panel):
    """As `load_panel`, from rows `stride` elements apart in a flat array."""
    first, sense, size, low, high = span
    for k in range(size):
        at = (first + sense * k) * stride
        row = source[at + low : at + high]
        for e in range(row.size):
            panel[k, e] = wide(row[e])


@inlined
def store_panel(panel, span, target):
    """Write a panel to its span of `target` (T, E)."""
    first, sense, size, low, high = span
    for k in range(size):
        row = target[first + sense * k, low:high]
        for e in range(row.size):
            put(row, e, panel[k, e])
