"""From an architecture to the list of its components, in the order of the computation."""

from dataclasses import dataclass

from lcframework.circuits import extension_parts as ext
from lcframework.circuits import paper_parts as paper
from lcframework.circuits.architecture import Architecture, Attention, Block, FeedForward
from lcframework.circuits.component import Component, repeat, series, unknown
from lcframework.circuits.composition import Composition
from lcframework.circuits.mamba_parts import mamba_block
from lcframework.circuits.polynomial import Polynomial
from lcframework.circuits.symbols import OPLUS, S_OPLUS, S_STD, STD, N

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        where: "input", "output", or "layer" with how many layers have this component.
        component: once.
        times: how often it stands in series.
    """

    where: str
    component: Component
    times: int = 1

    @property
    def total(self) -> Component:
        """All of them in series."""
        return repeat(self.component, self.times, self.component.name)


def assemble(model: Architecture | Composition) -> list[Line]:
    """Every component of a model, unknown parts included."""
    if isinstance(model, Composition):
        return [Line("model", component) for component in model.lines]
    lines = [Line(INPUT, component) for component in _input(model)]
    for count, block in model.blocks:
        where = "layer" if len(model.blocks) == 1 else f"layer ({count} of {model.layers})"
        merged: dict[Component, int] = {}
        for component in _block(model, block):
            merged[component] = merged.get(component, 0) + 1
        lines += [Line(where, one, times * count) for one, times in merged.items()]
    lines += [Line(OUTPUT, component) for component in _output(model)]
    inside = {f"{model.family} block"} | {f"activation {name}" for name in _activations(model)}
    named = [unknown(part, why) for part, why in model.unknown if part not in inside]
    return lines + [Line("unknown", one, model.layers) for one in named]


def totals(lines: list[Line]) -> Component:
    """All lines in series."""
    return series("total", [line.total for line in lines])


def _activations(model: Architecture) -> set[str]:
    return {b.feed_forward.activation for _, b in model.blocks if b.feed_forward}


def _input(model: Architecture) -> list[Component]:
    d = model.width
    parts = [ext.embedding(model.vocabulary, d)]
    if model.token_dropout:
        parts.append(
            ext.extension(
                "token dropout rescaling",
                4 * STD + OPLUS + 1,
                3 * S_STD + S_OPLUS + 2 * N * d * S_STD,
                "masked tokens to 0, count them, their share, 1 -, divide, multiply",
            )
        )
    if model.embedding_scale:
        parts.append(ext.multiplied(d, "embedding scale"))
    if model.learned_positions:
        table = ext.bias(d, "learned positions")
        parts.append(
            ext.extension(
                table.name, table.depth, table.size, table.how, model.learned_positions * d
            )
        )
    if model.embedding_norm:
        parts.append(ext.layer_norm(d))
    return parts


def _block(model: Architecture, block: Block) -> list[Component]:
    d = model.width
    norm = ext.rms_norm(d) if block.norm == "rms" else ext.layer_norm(d)
    after = [norm] if block.sandwich else []
    if block.mixer is None:
        why = next(why for part, why in model.unknown if part == f"{model.family} block")
        return [unknown(f"{model.family} block", why)]
    mixer = (
        _attention(block.mixer, d)
        if isinstance(block.mixer, Attention)
        else mamba_block(d, block.mixer)
    )
    parts = [norm, *mixer, *after, ext.residual(d)]
    if block.feed_forward:
        parts += [norm, _feed_forward(block.feed_forward, d), *after, ext.residual(d)]
    return parts


def _attention(mixer: Attention, d: int) -> list[Component]:
    heads, kv = mixer.heads, mixer.kv_heads
    width = heads * mixer.head_dim
    core = paper.attention_layer(d, heads, kv, mixer.head_dim, rotary=mixer.rotary)
    parts = [core]
    if mixer.qkv_bias:
        parts.append(ext.bias(width + 2 * kv * mixer.head_dim, "query, key, value bias"))
    if mixer.qk_norm:
        rows = N * (heads + kv)
        gains = 2 * mixer.head_dim
        parts.append(ext.rms_norm(mixer.head_dim, rows, "query and key RMSNorm", gains))
    if mixer.soft_cap:
        parts.append(ext.soft_cap(N * N * heads, "score soft cap"))
    if mixer.causal or mixer.window:
        parts.append(ext.causal_mask(mixer.window))
    parts.append(ext.subtract_largest(N * heads, N))
    if heads > 1:
        grouped = f", {kv} of keys and values" if kv < heads else ""
        parts.append(
            ext.extension(
                f"{heads} heads{grouped}",
                Polynomial(),
                Polynomial(),
                "side by side: no level; their gates are in the attention layer",
            )
        )
    return [*parts, ext.output_projection(width, d, mixer.out_bias)]


def _feed_forward(one: FeedForward, d: int) -> Component:
    if one.activation not in ext.ACTIVATIONS:
        act = unknown(f"activation {one.activation}", "not a known activation")
        maps = [paper.mlp_layer(d, one.width, bias=one.bias)]
        maps *= 2 if one.gated else 1
        down = paper.mlp_layer(one.width, d, bias=one.bias)
        return series("MLP with an unknown activation", [*maps, act, down])
    if one.experts:
        return ext.mixture_of_experts(
            d, one.width, one.activation, one.experts, one.chosen, one.renormalise
        )
    if one.gated:
        return ext.gated_mlp(d, one.width, one.activation, one.bias)
    return ext.mlp(d, one.width, one.activation, one.bias)


def _output(model: Architecture) -> list[Component]:
    d, vocabulary = model.width, model.vocabulary
    parts = []
    if model.final_norm:
        norm = model.blocks[-1][1].norm
        parts.append(ext.rms_norm(d) if norm == "rms" else ext.layer_norm(d))
    if model.head == "esm":
        dense = paper.mlp_layer(d, d, name="head's dense layer")
        parts += [dense, ext.activation("gelu", d), ext.layer_norm(d)]
    parts.append(ext.head(d, vocabulary, model.tied, model.head == "esm"))
    if model.final_soft_cap:
        parts.append(ext.soft_cap(N * vocabulary, "logit soft cap"))
    if model.head != "none":
        parts.append(ext.argmax(vocabulary))
    return parts
