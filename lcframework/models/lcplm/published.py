"""Reading the published LC-PLM checkpoint (amazon-science/LC-PLM): its key layout becomes ours.

The published block holds two Mamba-1 layers, `mamba_fwd` and `mamba_rev`, whose input and output
projections are one tensor; a file holds them once or twice. Ours has one projection each, so the
two copies must be equal. Nothing is guessed: a key that is missing, unknown or of another shape is
an error that names it.

Legend: d model width, E inner width, N states, R rank of the step projection, K taps, V rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lcframework.errors import CheckpointError
from lcframework.models.lcplm.model import LCPLM

BACKBONE = "bimamba.backbone."
HEAD = "lm_head.weight"
SHARED = {"in_proj.weight": "in_proj.weight", "out_proj.weight": "out_proj.weight"}
PER_DIRECTION = {
    "conv1d.weight": "conv_weight",
    "conv1d.bias": "conv_bias",
    "x_proj.weight": "x_proj",
    "dt_proj.weight": "dt_proj",
    "dt_proj.bias": "dt_bias",
    "A_log": "A_log",
    "D": "D",
}
REQUIRED = {
    "model_type": "lc_plm",
    "d_intermediate": 0,
    "bidirectional": True,
    "bidirectional_strategy": "add",
    "bidirectional_weight_tie": True,
    "rms_norm": True,
    "residual_in_fp32": True,
    "tie_embeddings": False,
}
"""What the configuration must say for the network to be the one this framework implements."""
MAMBA_SIZES = ("d_state", "d_conv", "expand", "dt_rank")


def network_arguments(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Keyword arguments of `LCPLM` from a published config.json.

    Raises:
        CheckpointError: the configuration describes another network; names the entry.
    """
    if config.get("model_type") == "lcplm":
        raise CheckpointError(
            f"{where} is an export of lcframework already: AutoModelForMaskedLM.from_pretrained "
            "loads it, and checkpoint= of lcf-evaluate takes it."
        )
    for key, value in REQUIRED.items():
        if config.get(key) != value:
            raise CheckpointError(
                f"{where}: {key} is {config.get(key)!r}, but LC-PLM as published has {value!r}. "
                "This importer reads that architecture only."
            )
    mamba = dict(config.get("ssm_cfg") or {})
    layer = mamba.pop("layer", "Mamba1")
    unknown = sorted(mamba.keys() - set(MAMBA_SIZES))
    if layer != "Mamba1" or unknown or config.get("attn_layer_idx"):
        said = ", ".join(unknown) or f"layer {layer!r}, attn_layer_idx"
        raise CheckpointError(f"{where}: ssm_cfg asks for {said}, which LC-PLM does not have.")
    missing = [key for key in ("d_model", "n_layer", "vocab_size") if key not in config]
    if missing:
        raise CheckpointError(f"{where}: {', '.join(missing)} missing.")
    multiple = int(config.get("pad_vocab_size_multiple") or 1)
    rows = -(-int(config["vocab_size"]) // multiple) * multiple
    return {
        "d_model": int(config["d_model"]),
        "n_layers": int(config["n_layer"]),
        "pad_vocab_to": rows,
        "norm_eps": float(config.get("norm_epsilon", 1e-5)),
        **mamba,
    }


class _Source:
    """The published tensors, each taken once; what is left over at the end is unknown."""

    def __init__(self, tensors: Mapping[str, Tensor], where: Path) -> None:
        self.tensors, self.where, self.taken = tensors, where, set[str]()

    def take(self, key: str, shape: torch.Size) -> Tensor:
        """The tensor `key`, which must have `shape`."""
        self.taken.add(key)
        if key not in self.tensors:
            raise CheckpointError(
                f"{self.where}: the key {key} is missing, so the file is partial or of another "
                "model. Fetch the whole checkpoint again."
            )
        value = self.tensors[key]
        if value.shape != shape:
            raise CheckpointError(
                f"{self.where}: {key} has shape {tuple(value.shape)}, but config.json asks for "
                f"{tuple(shape)}."
            )
        return value

    def shared(self, forward: str, reverse: str, shape: torch.Size) -> Tensor:
        """A projection stored under one of two names or under both, then equal."""
        names = [name for name in (forward, reverse) if name in self.tensors] or [forward]
        found = [self.take(name, shape) for name in names]
        if len(found) == 2 and not torch.equal(found[0], found[1]):
            raise CheckpointError(
                f"{self.where}: {reverse} differs from {forward}. In LC-PLM the two directions "
                "share this projection; a loader that broke the tie has changed the file."
            )
        return found[0]

    def nothing_left(self) -> None:
        """Refuse keys that nobody asked for."""
        left = sorted(self.tensors.keys() - self.taken)
        if left:
            raise CheckpointError(
                f"{self.where}: {len(left)} unknown keys, the first is {left[0]}. This is not the "
                "published layout of LC-PLM."
            )


def network_from_published(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: Path
) -> LCPLM:
    """Build our network from the published configuration and tensors.

    Args:
        config: content of the published config.json.
        tensors: published names to tensors, of any floating dtype; become float32.
        where: the file or folder, for error messages.

    Returns:
        The network in evaluation mode, float32 on the CPU.

    Raises:
        CheckpointError: names the entry or key that does not fit.
    """
    with torch.device("meta"):
        network = LCPLM(**network_arguments(config, where))
    source, ours = _Source(tensors, where), dict(network.state_dict())
    weights = {
        "embedding.weight": source.take(
            f"{BACKBONE}embedding.weight", ours["embedding.weight"].shape
        ),
        "norm.weight": source.take(f"{BACKBONE}norm_f.weight", ours["norm.weight"].shape),
        HEAD: source.take(HEAD, ours[HEAD].shape),
    }
    if torch.equal(weights["embedding.weight"], weights[HEAD]):
        raise CheckpointError(
            f"{where}: {HEAD} equals {BACKBONE}embedding.weight. They are two matrices in LC-PLM; "
            "a loader that ties them by default has overwritten one. Fetch the original file."
        )
    for layer in range(len(network.blocks)):
        weights |= _block(source, layer, ours)
    source.nothing_left()
    network.load_state_dict(
        {key: value.to(torch.float32, copy=True) for key, value in weights.items()}, assign=True
    )
    return network.eval().requires_grad_()


def _block(source: _Source, layer: int, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one block under our names."""
    theirs, prefix = f"{BACKBONE}layers.{layer}.", f"blocks.{layer}."
    norm = prefix + "norm.weight"
    found = {norm: source.take(theirs + "norm.weight", ours[norm].shape)}
    forward, reverse = (f"{theirs}mixer.mamba_{one}." for one in ("fwd", "rev"))
    for key, name in SHARED.items():
        full = f"{prefix}mixer.{name}"
        found[full] = source.shared(forward + key, reverse + key, ours[full].shape)
    for key, name in PER_DIRECTION.items():
        full = f"{prefix}mixer.{name}"
        shape = ours[full].shape[1:]
        if key == "conv1d.weight":  # (E, 1, K): a depthwise Conv1d keeps a channel axis
            shape = torch.Size((shape[0], 1, shape[1]))
        pair = [source.take(one + key, shape) for one in (forward, reverse)]
        found[full] = torch.stack(pair).reshape(ours[full].shape)
    return found
