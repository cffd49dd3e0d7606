"""The Mamba block as a circuit: the sibling result.

That Mamba is in DLOGTIME-uniform TC0 is stated by arXiv 2412.06148 and 2404.08819; their depths
were not available, so that every count here is derived here. The recurrence is unrolled: with
decays a_r, h_t = sum over s <= t of (a_(s+1) ... a_t) b_s, a product of up to n floats and a sum of
up to n, so the number of levels does not grow with n.
"""

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


def mamba_block(
    d: int,
    inner: int,
    states: int,
    taps: int,
    rank: int,
    directions: int = 1,
    projection_bias: bool = False,
    conv_bias: bool = True,
) -> list[Component]:
    """The components of one mixer in series; directions run side by side.

    Args:
        d: model width.
        inner: channels E.
        states: per channel.
        taps: of the short convolution.
        rank: of the step projection.
        directions: 2 for BiMamba, whose in and out projections are shared.
        projection_bias: of in and out projection.
        conv_bias: of the convolution.
    """
    silu = activation("silu", inner)
    into = mlp_layer(d, 2 * inner, bias=projection_bias)
    out = mlp_layer(inner, d, bias=projection_bias)
    maps = mlp_layer(inner, rank + 2 * states, bias=False)
    step = mlp_layer(rank, inner, bias=True)
    softplus = activation("softplus", inner)
    per_state = N * inner * states
    convolution = extension(
        "short convolution, silu",
        STD + OPLUS + (STD if conv_bias else 0) + silu.depth,
        directions * (N * inner * ((taps + 1) * S_STD + S_OPLUS) + silu.size),
        f"{taps} products, sum" + (", bias" if conv_bias else "") + f"; silu: {silu.how}",
        directions * inner * (taps + (1 if conv_bias else 0)),
        CITE,
    )
    selection = extension(
        "step, input and output maps",
        maps.depth + step.depth + softplus.depth,
        directions * (maps.size + step.size + softplus.size),
        "x to (step, B, C); step projection; softplus",
        directions * (maps.parameters + step.parameters),
        CITE,
    )
    discretisation = extension(
        "discretisation",
        2 * STD + EXP,
        directions * (per_state * (2 * S_STD + S_EXP) + N * inner * S_STD),
        "exp(step A) beside step x B",
        directions * inner * states,
        CITE,
    )
    scan = extension(
        "selective scan, unrolled",
        OTIMES + STD + OPLUS + STD + OPLUS + 2 * STD,
        directions
        * (
            N * per_state * (S_OTIMES + S_STD)
            + per_state * (S_OPLUS + S_STD)
            + N * inner * (S_OPLUS + 2 * S_STD)
        ),
        "products of decays d_⊗, times inputs, sum d_⊕; C h: product, sum; + D x: 2",
        directions * inner,
        CITE,
    )
    gate = extension(
        "directions added, gate" if directions > 1 else "gate",
        STD * (2 if directions > 1 else 1),
        (directions * N * inner) * S_STD + silu.size,
        ("sum of the directions, " if directions > 1 else "")
        + "times silu(z), which is ready earlier",
        0,
        CITE,
    )
    return [
        extension("in projection", into.depth, into.size, into.how, into.parameters, CITE),
        convolution,
        selection,
        discretisation,
        scan,
        gate,
        extension("out projection", out.depth, out.size, out.how, out.parameters, CITE),
    ]
