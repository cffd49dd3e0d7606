"""A causal language model that gives, for a view, its embedding and the loss of its answer.

Shape letters: N tokens, A tokens of the answer, V vocabulary, D width of the model, E width of the
embedding.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lcframework.errors import ConfigError
from lcframework.models.focused.views import View
from lcframework.ops.chunked_cross_entropy import chunked_cross_entropy

POOLINGS = ("last_prompt", "answer_mean", "prompt_mean")
SCALE_INIT = 1 / 0.07
"""CLIP's; the paper's own is not known to us."""
_SCALED_LOGITS = ("logit_scale", "logits_scaling", "output_multiplier_scale")


class TwoViewNetwork(nn.Module):
    """The model with what the contrastive loss adds to it.

    Args:
        model: a causal language model of transformers, with or without adapters.
        pooling: the embedding of a view: "last_prompt" (the state that predicts the first answer
            token), "answer_mean" (over the answer's tokens), "prompt_mean" (over the prompt's
            tokens that are attended to).
        projection: width of a linear layer behind the pooling; None: no layer.
        scale_init: start of the inverse temperature, which is learnt.

    Attributes:
        log_scale: () float32, logarithm of the inverse temperature.

    Raises:
        ConfigError: a model whose head scales its logits in a way that is not known here.
    """

    def __init__(
        self, model: Any, pooling: str = "last_prompt", projection: int | None = None,
        scale_init: float = SCALE_INIT,
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
        self.model, self.pooling = model, pooling
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
        self, view: View, answer_loss: bool, teacher_AV: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One sequence through the model.

        Args:
            view: the tokens.
            answer_loss: whether the answer's loss is wanted.
            teacher_AV: `answer_log_probabilities` of another view, if the divergence from them is
                wanted.

        Returns:
            (E,) embedding, not normalised, float32 or wider; the sum of the answer's
            cross-entropies in nats, or None; and the sum over the answer's tokens of
            KL(teacher || this view) in nats, or None.
        """
        hidden_ND = self._hidden(view)
        embedding = self.projection(self._pooled(hidden_ND, view))
        wide = embedding if embedding.dtype == torch.float64 else embedding.float()
        first = view.prompt_tokens - 1  # the state at a token predicts the next
        loss = kl = None
        if answer_loss:
            loss = chunked_cross_entropy(
                hidden_ND[first:-1],
                view.ids_N[first + 1 :].to(self.device),
                self.model.get_output_embeddings(),
                self.softcap,
            )
        if teacher_AV is not None:
            own_AV = self._log_probabilities(hidden_ND[first:-1])
            kl = functional.kl_div(own_AV, teacher_AV, reduction="sum", log_target=True)
        return wide, loss, kl

    @torch.no_grad()
    def answer_log_probabilities(self, view: View) -> Tensor:
        """(A, V) log-probabilities of the next token at the answer's A positions, without gradient
        and without dropout."""
        training = self.training
        self.eval()
        found_AV = self._log_probabilities(self._hidden(view)[view.prompt_tokens - 1 : -1])
        self.train(training)
        # Autocast keeps weights that it cast; those cast here have no graph.
        torch.clear_autocast_cache()
        return found_AV

    def _hidden(self, view: View) -> Tensor:
        body = self.model.base_model
        return body(**view.inputs(self.device), use_cache=False).last_hidden_state[0]

    def _log_probabilities(self, hidden_AD: Tensor) -> Tensor:
        logits = self.model.get_output_embeddings()(hidden_AD)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits.log_softmax(-1)

    def _pooled(self, hidden_ND: Tensor, view: View) -> Tensor:
        prompt = view.prompt_tokens
        if self.pooling == "last_prompt":
            return hidden_ND[prompt - 1]
        if self.pooling == "answer_mean":
            return hidden_ND[prompt:].mean(0)
        weight_N = view.attended_N[:prompt].to(hidden_ND)
        return (weight_N[:, None] * hidden_ND[:prompt]).sum(0) / weight_N.sum()
