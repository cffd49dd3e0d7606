"""Parameter groups and the schedule, by hand."""

import pytest
import torch
from torch import nn

from lcframework.errors import ConfigError
from lcframework.tasks.optimizers import WarmupCosineAdamW, decay_groups, warmup_cosine


def test_groups_spare_vectors_and_marked_matrices():
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    module.a_log = nn.Parameter(torch.zeros(2, 2))
    module.a_log._no_weight_decay = True
    decayed, free = decay_groups(module, 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)]
    assert decayed["weight_decay"] == 0.1
    assert len(free["params"]) == 4
    assert free["weight_decay"] == 0.0


def test_schedule_by_hand():
    factors = [warmup_cosine(step, 2, 6, 0.1) for step in range(8)]
    expected = [
        0.5,
        1.0,
        1.0,
        0.1 + 0.9 * 0.8535533905932737,
        0.55,
        0.1 + 0.9 * 0.1464466094067262,
        0.1,
        0.1,
    ]
    assert factors == pytest.approx(expected)


def test_a_schedule_without_length_is_refused():
    with pytest.raises(ConfigError, match="max_steps"):
        WarmupCosineAdamW().build(nn.Linear(2, 2), float("inf"))


@pytest.mark.parametrize("settings", [{"lr": "abc"}, {"lr": 0}, {"final_ratio": 1.5}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        WarmupCosineAdamW(**settings)
