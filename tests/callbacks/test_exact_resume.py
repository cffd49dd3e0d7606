"""Random state survives a checkpoint that holds only tensors and plain values."""

import random

import numpy as np
import torch

from lcframework.callbacks.exact_resume import capture_random_state, restore_random_state
from lcframework.run.checkpoints import AtomicCheckpointIO, load_checkpoint


def draw():
    return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002


def test_every_generator_continues_where_it_was(tmp_path):
    draw()
    AtomicCheckpointIO().save_checkpoint(
        {"random_state": [capture_random_state()]}, tmp_path / "a.ckpt"
    )
    expected = draw()
    draw()
    restore_random_state(load_checkpoint(tmp_path / "a.ckpt")["random_state"][0])
    assert draw() == expected
