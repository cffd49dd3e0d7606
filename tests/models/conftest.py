"""A small LC-PLM and its export."""

import pytest
import torch

from lcframework.models.lcplm import LCPLM
from lcframework.run.export import write_folder


@pytest.fixture
def network():
    torch.manual_seed(3)
    return LCPLM(d_model=12, n_layers=2, d_state=4).eval()


@pytest.fixture
def folder(network, tmp_path):
    write_folder(network, tmp_path / "export", "card")
    return tmp_path / "export"
