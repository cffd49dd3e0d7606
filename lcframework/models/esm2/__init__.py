"""ESM-2 as transformers builds it, run on packed proteins: the baseline beside LC-PLM."""

from lcframework.models.esm2.model import ESM2

__all__ = ["ESM2"]
