"""LC-PLM for Hugging Face transformers: configuration, encoder, masked language model.

Importing this module registers the classes; plain transformers code needs this one line more:

    import lcframework.models.lcplm.huggingface
    model = AutoModelForMaskedLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

or, instead of it, the argument `trust_remote_code=True`: see `LCPLMConfig`.

What is unusual: a padded batch is packed inside, so padding changes nothing and a protein has the
logits it has alone; embedding and head are two matrices and never tied; both have `vocab_size` rows
(V, 128), more than the `n_tokens` tokens of the tokenizer (N, 33), and logits are of these N alone.
Up to 95 tokens added to the tokenizer can thus stand in the input without resizing; to predict them
too, call `resize_token_embeddings(len(tokenizer))`. Names of the modules for PEFT: `in_proj`,
`out_proj`, `lm_head`, `embedding`.

Legend: B batch rows, L row length, T real tokens, S proteins, d model width, V rows of the head, N
    tokens it predicts.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    EsmTokenizer,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput
from transformers.utils.generic import can_return_tuple

from lcframework.models.lcplm.block import BiMambaS
from lcframework.models.lcplm.hf_checks import (
    check_folder,
    explain_damage,
    explain_memory,
    refuse_other_keys,
    refuse_unpredicted,
)
from lcframework.models.lcplm.hf_config import LCPLMConfig
from lcframework.models.lcplm.model import LCPLM
from lcframework.models.lcplm.padding import pack, unpack

__all__ = ["LCPLMConfig", "LCPLMForMaskedLM", "LCPLMModel", "LCPLMPreTrainedModel"]
IGNORED_LABEL = -100


class LCPLMPreTrainedModel(PreTrainedModel):
    """What encoder and masked language model share: initial values, checks of a folder."""

    config_class = LCPLMConfig
    base_model_prefix = "lcplm"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    # Rounding these to 16 bits would change time constants, not weights.
    _keep_in_fp32_modules_strict = ["A_log", "D", "dt_bias"]  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As the parent, but nothing that should have been loaded is drawn at random.

        Raises:
            CheckpointError: a shard or a key of the encoder is missing, a file is damaged or holds
                other keys, or the folder's vocabulary is not the model's.
        """
        check_folder(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        asked = kwargs.pop("output_loading_info", False)
        with explain_damage(pretrained_model_name_or_path):
            loaded: Any = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        model, about = loaded
        refuse_other_keys(about, pretrained_model_name_or_path)
        return (model, about) if asked else model

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Nothing: see `LCPLMConfig.register_for_auto_class`."""

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any
    ) -> nn.Embedding:
        """As the parent: both matrices get that many rows, and that many tokens are predicted.

        Fewer than the 128 rows cut off unused ones; more add rows. Those of ESM-2's tokens stay.

        Raises:
            ValueError: fewer rows than there are tokens.
        """
        if new_num_tokens is not None and new_num_tokens < len(self.config.vocab_list):
            raise ValueError(
                f"resize_token_embeddings({new_num_tokens}) would cut off tokens of the model's "
                f"own vocabulary of {len(self.config.vocab_list)}."
            )
        embedding = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        if new_num_tokens is not None:
            self.config.n_tokens = new_num_tokens
        return embedding

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """LCPLM's own initial values, skipping what was loaded (`init` looks at the flag)."""
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, BiMambaS):
            c = self.config
            rank, width = module.dt_rank, c.d_model
            fresh = BiMambaS(width, c.d_state, c.d_conv, c.expand, rank, c.n_layers)
            for name, value in fresh.named_parameters():
                if name != "in_proj.weight":
                    init.copy_(module.get_parameter(name), value)


class LCPLMModel(LCPLMPreTrainedModel):
    """The encoder: embedding, blocks, final norm.

    Args:
        config: sizes and vocabulary.
    """

    def __init__(self, config: LCPLMConfig) -> None:
        super().__init__(config)
        network = LCPLM(**config.network_arguments())
        self.embedding, self.blocks, self.norm = network.embedding, network.blocks, network.norm
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, V rows."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.embedding = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Representation of every token.

        Args:
            input_ids: (B, L) int64; either this or `inputs_embeds`.
            attention_mask: (B, L), true on real tokens, at least one a row; None: all are real.
            inputs_embeds: (B, L, d) in place of the embedding's output.
            output_hidden_states: return the stream before each block and the final representation,
                n_layers + 1 tensors.
            **kwargs: other arguments of transformers' calling convention, without effect here.

        Returns:
            `last_hidden_state` (B, L, d) and perhaps `hidden_states`; zero at the padding.

        Raises:
            ValueError: shapes that do not fit, or a row without a token.
            torch.OutOfMemoryError: with the number of tokens, an estimate and the cure.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds.")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if attention_mask is None and input_ids is not None:
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
        given = inputs_embeds if input_ids is None else input_ids
        assert given is not None
        with explain_memory(self.config, given):
            return self._encode(given, attention_mask, bool(output_hidden_states))

    def _encode(
        self, given: Tensor, attention_mask: Tensor | None, keep_states: bool
    ) -> BaseModelOutput:
        shape = given.shape[:2]
        packed, mask, cu_seqlens = pack(given, attention_mask)
        residual = self.embedding(packed) if given.ndim == 2 else packed
        states: list[Tensor] = []
        for block in self.blocks:
            if keep_states:
                states.append(unpack(residual, mask, shape))
            if self.gradient_checkpointing and self.training:
                residual = self._gradient_checkpointing_func(
                    block.__call__, residual, cu_seqlens, shape[1]
                )
            else:
                residual = block(residual, cu_seqlens, shape[1])
        last = unpack(self.norm(residual), mask, shape)
        hidden_states = (*states, last) if keep_states else None
        return BaseModelOutput(
            last_hidden_state=last,  # pyright: ignore[reportArgumentType]
            hidden_states=hidden_states,  # pyright: ignore[reportArgumentType]
        )


class LCPLMForMaskedLM(LCPLMPreTrainedModel):
    """The encoder with the language-model head.

    Args:
        config: sizes and vocabulary.
    """

    def __init__(self, config: LCPLMConfig) -> None:
        super().__init__(config)
        self.lcplm = LCPLMModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_network(cls, network: LCPLM) -> Self:
        """A model that shares no storage with `network` and computes the same logits."""
        model = cls(LCPLMConfig.from_network(network))
        weights = {
            key if key.startswith("lm_head.") else f"lcplm.{key}": value
            for key, value in network.state_dict().items()
        }
        model.load_state_dict(weights)
        return model.train(network.training)

    def to_network(self) -> LCPLM:
        """The framework's network with the same weights, the inverse of `from_network`."""
        network = LCPLM(**self.config.network_arguments())
        network.load_state_dict(
            {key.removeprefix("lcplm."): value for key, value in self.state_dict().items()}
        )
        return network.train(self.training)

    def get_output_embeddings(self) -> nn.Module:
        """The head, V rows."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the head."""
        self.lm_head = new_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits of every token and, with labels, the masked language model's loss.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L); see `LCPLMModel.forward`.
            inputs_embeds: (B, L, d) in place of `input_ids`.
            labels: (B, L) int64 below N, -100 where nothing is to be predicted; padding never
                counts.
            output_hidden_states: see `LCPLMModel.forward`.
            **kwargs: `num_items_in_batch` divides the summed loss, as the Trainer wants it.

        Returns:
            `logits` (B, L, N), zero at the padding, `loss` and perhaps `hidden_states`.

        Raises:
            ValueError: see `LCPLMModel.forward`; or a label that is not predicted.
            torch.OutOfMemoryError: see `LCPLMModel.forward`.
        """
        outputs = self.lcplm(
            input_ids, attention_mask, inputs_embeds, output_hidden_states, return_dict=True
        )
        with explain_memory(self.config, outputs.last_hidden_state):
            logits = self.lm_head(outputs.last_hidden_state)
        logits = logits[..., : self.config.n_tokens].contiguous()
        loss = None
        if labels is not None:
            if attention_mask is not None:
                labels = labels.masked_fill(~attention_mask.bool(), IGNORED_LABEL)
            if not torch.compiler.is_compiling():
                refuse_unpredicted(labels, logits.shape[-1])
            loss = self.loss_function(
                logits,
                labels,
                vocab_size=logits.shape[-1],
                num_items_in_batch=kwargs.get("num_items_in_batch"),
            )
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


AutoConfig.register(LCPLMConfig.model_type, LCPLMConfig)
AutoModel.register(LCPLMConfig, LCPLMModel)
AutoModelForMaskedLM.register(LCPLMConfig, LCPLMForMaskedLM)
# ESM-2's own tokenizer; it reads vocab.txt, which the export writes.
AutoTokenizer.register(LCPLMConfig, EsmTokenizer)
