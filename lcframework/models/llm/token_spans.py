"""Which characters a model's tokens stand for, without the model."""

from pathlib import Path

from transformers import AutoTokenizer

from lcframework.errors import CheckpointError, ConfigError
from lcframework.models.llm.identity import tokenizer_fingerprint
from lcframework.models.llm.store import resolve_model


class TokenSpans:
    """A text to the character range of each of its tokens, special ones left out.

    Args:
        path: a folder with a tokenizer, or a name from `lcf models list`.

    Attributes:
        identity: name and hash of the tokenizer, for caches.

    Raises:
        CheckpointError: no tokenizer there.
        ConfigError: it does not know which characters a token stands for.
    """

    def __init__(self, path: str | Path) -> None:
        where = resolve_model(path)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                where, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise CheckpointError(f"{where} holds no tokenizer: {first[0]}") from error
        if not self._tokenizer.is_fast:
            raise ConfigError(
                f"The tokenizer of {where} does not say which characters a token stands for (no "
                "fast tokenizer): convert it to tokenizer.json, or cut by words (WordWindows)."
            )
        self.identity = f"{Path(path).name} {tokenizer_fingerprint(self._tokenizer)}"

    def __call__(self, text: str) -> list[tuple[int, int]]:
        """Ranges in order."""
        found = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return [(low, high) for low, high in found["offset_mapping"]]
