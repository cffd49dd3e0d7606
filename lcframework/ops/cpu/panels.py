"""Panels: a block of tokens of one channel tile, copied to and from a kernel's own memory.

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
def load_panel(source, first, sense, size, low, high, panel):
    """Fill `panel` with `size` tokens of `source` (T, E): first, first + sense, ..."""
    for k in range(size):
        row = source[first + sense * k, low:high]
        for e in range(row.size):
            panel[k, e] = wide(row[e])


@inlined
def load_flat(source, stride, first, sense, size, low, high, panel):
    """As `load_panel`, from rows `stride` elements apart in a flat array."""
    for k in range(size):
        at = (first + sense * k) * stride
        row = source[at + low : at + high]
        for e in range(row.size):
            panel[k, e] = wide(row[e])


@inlined
def store_panel(panel, first, sense, size, low, high, target):
    """Write `size` rows of a panel to their tokens of `target` (T, E)."""
    for k in range(size):
        row = target[first + sense * k, low:high]
        for e in range(row.size):
            put(row, e, panel[k, e])
