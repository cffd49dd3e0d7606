"""Components of real configurations that the paper does not treat; every count is derived here.

Constants are layers of plain threshold gates. Where the count rests on a published result that the
function is computable at all (erf, log), that is cited.
"""

from lcframework.circuits.component import Component, extension, series
from lcframework.circuits.paper_parts import layer_norm as paper_layer_norm
from lcframework.circuits.paper_parts import mlp_layer
from lcframework.circuits.polynomial import Polynomial, as_polynomial
from lcframework.circuits.symbols import (
    EXP,
    LOG,
    OPLUS,
    OTIMES,
    S_EXP,
    S_LOG,
    S_OPLUS,
    S_OTIMES,
    S_SQRT,
    S_STD,
    SQRT,
    STD,
    N,
)

HERE_AND_SERIES = ("here", "reif-tate")
# name: (depth, size of one, how, citations)
_ACTIVATIONS: dict[str, tuple[Polynomial, Polynomial, str, tuple[str, ...]]] = {
    "relu": (as_polynomial(1), S_STD, "sign bit AND each other bit", ("here",)),
    "relu2": (STD + 1, 2 * S_STD, "relu, square", ("here",)),
    "sigmoid": (2 * STD + EXP, 2 * S_STD + S_EXP, "exp(-x), 1 +, divide", ("here",)),
    "silu": (2 * STD + EXP, 2 * S_STD + S_EXP, "exp(-x), 1 +, x divided by it", ("here",)),
    "tanh": (3 * STD + EXP, 3 * S_STD + S_EXP, "exp(2x), 1 +, divide, 1 -", ("here",)),
    "quick_gelu": (3 * STD + EXP, 3 * S_STD + S_EXP, "1.702 x, then silu's", ("here",)),
    "gelu_tanh": (
        6 * STD + EXP,
        6 * S_STD + S_EXP,
        "x (c1 + c2 x²): 4; then x / (1 + exp(-u)): d_exp and 2",
        ("here",),
    ),
    "gelu": (
        4 * STD + OTIMES + OPLUS + 2,
        4 * S_STD + S_OTIMES + S_OPLUS,
        "erf by its series beside a comparison with the saturated range: x / √2, powers d_⊗, "
        "coefficients, sum d_⊕, select 2; 1 +, times x / 2",
        HERE_AND_SERIES,
    ),
    "softplus": (STD + EXP + LOG, S_STD + S_EXP + S_LOG, "log(1 + exp x)", ("here", "mamba")),
}
_NAMES = {
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu_squared": "relu2",
}
ACTIVATIONS = (*_ACTIVATIONS, *_NAMES)


def activation(name: str, width: int, rows: Polynomial = N) -> Component:
    """An elementwise function of (rows, width).

    Raises:
        KeyError: not one of `ACTIVATIONS`.
    """
    plain = _NAMES.get(name, name)
    depth, size, how, cite = _ACTIVATIONS[plain]
    return extension(name, depth, rows * width * size, how, cite=cite)


def gated_mlp(d: int, width: int, act: str, bias: bool = False, rows: Polynomial = N) -> Component:
    """(act(x W_gate) * (x W_up)) W_down: SwiGLU with silu, GeGLU with gelu."""
    affine = mlp_layer(d, width, rows, bias)
    act_part = activation(act, width, rows)
    down = mlp_layer(width, d, rows, bias)
    return extension(
        f"gated MLP ({act})",
        affine.depth + act_part.depth + STD + down.depth,
        2 * affine.size + act_part.size + rows * width * S_STD + down.size,
        f"two maps side by side, {act} ({act_part.how}), product, third map",
        2 * affine.parameters + down.parameters,
        act_part.cite,
    )


def mlp(d: int, width: int, act: str, bias: bool, rows: Polynomial = N) -> Component:
    """act(x W_1 + b_1) W_2 + b_2."""
    parts = [
        mlp_layer(d, width, rows, bias),
        activation(act, width, rows),
        mlp_layer(width, d, rows, bias),
    ]
    one = series(f"MLP ({act})", parts)
    return extension(one.name, one.depth, one.size, one.how, one.parameters, parts[1].cite)


def mixture_of_experts(
    d: int, width: int, act: str, experts: int, chosen: int, renormalise: bool
) -> Component:
    """All experts side by side, weighted by the softmax of a router cut to the largest k."""
    expert = gated_mlp(d, width, act)
    depth = (
        (STD + OPLUS)  # router
        + (2 * STD + 3)  # its largest logit subtracted
        + (EXP + OPLUS + STD)  # softmax
        + (STD + 2)  # compare all pairs, count to k, mask
        + ((OPLUS + STD) if renormalise else Polynomial())
        + expert.depth
        + (STD + OPLUS)  # weighted sum
    )
    per_token = (
        experts * d * S_STD
        + (experts + 3 + d) * S_OPLUS
        + (3 * experts * experts + 5 * experts + experts * d) * S_STD
        + experts * S_EXP
    )
    return extension(
        f"mixture of {experts} experts ({act})",
        depth,
        N * per_token + experts * expert.size,
        f"router, softmax, the {chosen} largest by counting larger ones, every expert side by "
        "side, weighted sum",
        experts * expert.parameters + experts * d,
    )


def layer_norm(d: int) -> Component:
    """LayerNorm with gain, bias and epsilon: three operations more than the paper's."""
    paper = paper_layer_norm(d)
    return extension(
        "LayerNorm with gain, bias, epsilon",
        paper.depth + 3 * STD,
        paper.size + N * (2 * d + 1) * S_STD,
        f"the paper's 5 d_std + 2 d_⊕ + d_sqrt ({paper.how}); epsilon, gain, bias",
        2 * d,
        ("rope", "here"),
    )


def rms_norm(d: int, rows: Polynomial = N, name: str = "RMSNorm", parameters: int | None = None):
    """RMSNorm with gain and epsilon over rows of d numbers."""
    return extension(
        name,
        5 * STD + OPLUS + SQRT,
        rows * ((3 * d + 2) * S_STD + S_OPLUS + S_SQRT),
        "square, sum d_⊕, mean, epsilon, root, divide, gain",
        d if parameters is None else parameters,
    )


def bias(width: int, name: str = "bias") -> Component:
    """A trained vector added to every token."""
    return extension(name, STD, N * width * S_STD, "one addition", width)


def residual(d: int) -> Component:
    """x + f(x)."""
    return extension("residual", STD, N * d * S_STD, "one addition")


def causal_mask(window: int | None) -> Component:
    """Which entries count is known in advance, so that the others are left out of every sum."""
    text = "wired" if window is None else f"wired; a window of {window:,} tokens is a smaller sum"
    return extension("mask", Polynomial(), Polynomial(), text)


def subtract_largest(rows: Polynomial, columns: Polynomial) -> Component:
    """The largest entry of each row subtracted before exp."""
    return extension(
        "largest score subtracted",
        2 * STD + 3,
        rows * columns * columns * S_STD + rows * columns * 2 * S_STD,
        "compare all pairs, AND, select 2, subtract",
    )


def soft_cap(entries: Polynomial, name: str) -> Component:
    """c tanh(x / c)."""
    depth, size, how, _ = _ACTIVATIONS["tanh"]
    return extension(
        name, 2 * STD + depth, entries * (2 * S_STD + size), f"divide, tanh ({how}), multiply"
    )


def output_projection(d_in: int, d: int, with_bias: bool) -> Component:
    """The heads' outputs side by side times W_O."""
    one = mlp_layer(d_in, d, bias=with_bias)
    return extension(
        "output projection", one.depth, one.size, "one product and one sum level", one.parameters
    )


def embedding(vocabulary: int, d: int, name: str = "embedding lookup") -> Component:
    """The row of a table: is it this token (AND), then OR over the rows; copying a number counts
    as one operation's gates."""
    return extension(
        name,
        as_polynomial(2),
        N * vocabulary + N * d * S_STD,
        "AND of the token's bits, OR over the vocabulary",
        vocabulary * d,
    )


def head(d: int, vocabulary: int, tied: bool, with_bias: bool = False) -> Component:
    """Logits."""
    one = mlp_layer(d, vocabulary, bias=with_bias)
    parameters = (0 if tied else vocabulary * d) + (vocabulary if with_bias else 0)
    how = "one matrix product" + (" with the embedding's table" if tied else "")
    return extension("language-model head", one.depth, one.size, how, parameters)


def argmax(vocabulary: int) -> Component:
    """The token with the largest logit, the first of equal ones."""
    return extension(
        "argmax over the vocabulary",
        STD + 2,
        N * vocabulary * vocabulary * S_STD + N * 2 * vocabulary,
        "compare all pairs, AND, OR into the token's bits",
    )


def multiplied(d: int, name: str) -> Component:
    """Every number of a token times a constant."""
    return extension(name, STD, N * d * S_STD, "one multiplication")
