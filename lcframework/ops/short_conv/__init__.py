"""Short depthwise convolutions over packed segments, in both directions."""

from lcframework.ops.short_conv.dispatch import bidirectional_short_conv

__all__ = ["bidirectional_short_conv"]
