"""Attention of questions to a fixed, clustered context."""

from lcframework.ops.squeezed_attention.dispatch import squeezed_attention
from lcframework.ops.squeezed_attention.layout import FixedKV, Level, SelectionRule

__all__ = ["FixedKV", "Level", "SelectionRule", "squeezed_attention"]
