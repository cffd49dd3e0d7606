"""Settings every test needs before anything imports Triton."""

import os
import signal
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Triton's own library is interpreted or compiled once and for all when it is imported.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def interrupts_are_heeded():
    """Ctrl-C as in a terminal: a script's background job starts pytest with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data, for tests marked `realdata`."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LCF_REAL_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (LCF_REAL_DATA names another place)")
    return folder
