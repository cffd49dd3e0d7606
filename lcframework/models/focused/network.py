"""A causal language model that gives, for views, their embeddings and the losses of their answers.

Shape letters: S views of a pass, N tokens of a view, A tokens of an answer, V vocabulary, D width
of the model, E width of the embedding.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lcframework.errors import ConfigError
from lcframework.models.focused.layout import as_one_row, as_rows
from lcframework.models.focused.views import View
from lcframework.ops.chunked_cross_entropy import chunked_cross_entropy

POOLINGS = ("last_prompt", "answer_mean", "prompt_mean", "special_token")
SCALE_INIT = 1 / 0.07
"""CLIP's; the paper's own is not known to us."""
_SCALED_LOGITS = ("logit_scale", "logits_scaling", "output_multiplier_scale")


class Embedded(NamedTuple):
    """What a pass gives.

    Attributes:
        embedding_SE: not normalised, float32 or wider.
        nll_S: sum of each answer's cross-entropies in nats; None where it is not wanted.
        kl_S: sum over each answer's tokens of KL(teacher || this view) in nats; None without one.
    """

    embedding_SE: Tensor
    nll_S: Tensor | None
    kl_S: Tensor | None


class TwoViewNetwork(nn.Module):
    """The model with what the contrastive loss adds to it.

    Args:
        model: a causal language model of transformers, with or without adapters.
        pooling: the embedding of a view: "last_prompt" (the state that predicts the first answer
            token), "answer_mean" (over the answer's tokens), "prompt_mean" (over the prompt's
            tokens that are attended to), "special_token" (that of a token of its own, which the
            caller puts at the end of every prompt).
        projection: width of a linear layer behind the pooling; None: no layer.
        scale_init: start of the inverse temperature, which is learnt.
        packed: views of a pass go into one row; False: into padded rows.

    Attributes:
        log_scale: () float32, logarithm of the inverse temperature.

    Raises:
        ConfigError: a model whose head scales its logits in a way that is not known here.
    """

    def __init__(
        self, model: Any, pooling: str = "last_prompt", projection: int | None = None,
        scale_init: float = SCALE_INIT, packed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is unknown: choose one of {POOLINGS}")
        if scale_init <= 0:
            raise ValueError(f"scale_init must be above 0, got {scale_init}")
        config = model.config.get_text_config()
        scaled = [one for one in _SCALED_LOGITS if getattr(config, one, 1) not in (None, 1, 1.0)]
        if scaled:
            raise ConfigError(
                f"This model scales its logits ({', '.join(scaled)}), which the loss on answer "
                "tokens does not know: choose another model."
            )
        self.model, self.pooling, self.packed = model, pooling, packed
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale_init)))
        width = config.hidden_size
        dtype = next((p.dtype for p in model.parameters() if p.requires_grad), torch.float32)
        self.projection = nn.Linear(width, projection, bias=False) if projection else nn.Identity()
        self.projection.to(dtype)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.log_scale.device

    def forward(
        self, views: Sequence[View], answer_loss: bool, teachers: Sequence[Tensor] | None = None
    ) -> Embedded:
        """Sequences through the model, all in one pass.

        Args:
            views: the sequences.
            answer_loss: whether the answers' losses are wanted.
            teachers: `answer_log_probabilities` of other views, (A, V) each, if the divergence
                from them is wanted.
        """
        states = self._hidden(views)
        pooled = [self._pooled(one, view) for one, view in zip(states, views, strict=True)]
        embedding = self.projection(torch.stack(pooled))
        wide = embedding if embedding.dtype == torch.float64 else embedding.float()
        loss = kl = None
        if answer_loss:
            loss = self._answer_losses(states, views)
        if teachers is not None:
            kl = torch.stack([
                functional.kl_div(own, teacher, reduction="sum", log_target=True)
                for own, teacher in zip(self._answer_logs(states, views), teachers, strict=True)
            ])  # fmt: skip
        return Embedded(wide, loss, kl)

    @torch.no_grad()
    def answer_log_probabilities(self, views: Sequence[View]) -> list[Tensor]:
        """(A, V) log-probabilities of the next token at each answer's A positions, without gradient
        and without dropout."""
        training = self.training
        self.eval()
        found = self._answer_logs(self._hidden(views), views)
        self.train(training)
        # Autocast keeps weights that it cast; those cast here have no graph.
        torch.clear_autocast_cache()
        return list(found)

    def _hidden(self, views: Sequence[View]) -> list[Tensor]:
        """The last layer's states of each view, (N, D), its padding left out."""
        body, lengths = self.model.base_model, [len(one.ids_N) for one in views]
        if self.packed and len(views) > 1:
            attention = str(self.model.config.get_text_config()._attn_implementation)
            given = as_one_row(views, self.device, attention, self._mask_dtype)
            return list(body(**given, use_cache=False).last_hidden_state[0].split(lengths))
        states = body(**as_rows(views, self.device), use_cache=False).last_hidden_state
        return [row[:length] for row, length in zip(states, lengths, strict=True)]

    @property
    def _mask_dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    def _answer_losses(self, states: Sequence[Tensor], views: Sequence[View]) -> Tensor:
        # The state at a token predicts the next; only answers' states meet the output head.
        hidden = [one[view.prompt_tokens - 1 : -1]
                  for one, view in zip(states, views, strict=True)]  # fmt: skip
        labels = [view.ids_N[view.prompt_tokens :] for view in views]
        losses = chunked_cross_entropy(
            torch.cat(hidden),
            torch.cat(labels).to(self.device),
            self.model.get_output_embeddings(),
            self.softcap,
            reduction="none",
        )
        return torch.stack([one.sum() for one in losses.split([len(one) for one in labels])])

    def _answer_logs(self, states: Sequence[Tensor], views: Sequence[View]) -> Sequence[Tensor]:
        hidden = [one[view.prompt_tokens - 1 : -1]
                  for one, view in zip(states, views, strict=True)]  # fmt: skip
        logs = self._log_probabilities(torch.cat(hidden))
        return logs.split([len(one) for one in hidden])

    def _log_probabilities(self, hidden_AD: Tensor) -> Tensor:
        logits = self.model.get_output_embeddings()(hidden_AD)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits.log_softmax(-1)

    def _pooled(self, hidden_ND: Tensor, view: View) -> Tensor:
        prompt = view.prompt_tokens
        if self.pooling in ("last_prompt", "special_token"):
            return hidden_ND[prompt - 1]
        if self.pooling == "answer_mean":
            return hidden_ND[prompt:].mean(0)
        weight_N = view.attended_N[:prompt].to(hidden_ND)
        return (weight_N[:, None] * hidden_ND[:prompt]).sum(0) / weight_N.sum()
