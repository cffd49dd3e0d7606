"""Reads the values of a configuration and remembers which keys were understood."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcframework.errors import ConfigError

BOOKKEEPING = frozenset(
    {
        "_attn_implementation",
        "_name_or_path",
        "_sliding_window_pattern",
        "architectures",
        "attn_implementation",
        "esmfold_config",
        "finetuning_task",
        "id2label",
        "is_encoder_decoder",
        "is_folding_model",
        "keys_to_ignore_at_inference",
        "label2id",
        "model_type",
        "num_labels",
        "prefix",
        "problem_type",
        "task_specific_params",
        "tokenizer_class",
        "transformers_version",
        "unsloth_version",
        "vocab_list",
    }
)
TRAINING = frozenset(
    {
        "attention_dropout",
        "attention_probs_dropout_prob",
        "classifier_dropout",
        "dropout",
        "embd_pdrop",
        "hidden_dropout",
        "hidden_dropout_prob",
        "initializer_factor",
        "initializer_range",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "rescale_prenorm_residual",
        "resid_pdrop",
        "return_dict",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "time_step_floor",
        "time_step_init_scheme",
        "time_step_max",
        "time_step_min",
    }
)
GENERATION = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "cache_implementation",
        "chunk_size_feed_forward",
        "cls_token_id",
        "decoder_start_token_id",
        "do_sample",
        "eos_token_id",
        "mask_token_id",
        "pad_token_id",
        "pretraining_tp",
        "scan_backend",
        "sep_token_id",
        "use_associative_scan",
        "use_cache",
        "use_mambapy",
    }
)
CONSTANTS = frozenset(
    {
        "dtype",
        "layer_norm_eps",
        "layer_norm_epsilon",
        "max_window_layers",
        "norm_eps",
        "norm_epsilon",
        "quantization_config",
        "residual_in_fp32",
        "rms_norm_eps",
        "rope_local_base_freq",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window_pattern",
        "torch_dtype",
    }
)
IGNORED = BOOKKEEPING | TRAINING | GENERATION | CONSTANTS
"""Keys that change no level: names, training, generation, epsilons, angles, precision."""


class Values:
    """The keys of one configuration.

    Args:
        path: the file, for messages.
        raw: its content.
    """

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.path, self.raw = path, raw
        self._used: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        self._used.add(key)
        return self.raw.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default if it is missing or null."""
        return self.raw[key] if self.has(key) else default

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive whole number.

        Raises:
            ConfigError: it is missing without a default, or is something else.
        """
        value = self.get(key, default)
        if value is None:
            raise ConfigError(
                f"{self.path} has no {key!r}, which a {self.raw.get('model_type', 'model')!r} "
                "configuration needs. Give the config.json of the whole model."
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"{self.path}: {key} = {value!r} must be a whole number of at least 1."
            )
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value.

        Raises:
            ConfigError: it is something else.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"{self.path}: {key} = {value!r} must be true or false.")
        return value

    def ignore(self, *keys: str) -> None:
        """Keys that this family has and that change no level."""
        self._used.update(keys)

    @property
    def name(self) -> str:
        """What to call the model: the folder of a config.json, else the file."""
        return self.path.parent.name if self.path.stem == "config" else self.path.stem

    def unknown(self) -> tuple[tuple[str, str], ...]:
        """(key, why) of what is set and was not understood."""
        return tuple(
            (key, f"{key} = {_short(value)} in {self.path.name} is not understood")
            for key, value in self.raw.items()
            if key not in self._used
            and key not in IGNORED
            and value not in (None, False, [], {}, 0, 0.0)
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
