"""Hidden states of packed networks, by layer and by convention.

Two conventions are in use, and their numbers do not compare:

* `residual`: the residual stream after layer i, as ESM-2 and Hugging Face transformers return it;
* `mixer`: the output of layer i's mixer before it joins the residual stream, which is what the
  published LC-PLM code returns as `hidden_states[i]`.

Both agree on layer 0, the embedding, and on the last layer, which has passed the final norm.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lcframework.errors import ConfigError
from lcframework.models.esm2.attention import Packing
from lcframework.models.esm2.model import ESM2, positions_in_protein
from lcframework.models.lcplm.model import LCPLM

RESIDUAL, MIXER = "residual", "mixer"
CONVENTIONS = (RESIDUAL, MIXER)


def resolve_layer(network: nn.Module, layer: int) -> int:
    """A layer counted from the end (-1 is the last) as one from 0, the embedding.

    Raises:
        ConfigError: there is no such layer.
    """
    count = _layers(network)
    found = layer + count + 1 if layer < 0 else layer
    if not 0 <= found <= count:
        raise ConfigError(
            f"layer={layer}: the network has {count} layers; 0 is the embedding, {count} or -1 the "
            "last."
        )
    return found


def _layers(network: nn.Module) -> int:
    if isinstance(network, LCPLM):
        return len(network.blocks)
    if isinstance(network, ESM2):
        return len(network.network.esm.encoder.layer)
    raise ConfigError(f"{type(network).__name__} is no network whose hidden states are known.")


def hidden_states(
    network: nn.Module,
    tokens: Tensor,
    cu_seqlens: Tensor,
    max_len: int,
    layer: int = -1,
    convention: str = RESIDUAL,
) -> Tensor:
    """One layer's states of packed proteins.

    Args:
        network: `LCPLM` or `ESM2`.
        tokens: (T,) int64.
        cu_seqlens: (S+1,) int32.
        max_len: tokens of the longest protein.
        layer: 0 is the embedding, the number of layers or -1 the last after the final norm.
        convention: "residual" or, for LC-PLM, "mixer".

    Returns:
        (T, d).

    Raises:
        ConfigError: no such layer or convention for this network.
    """
    chosen = resolve_layer(network, layer)
    if convention not in CONVENTIONS:
        raise ConfigError(f"convention={convention!r}: choose one of {', '.join(CONVENTIONS)}.")
    if isinstance(network, LCPLM):
        return _lcplm(network, tokens, cu_seqlens, max_len, chosen, convention)
    if convention == MIXER:
        raise ConfigError(
            "The convention `mixer` is that of the published LC-PLM code; a transformer's states "
            "are those of its residual stream. Use `residual`."
        )
    assert isinstance(network, ESM2)
    return _esm2(network, tokens, cu_seqlens, max_len, chosen)


def _lcplm(
    network: LCPLM, tokens: Tensor, cu: Tensor, max_len: int, layer: int, convention: str
) -> Tensor:
    if layer == len(network.blocks):
        return network.encode(tokens, cu, max_len)
    kept: list[Tensor] = []
    residual = network.embedding(tokens)
    for index in range(layer):
        block: Any = network.blocks[index]
        last = index == layer - 1 and convention == MIXER
        hook = block.mixer.register_forward_hook(lambda *args: kept.append(args[2]))
        try:
            residual = block(residual, cu, max_len)
        finally:
            hook.remove()
        if not last:
            kept.clear()
    return kept[0] if kept else residual


def _esm2(network: ESM2, tokens: Tensor, cu: Tensor, max_len: int, layer: int) -> Tensor:
    last = layer == _layers(network)
    outputs = network.network.esm(
        **network.inputs_of(tokens, cu),
        position_ids=positions_in_protein(cu, tokens.shape[0]).unsqueeze(0),
        packing=Packing(cu, max_len, network.attention_backend),
        output_hidden_states=not last,  # they would all be kept in memory
    )
    if last:
        return outputs.last_hidden_state[0]
    assert isinstance(outputs.hidden_states, tuple) and torch.is_tensor(outputs.hidden_states[0])
    return outputs.hidden_states[layer][0]
