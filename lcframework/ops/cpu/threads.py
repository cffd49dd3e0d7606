"""Python threads for kernels that release the GIL.

Numba's own parallel loops are not used: their default layer must not be entered by two threads at
once, and a process that forks after using them hangs. Work is cut the same way whatever the number
of threads, so results do not depend on it.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

SHARES = 4
"""Calls per thread: where a thread is held up, the others take over what is left of its tasks."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _pool_of(size: int) -> ThreadPoolExecutor:
    """The process's pool, of at least `size` threads."""
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            # The smaller one ends its threads when its last work is done and nobody holds it.
            _pool, _pool_size = ThreadPoolExecutor(size, "cpu-kernel"), size
        return _pool


def _forget_pool() -> None:
    """Threads do not survive a fork, and the lock may have been held."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run_tasks(work: Callable[[int, int], None], tasks: int, parallel: bool = True) -> None:
    """Call `work(first, last)` until every task in [0, tasks) is done.

    Args:
        work: does the tasks from `first` to before `last`, which depend on no other task.
        tasks: their number.
        parallel: False runs them in this thread, for work that is smaller than waking a thread.

    Uses at most `torch.get_num_threads()` threads, this one among them.
    """
    threads = min(torch.get_num_threads(), tasks) if parallel else 1
    if threads <= 1:
        work(0, tasks)
        return
    calls = min(tasks, SHARES * threads)
    turn = itertools.count()  # its next() is atomic

    def take() -> None:
        while (i := next(turn)) < calls:
            work(tasks * i // calls, tasks * (i + 1) // calls)

    pool = _pool_of(threads - 1)
    others = [pool.submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        for other in others:
            if not other.cancel():
                other.result()
