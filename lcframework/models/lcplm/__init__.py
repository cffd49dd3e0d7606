"""LC-PLM: a bidirectional Mamba protein language model with shared projections (arXiv
2411.08909)."""

from lcframework.models.lcplm.model import LCPLM

__all__ = ["LCPLM"]
