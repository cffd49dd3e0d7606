"""LongBench and LongBench-E (Bai et al., arXiv 2308.14508): tasks, prompts, reader."""

from lcframework.data.longbench.reader import LongBenchItem, read_task
from lcframework.data.longbench.tasks import E_TASKS, TASKS, Task

__all__ = ["E_TASKS", "TASKS", "LongBenchItem", "Task", "read_task"]
