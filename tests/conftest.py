"""Settings every test needs before anything imports Triton."""

import os

import torch

if not torch.cuda.is_available():
    # Triton's own library is interpreted or compiled once and for all when it is imported.
    os.environ["TRITON_INTERPRET"] = "1"
