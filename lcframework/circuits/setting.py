"""The hypotheses of a verdict: what grows with n, and what the model may do besides one pass."""

from dataclasses import dataclass, fields
from typing import Any

from lcframework.errors import ConfigError

CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("transformer", "mamba", "linear-rnn", "unknown"),
    "precision": ("constant", "log", "poly"),
    "depth": ("constant", "log", "polylog", "poly"),
    "width": ("constant", "linear", "poly"),
    "cot": ("none", "log", "linear", "poly"),
    "padding": ("none", "poly"),
    "uniformity": ("dlogtime", "none"),
}
MEANINGS = {
    "precision": {
        "constant": "a fixed number of bits, as in a real format, rounded after every operation",
        "log": "O(log n) bits",
        "poly": "O(poly n) bits",
    },
    "depth": {
        "constant": "O(1) layers",
        "log": "layers repeated O(log n) times",
        "polylog": "layers repeated O(log^d n) times",
        "poly": "layers repeated poly(n) times",
    },
    "width": {"constant": "d = O(1)", "linear": "d <= O(n)", "poly": "d <= poly(n)"},
    "cot": {
        "none": "the answer after one pass",
        "log": "O(log n) decoding steps",
        "linear": "O(n) decoding steps",
        "poly": "poly(n) decoding steps",
    },
    "padding": {"none": "no padding tokens", "poly": "poly(n) padding tokens"},
    "uniformity": {
        "dlogtime": "one simple rule gives the network for every n",
        "none": "another network for every n",
    },
}


@dataclass(frozen=True)
class Setting:
    """An architecture and how it grows.

    Attributes:
        kind: "transformer" (softmax attention), "mamba", "linear-rnn" (products of generalised
            Householder matrices with eigenvalues in [-1, 1]) or "unknown".
        causal: whether it can decode step by step.
        rotary: whether positions enter by RoPE alone.
        precision: see `MEANINGS`.
        depth: see `MEANINGS`.
        width: see `MEANINGS`.
        cot: see `MEANINGS`.
        padding: see `MEANINGS`.
        uniformity: see `MEANINGS`.

    Raises:
        ConfigError: a value that is none of the choices.
    """

    kind: str = "transformer"
    causal: bool = True
    rotary: bool = True
    precision: str = "poly"
    depth: str = "constant"
    width: str = "linear"
    cot: str = "none"
    padding: str = "none"
    uniformity: str = "dlogtime"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r} is not one of {', '.join(choices)}."
                )

    def hypotheses(self) -> dict[str, str]:
        """Each hypothesis in words."""
        return {
            one.name: f"{getattr(self, one.name)}: {MEANINGS[one.name][getattr(self, one.name)]}"
            for one in fields(self)
            if one.name in MEANINGS
        }

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {one.name: getattr(self, one.name) for one in fields(self)}
