"""The configuration of LC-PLM for Hugging Face transformers; users import it from `huggingface`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedConfig

from lcframework.data.alphabet import CLS_ID, EOS_ID, MASK_ID, PAD_ID, TOKENS
from lcframework.models.lcplm.hf_checks import refuse_other_model
from lcframework.models.lcplm.model import LCPLM

CODE_FILE = "modeling_lcplm.py"
CODE = '''"""For trust_remote_code=True: the classes are those of the package lcframework."""

from lcframework.models.lcplm.huggingface import LCPLMConfig, LCPLMForMaskedLM, LCPLMModel
'''
AUTO_MAP = {
    "AutoConfig": "modeling_lcplm.LCPLMConfig",
    "AutoModel": "modeling_lcplm.LCPLMModel",
    "AutoModelForMaskedLM": "modeling_lcplm.LCPLMForMaskedLM",
}


class LCPLMConfig(PreTrainedConfig):
    """Sizes and vocabulary of an LC-PLM.

    Saved, it is two files: `config.json` and `modeling_lcplm.py`, whose one statement imports the
    classes from this package. With it `trust_remote_code=True` finds them in a process that did not
    import lcframework; without the package transformers says that lcframework is to be installed.

    Args:
        d_model: width; also read as `hidden_size`.
        n_layers: number of blocks; also read as `num_hidden_layers`.
        d_state: states per channel.
        d_conv: taps of the short convolutions.
        expand: inner width over `d_model`.
        dt_rank: rank of the step projection; "auto" is ceil(d_model / 16).
        vocab_size: rows of embedding and head (V), padding rows included.
        vocab_list: the tokens in id order; default is ESM-2's 33.
        n_tokens: tokens that the head predicts (N), the first of its rows; the rows behind them
            were never trained and would take most of the probability. Default is all of
            `vocab_list`; `resize_token_embeddings` sets it.
        norm_eps: epsilon of the RMS norms.
        scan_backend: see `lcframework.ops.bidirectional_scan`.
        **kwargs: what every transformers configuration takes.

    Raises:
        ValueError: `tie_word_embeddings=True`, which this architecture does not have; or more
            tokens than rows.
        CheckpointError: `from_pretrained` on the configuration of another architecture.
    """

    model_type = "lcplm"
    attribute_map = {"hidden_size": "d_model", "num_hidden_layers": "n_layers"}  # noqa: RUF012

    def __init__(
        self,
        d_model: int = 256,
        n_layers: int = 6,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        vocab_size: int = 128,
        vocab_list: Sequence[str] = TOKENS,
        n_tokens: int | None = None,
        norm_eps: float = 1e-5,
        scan_backend: str = "auto",
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("tie_word_embeddings", False):
            raise ValueError(
                "LC-PLM's embedding and head are separate matrices; tie_word_embeddings=True would "
                "overwrite one with the other. Leave it out."
            )
        self.d_model, self.n_layers = d_model, n_layers
        self.d_state, self.d_conv, self.expand, self.dt_rank = d_state, d_conv, expand, dt_rank
        self.vocab_size, self.vocab_list = vocab_size, list(vocab_list)
        self.n_tokens = len(self.vocab_list) if n_tokens is None else n_tokens
        if not len(self.vocab_list) <= self.n_tokens <= vocab_size:
            raise ValueError(
                f"vocab_list has {len(self.vocab_list)} tokens, n_tokens is {self.n_tokens}, "
                f"vocab_size {vocab_size}: each must be at most the next."
            )
        self.norm_eps, self.scan_backend = norm_eps, scan_backend
        fixed: dict[str, Any] = {"pad_token_id": PAD_ID, "mask_token_id": MASK_ID}
        fixed |= {"bos_token_id": CLS_ID, "eos_token_id": EOS_ID, "tie_word_embeddings": False}
        super().__init__(**{**fixed, **kwargs, "auto_map": dict(AUTO_MAP)})

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As the parent, and the file that `auto_map` names."""
        super().save_pretrained(save_directory, *args, **kwargs)
        (Path(save_directory) / CODE_FILE).write_text(CODE, encoding="utf-8")

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Nothing: `auto_map` is set, and the parent would copy this package's files on saving."""

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """As the parent; refuses another architecture instead of warning."""
        values, rest = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        refuse_other_model(values, pretrained_model_name_or_path, cls.model_type)
        return values, rest

    def network_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the `LCPLM` this configuration describes."""
        names = ("d_model", "n_layers", "d_state", "d_conv", "expand", "dt_rank", "norm_eps")
        sizes = {name: getattr(self, name) for name in (*names, "scan_backend")}
        return {**sizes, "vocab_size": self.n_tokens, "pad_vocab_to": self.vocab_size}

    @classmethod
    def from_network(cls, network: LCPLM) -> Self:
        """The configuration of an existing network.

        Raises:
            ValueError: its tokens are not ESM-2's 33, so their names are unknown here.
        """
        values = dict(network.hparams)
        if values.pop("vocab_size") != len(TOKENS):
            raise ValueError(
                f"The network has {network.vocab_size} tokens; only ESM-2's {len(TOKENS)} have "
                "names here. Build LCPLMConfig with vocab_list."
            )
        values.pop("gradient_checkpointing")
        return cls(vocab_size=values.pop("pad_vocab_to"), **values)
