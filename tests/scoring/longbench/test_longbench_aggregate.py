"""Task numbers, buckets and averages by hand; the metric over several ranks' states."""

import numpy as np
import pytest
import torch

from lcframework.scoring.longbench import (
    CATEGORIES,
    METRICS,
    averages,
    bucket_scores,
    task_interval,
    task_score,
)
from lcframework.scoring.longbench.metric import LongBenchMetric


def test_the_task_number_is_rounded_percent():
    assert task_score([1.0, 0.0, 0.0]) == 33.33
    assert task_score([0.5]) == 50.0
    with pytest.raises(ValueError, match="no score"):
        task_score([])


def test_interval_of_a_task():
    scores = [0.0, 1.0] * 50
    found = task_interval(scores)
    assert found.value == 50.0 and found.n == 100
    half = 1.96 * 50 / np.sqrt(100)
    assert found.low == pytest.approx(50 - half, abs=2) and found.high == pytest.approx(
        50 + half, abs=2
    )
    assert task_interval([1.0, 0.0, 0.0]).value == 33.33


def test_buckets_take_their_lower_end():
    found = bucket_scores([1.0, 0.0, 0.5, 1.0], [0, 3999, 4000, 7999])
    assert found == {"0-4k": 50.0, "4-8k": 75.0, "8k+": None}
    assert bucket_scores([0.25], [8000])["8k+"] == 25.0


def test_every_task_is_in_one_category():
    assert sorted(one for tasks in CATEGORIES.values() for one in tasks) == sorted(METRICS)
    assert len(METRICS) == 21


def test_averages_of_a_choice_say_what_they_rest_on():
    found = averages({"hotpotqa": 30.0, "2wikimqa": 10.0, "lcc": 60.0, "dureader": 8.0})
    assert found["all tasks"] == (27.0, 4, 21)
    assert found["multi-document QA"] == (16.0, 3, 4)
    assert "summarization" not in found
    assert found["English"] == ((20.0 + 60.0) / 2, 3, 16)
    assert found["Chinese"] == ((8.0 + 60.0) / 2, 2, 7)
    assert averages({}) == {}
    with pytest.raises(ValueError, match="no LongBench task"):
        averages({"nq": 1.0})


def test_the_leaderboards_average_of_a_published_row():
    # GPT-3.5-Turbo-16k, README of LongBench: English Avg 44.0, Chinese Avg 44.5
    row = {
        "narrativeqa": 23.6, "qasper": 43.3, "multifieldqa_en": 52.3, "multifieldqa_zh": 61.2,
        "hotpotqa": 51.6, "2wikimqa": 37.7, "musique": 26.9, "dureader": 28.7, "gov_report": 29.5,
        "qmsum": 23.4, "multi_news": 26.7, "vcsum": 16.0, "trec": 68.0, "triviaqa": 91.4,
        "samsum": 41.7, "lsht": 29.2, "passage_count": 4.5, "passage_retrieval_en": 71.0,
        "passage_retrieval_zh": 77.5, "lcc": 54.7, "repobench-p": 53.6,
    }  # fmt: skip
    found = averages(row)
    assert round(found["English"][0], 1) == 44.0 and found["English"][1:] == (16, 16)
    assert round(found["Chinese"][0], 1) == 44.5 and found["Chinese"][1:] == (7, 7)


def test_the_metric_counts_an_item_once_over_all_ranks():
    first, second = LongBenchMetric(), LongBenchMetric()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert first.compute() == {}
    first.reset()
    first.update("hotpotqa", 0, "Paris", ["Paris"])
    first.update("trec", 5, "Date", ["Date"], ["Date", "Person"])
    second.update("hotpotqa", 1, "Rome", ["Paris"])
    second.update("hotpotqa", 0, "Rome", ["Paris"])  # repeated by a padding sampler
    assert first.compute() == {"hotpotqa": 100.0, "trec": 100.0}
    joined = LongBenchMetric()
    joined.items = torch.cat([*first.items, *second.items])  # as after a sync
    joined.scores = torch.cat([*first.scores, *second.scores])
    joined._update_count = 1
    assert joined.compute() == {"hotpotqa": 50.0, "trec": 100.0}
