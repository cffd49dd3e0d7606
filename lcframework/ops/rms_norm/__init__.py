"""RMS norm at the head of a residual branch."""

from lcframework.ops.rms_norm.dispatch import branch_norm

__all__ = ["branch_norm"]
