"""Imported while torch.compile traces, and only then: it costs most of a second."""

import torch


@torch.compiler.disable(reason="the CPU kernels are compiled by Numba")
def apply(function, *arguments):
    """`function.apply(*arguments)` outside the compiled graph."""
    return function.apply(*arguments)
