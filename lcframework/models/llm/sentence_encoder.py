"""Sentence embeddings of any encoder of transformers, such as `lcf models get minilm` fetches."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from lcframework.errors import CheckpointError
from lcframework.models.llm.identity import model_fingerprint
from lcframework.models.llm.load import find_device
from lcframework.models.llm.store import resolve_model

POOLINGS = ("mean", "first")


class SentenceEncoder:
    """Texts to vectors of norm 1 (Reimers and Gurevych, arXiv 1908.10084).

    Args:
        path: a folder with config.json, model.safetensors and tokenizer, or a name from
            `lcf models list`.
        pooling: "mean" over the tokens (MiniLM, Contriever, E5) or the "first" token (BGE).
        max_tokens: longer texts are cut; None: the model's positions.
        batch_size: texts at a time.
        device: "auto", "cpu", "cuda".

    Attributes:
        identity: name and hash of the weights, for caches.

    Raises:
        CheckpointError: no model there.
        ConfigError: no such device.
    """

    def __init__(
        self, path: str | Path = "minilm", pooling: str = "mean", max_tokens: int | None = 256,
        batch_size: int = 64, device: str = "auto",
    ) -> None:  # fmt: skip
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is unknown: choose one of {POOLINGS}")
        where = resolve_model(path)
        common = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(where, **common)
            model = AutoModel.from_pretrained(
                where, **common, dtype=torch.float32, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise CheckpointError(
                f"{where} cannot be loaded by transformers: {first[0]}"
            ) from error
        self._device = find_device(device)
        self._model = model.eval().to(self._device)
        positions = getattr(model.config, "max_position_embeddings", None)
        self._max = min(one for one in (max_tokens, positions, 10**6) if one)
        self._pooling, self._batch = pooling, batch_size
        self.identity = f"{Path(path).name} {model_fingerprint(model)} {pooling} {self._max} tokens"

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """(n, width) rows of norm 1, in the order of the texts."""
        # Texts of like length together, so that little is padding.
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(texts)
        for start in range(0, len(order), self._batch):
            part = order[start : start + self._batch]
            given = self._tokenizer(
                [texts[n] for n in part], padding=True, truncation=True, max_length=self._max,
                return_tensors="pt",
            ).to(self._device)  # fmt: skip
            with torch.no_grad():
                hidden = self._model(**given).last_hidden_state
            weight = given["attention_mask"][..., None].to(hidden)
            mean = (weight * hidden).sum(1) / weight.sum(1)
            found = mean if self._pooling == "mean" else hidden[:, 0]
            normed = torch.nn.functional.normalize(found, dim=-1).cpu().numpy()
            for n, row in zip(part, normed, strict=True):
                rows[n] = row
        return np.stack(rows)
