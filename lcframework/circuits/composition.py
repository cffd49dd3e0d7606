"""Networks of your own, as a YAML file that composes the known parts.

    name: two layers of mine
    length: 2048                        # optional, else --length
    components:
      norm: {rms_norm: {width: 512}}
      mixer: {attention: {width: 512, heads: 8}}
      branch: {series: [norm, mixer, {residual: {width: 512}}]}
    model: [{embedding: {vocabulary: 1000, width: 512}}, {repeat: branch, times: 2}]

A list is a series; `series`, `parallel` and `repeat` compose; anything else is a name under
`components` or one of `PARTS` with its sizes. The parts run over `n` tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from lcframework.circuits import extension_parts as ext
from lcframework.circuits import paper_parts as paper
from lcframework.circuits.architecture import Mamba
from lcframework.circuits.component import Component, parallel, repeat, series
from lcframework.circuits.mamba_parts import mamba_block
from lcframework.circuits.symbols import N
from lcframework.errors import ConfigError


@dataclass(frozen=True)
class Composition:
    """A composed network.

    Attributes:
        name: from the file.
        lines: its top-level parts in order.
        max_length: from `length`, None if it is not given.
        widest: the largest size that any part was given.
        parts: keys of `PARTS` that occur.
    """

    name: str
    lines: tuple[Component, ...]
    max_length: int | None
    widest: int = 1
    parts: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        """Which theorem is about it: "mamba" if it has such a block, else "transformer"; the class
        of a series is that of its parts."""
        return "mamba" if "mamba" in self.parts else "transformer"


def _attention(width: int, heads: int = 1, kv_heads: int = 0, head_dim: int = 0) -> Component:
    return paper.attention_layer(width, heads, kv_heads or heads, head_dim or width // heads)


def _mamba(width: int, inner: int, states: int = 16, taps: int = 4, rank: int = 1) -> Component:
    return series("Mamba block", mamba_block(width, Mamba(inner, states, taps, rank)))


def _gated_mlp(width: int, hidden: int, activation: str = "silu") -> Component:
    return ext.gated_mlp(width, hidden, activation)


def _activation(name: str, width: int) -> Component:
    return ext.activation(name, width)


PARTS: dict[str, Callable[..., Component]] = {
    "float_operation": paper.float_operation,
    "iterated_sum": paper.iterated_sum,
    "iterated_product": paper.iterated_product,
    "exp": paper.exponential,
    "sqrt": paper.square_root,
    "sin_cos": paper.trigonometric,
    "matrix_product": lambda inner, columns: paper.matrix_product(N, inner, columns),
    "rope": lambda head_dim: paper.rope_matrix(head_dim),
    "attention": _attention,
    "mlp_layer": lambda inputs, outputs: paper.mlp_layer(inputs, outputs),
    "paper_layer_norm": lambda width: paper.layer_norm(width),
    "g": paper.between_layers,
    "layer_norm": ext.layer_norm,
    "rms_norm": lambda width: ext.rms_norm(width),
    "gated_mlp": _gated_mlp,
    "activation": _activation,
    "residual": lambda width: ext.residual(width),
    "subtract_largest": lambda: ext.subtract_largest(N, N),
    "output_projection": lambda inputs, width: ext.output_projection(inputs, width, False),
    "embedding": lambda vocabulary, width: ext.embedding(vocabulary, width),
    "head": lambda width, vocabulary: ext.head(width, vocabulary, False),
    "argmax": ext.argmax,
    "mamba": _mamba,
}
COMPOSERS = ("series", "parallel", "repeat")


def read_composition(path: Path, raw: dict[str, Any]) -> Composition:
    """Compose what a file describes.

    Raises:
        ConfigError: an unknown component, a circular one, wrong sizes, or no `model`.
    """
    if "model" not in raw or not isinstance(raw["components"], dict):
        raise ConfigError(
            f"{path}: a composition has a mapping 'components' and an entry 'model'. Add what is "
            "missing; see the documentation page on circuits."
        )
    top = raw["model"] if isinstance(raw["model"], list) else [raw["model"]]
    one = _Reader(path, raw["components"])
    length = raw.get("length")
    if length is not None and (isinstance(length, bool) or not isinstance(length, int)):
        raise ConfigError(f"{path}: length = {length!r} must be a whole number.")
    lines = tuple(one.read(entry, ()) for entry in top)
    return Composition(
        str(raw.get("name", path.stem)), lines, length, one.widest, frozenset(one.used)
    )


class _Reader:
    def __init__(self, path: Path, components: dict[str, Any]) -> None:
        self.path, self.components = path, components
        self.widest = 1
        self.used: set[str] = set()

    def read(self, entry: Any, within: tuple[str, ...]) -> Component:
        """One entry; `within` are the components being read, outermost first."""
        if isinstance(entry, list):
            return series("series", [self.read(one, within) for one in entry])
        if isinstance(entry, str):
            return self._named(entry, within)
        if not isinstance(entry, dict) or not entry:
            raise ConfigError(
                f"{self.path}: {entry!r} is no component. Write a name, a list, or one of "
                f"{', '.join(COMPOSERS)} or a part with its sizes."
            )
        if "repeat" in entry:
            times = entry.get("times")
            if isinstance(times, bool) or not isinstance(times, int) or times < 0:
                raise ConfigError(
                    f"{self.path}: repeat needs 'times', a whole number, got {times!r}."
                )
            return repeat(self.read(entry["repeat"], within), times)
        if len(entry) != 1:
            raise ConfigError(
                f"{self.path}: {sorted(entry)} stand in one entry. Write one component per entry."
            )
        ((kind, inside),) = entry.items()
        if kind in ("series", "parallel"):
            if not isinstance(inside, list) or not inside:
                raise ConfigError(f"{self.path}: {kind} needs a list of components.")
            parts = [self.read(one, within) for one in inside]
            return (series if kind == "series" else parallel)(kind, parts)
        return self._part(kind, inside)

    def _named(self, name: str, within: tuple[str, ...]) -> Component:
        if name in within:
            circle = " -> ".join([*within[within.index(name) :], name])
            raise ConfigError(
                f"{self.path}: circular composition: {circle}. A component cannot contain itself; "
                "use repeat with a number of times."
            )
        if name in self.components:
            inside = self.read(self.components[name], (*within, name))
            return repeat(inside, 1, name)
        return self._part(name, {})

    def _part(self, kind: str, sizes: Any) -> Component:
        if kind not in PARTS:
            known = ", ".join([*self.components, *PARTS])
            raise ConfigError(
                f"{self.path}: unknown component {kind!r}. Known are: {known}. Define it under "
                "components."
            )
        self.used.add(kind)
        wanted = signature(PARTS[kind]).parameters
        sizes = {} if sizes is None else sizes
        if not isinstance(sizes, dict) or set(sizes) - set(wanted):
            raise ConfigError(
                f"{self.path}: {kind} takes {', '.join(wanted) or 'nothing'}, got {sizes!r}."
            )
        missing = [n for n, p in wanted.items() if p.default is p.empty and n not in sizes]
        if missing:
            raise ConfigError(f"{self.path}: {kind} needs {', '.join(missing)}.")
        for name, value in sizes.items():
            text = name in ("activation", "name")
            if text and value not in ext.ACTIVATIONS:
                raise ConfigError(
                    f"{self.path}: unknown activation {value!r}; known are "
                    f"{', '.join(ext.ACTIVATIONS)}."
                )
            if not text and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(
                    f"{self.path}: {kind}: {name} = {value!r} must be a whole number of at least 1."
                )
            self.widest = max(self.widest, 1 if text else value)
        return PARTS[kind](**sizes)
