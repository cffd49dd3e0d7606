"""Token F1 of answers, English and Chinese (LongBench `metrics.py`: qa_f1_score, qa_f1_zh_score;
the English one is SQuAD's, Rajpurkar et al. 2016)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from lcframework.scoring.longbench.chinese import words

ARTICLES = re.compile(r"\b(a|an|the)\b")
ENGLISH_MARKS = frozenset(string.punctuation)
CHINESE_MARKS = ENGLISH_MARKS | frozenset(
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."  # noqa: RUF001
)
"""The official list; it has the closing 》 and not the opening one."""


def normalize(text: str) -> str:
    """Lower case without punctuation, articles and surplus space, in this order."""
    kept = "".join(one for one in text.lower() if one not in ENGLISH_MARKS)
    return " ".join(ARTICLES.sub(" ", kept).split())


def normalize_zh(text: str) -> str:
    """Lower case without punctuation and without any space."""
    return "".join("".join(one for one in text.lower() if one not in CHINESE_MARKS).split())


def f1(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of two bags of tokens; 0 where they share none, two empty ones included."""
    same = (Counter(prediction) & Counter(reference)).total()
    if same == 0:
        return 0.0
    precision, recall = same / len(prediction), same / len(reference)
    return 2 * precision * recall / (precision + recall)


def qa_f1(prediction: str, reference: str) -> float:
    """F1 of normalised words, in [0, 1]."""
    return f1(normalize(prediction).split(), normalize(reference).split())


def qa_f1_zh(prediction: str, reference: str) -> float:
    """F1 of jieba's words, each normalised, empty ones dropped.

    Raises:
        ConfigError: jieba is not installed.
    """
    first, second = (
        [kept for word in words(text) if (kept := normalize_zh(word))]
        for text in (prediction, reference)
    )
    return f1(first, second)
