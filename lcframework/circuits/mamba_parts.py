"""The Mamba block as a circuit: the sibling result.

That Mamba is in DLOGTIME-uniform TC0 is stated by arXiv 2412.06148 and 2404.08819; their depths
were not available, so that every count here is derived here. The recurrence is unrolled: with
decays a_r, h_t = sum over s <= t of (a_(s+1) ... a_t) b_s, a product of up to n floats and a sum of
up to n, so the number of levels does not grow with n.
"""

from lcframework.circuits.architecture import Mamba
from lcframework.circuits.component import Component, extension
from lcframework.circuits.extension_parts import activation
from lcframework.circuits.paper_parts import mlp_layer
from lcframework.circuits.symbols import (
    EXP,
    OPLUS,
    OTIMES,
    S_EXP,
    S_OPLUS,
    S_OTIMES,
    S_STD,
    STD,
    N,
)

CITE = ("mamba", "illusion", "here")


def mamba_block(d: int, m: Mamba) -> list[Component]:
    """The components of one mixer of width d in series; directions run side by side."""
    into = mlp_layer(d, 2 * m.inner, bias=m.projection_bias)
    out = mlp_layer(m.inner, d, bias=m.projection_bias)
    return [
        extension("in projection", into.depth, into.size, into.how, into.parameters, CITE),
        _convolution(m),
        _selection(m),
        _discretisation(m),
        _scan(m),
        _gate(m),
        extension("out projection", out.depth, out.size, out.how, out.parameters, CITE),
    ]


def _convolution(m: Mamba) -> Component:
    silu = activation("silu", m.inner)
    bias = 1 if m.conv_bias else 0
    return extension(
        "short convolution with silu",
        STD + OPLUS + bias * STD + silu.depth,
        m.directions * (N * m.inner * ((m.taps + 1) * S_STD + S_OPLUS) + silu.size),
        f"{m.taps} products, sum" + (", bias" if bias else "") + f"; silu: {silu.how}",
        m.directions * m.inner * (m.taps + bias),
        CITE,
    )


def _selection(m: Mamba) -> Component:
    maps = mlp_layer(m.inner, m.rank + 2 * m.states, bias=False)
    step = mlp_layer(m.rank, m.inner, bias=True)
    softplus = activation("softplus", m.inner)
    return extension(
        "maps to step, B and C",
        maps.depth + step.depth + softplus.depth,
        m.directions * (maps.size + step.size + softplus.size),
        "x to (step, B, C); step projection; softplus",
        m.directions * (maps.parameters + step.parameters),
        CITE,
    )


def _discretisation(m: Mamba) -> Component:
    per_state = N * m.inner * m.states
    return extension(
        "discretisation",
        2 * STD + EXP,
        m.directions * (per_state * (2 * S_STD + S_EXP) + N * m.inner * S_STD),
        "exp(step A) beside step x B",
        m.directions * m.inner * m.states,
        CITE,
    )


def _scan(m: Mamba) -> Component:
    per_state = N * m.inner * m.states
    size = (
        N * per_state * (S_OTIMES + S_STD)
        + per_state * (S_OPLUS + S_STD)
        + N * m.inner * (S_OPLUS + 2 * S_STD)
    )
    return extension(
        "selective scan (unrolled)",
        (OTIMES + STD + OPLUS) + (STD + OPLUS) + 2 * STD,
        m.directions * size,
        "products of decays d_⊗, times inputs, sum d_⊕; C h: product, sum; + D x: 2",
        m.directions * m.inner,
        CITE,
    )


def _gate(m: Mamba) -> Component:
    silu = activation("silu", m.inner)
    both = m.directions > 1
    return extension(
        "sum of directions and gate" if both else "gate",
        STD * (2 if both else 1),
        (m.directions * N * m.inner) * S_STD + silu.size,
        ("sum of the directions, " if both else "") + "times silu(z), which is ready earlier",
        0,
        CITE,
    )
