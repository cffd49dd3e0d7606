"""Synthetic long-context tasks after RULER (Hsieh et al., arXiv 2404.06654), text of our own."""

from lcframework.data.ruler.generate import make_items
from lcframework.data.ruler.tasks import TASKS

__all__ = ["TASKS", "make_items"]
