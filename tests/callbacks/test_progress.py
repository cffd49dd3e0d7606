"""The progress lines of a log file: steps, loss, speed, time left."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch

from lcframework.callbacks import progress


@pytest.mark.parametrize(("total", "line"), [
    (100, "step 30/100, loss 2.5000, 40 tokens/s, 0:35 left"),
    (math.inf, "step 30, loss 2.5000, 40 tokens/s"),
])  # fmt: skip
def test_a_line_tells_the_speed_since_the_last_one(monkeypatch, caplog, total, line):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    trainer = SimpleNamespace(
        global_step=0, is_global_zero=True, estimated_stepping_batches=total,
        callback_metrics={"train/loss": torch.tensor(2.5)},
    )  # fmt: skip
    task = SimpleNamespace(tokens_seen=torch.tensor(0.0))
    lines = progress.LineProgress(every_s=5.0)
    lines.on_train_start(trainer, task)
    with caplog.at_level(logging.INFO):
        # Ten steps in 100 s (a slow start), then ten in 4 s, which is too soon for a line, then 20.
        for seconds, step, tokens in ((100, 10, 10), (104, 20, 110), (110, 30, 410)):
            clock[0], trainer.global_step, task.tokens_seen = seconds, step, torch.tensor(tokens)
            lines.on_train_batch_end(trainer, task, None, None, 0)
    assert len(caplog.messages) == 2
    assert caplog.messages[1] == line
