"""What a model and a tokenizer are, as short hashes: to notice answers of another one."""

import hashlib
import json
from typing import Any

import torch

PROBED = 64
"""Values read from either end of each weight."""


def model_fingerprint(model: Any) -> str:
    """Hash of a model's configuration and of samples of all its weights.

    Weights of another training run, another dtype or another quantization give another hash; the
    same files give the same one on every device. Reading all of them would take minutes where this
    takes milliseconds; an edit of few values in a weight's middle is not noticed.
    """
    config = {
        key: value
        for key, value in model.config.to_dict().items()
        if not key.startswith("_") and key not in ("transformers_version", "torch_dtype")
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, weight in model.named_parameters():
        flat = weight.detach().reshape(-1)
        ends = torch.cat([flat[:PROBED], flat[-PROBED:]]).float().cpu().contiguous()
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(ends.numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash of everything that decides a tokenizer's ids, the chat template included."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    inside = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
    parts = [inside, getattr(tokenizer, "chat_template", None), str(tokenizer.special_tokens_map)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
