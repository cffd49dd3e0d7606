"""Bidirectional selective scan (Mamba-1) over packed segments."""

from lcframework.ops.bidirectional_scan.dispatch import bidirectional_scan, choose_backend

__all__ = ["bidirectional_scan", "choose_backend"]
