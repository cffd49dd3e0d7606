"""Imported while torch.compile traces, and only then: it costs most of a second."""

import torch


@torch.compiler.disable(reason="loops that depend on the data, in threads or compiled by Numba")
def apply(function, *arguments):
    """`function.apply(*arguments)` outside the compiled graph."""
    return function.apply(*arguments)
