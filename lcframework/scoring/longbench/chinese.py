"""Words of a Chinese text, by jieba as in LongBench's `metrics.py`."""

import functools
import logging
from typing import Any

from lcframework.errors import ConfigError


@functools.cache
def _jieba() -> Any:
    try:
        import jieba
    except ImportError as error:
        raise ConfigError(
            "LongBench's Chinese tasks are scored on the words of jieba, which is not installed: "
            'run pip install "lcframework[zh]", or leave out the tasks multifieldqa_zh, dureader '
            "and vcsum."
        ) from error
    jieba.setLogLevel(logging.WARNING)
    return jieba


def words(text: str) -> list[str]:
    """The text in jieba's words (accurate mode, with its own dictionary), spaces included.

    Raises:
        ConfigError: jieba is not installed.
    """
    return list(_jieba().cut(text, cut_all=False))
