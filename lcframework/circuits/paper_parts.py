"""The components of "Circuit Complexity Bounds for RoPE-based Transformer Architecture".

The depths are the paper's as far as known: its body was not available, so each is also derived
here, by counting the levels of the computation (see `how`). Sizes are counted here.
"""

from lcframework.circuits.component import Component, extension, of_paper, series
from lcframework.circuits.polynomial import Polynomial, as_polynomial, var
from lcframework.circuits.symbols import (
    EXP,
    OPLUS,
    OTIMES,
    S_EXP,
    S_OPLUS,
    S_OTIMES,
    S_SQRT,
    S_STD,
    S_TRI,
    SQRT,
    STD,
    TRI,
    G,
    N,
)

Count = Polynomial | int


def float_operation() -> Component:
    """One +, -, *, / or <=."""
    return of_paper("float operation", STD, S_STD, "one operation")


def iterated_sum() -> Component:
    """A sum of n floats."""
    return of_paper("sum of n floats", OPLUS, S_OPLUS, "exact sum, one rounding")


def iterated_product() -> Component:
    """A product of n floats."""
    return of_paper("product of n floats", OTIMES, S_OTIMES, "exact product, one rounding")


def exponential() -> Component:
    """exp of one float."""
    return of_paper("exp", EXP, S_EXP, "one exponential")


def square_root() -> Component:
    """The root of one float."""
    return of_paper("sqrt", SQRT, S_SQRT, "one root")


def trigonometric() -> Component:
    """sin or cos of one float."""
    return of_paper("sin, cos", TRI, S_TRI, "range reduction, then a truncated Taylor series")


def matrix_product(
    rows: Count, inner: Count, columns: Count, parameters: int = 0, name: str = "matrix product"
) -> Component:
    """(rows, inner) times (inner, columns): all products at once, then all sums."""
    entries = as_polynomial(rows) * columns
    size = entries * inner * S_STD + entries * S_OPLUS
    how = "all products d_std, all sums d_⊕"
    return of_paper(name, STD + OPLUS, size, how, parameters)


def rope_matrix(head_dim: int) -> Component:
    """The rotations R_0 .. R_(n-1): n head_dim / 2 angles, a sine and a cosine each."""
    size = N * head_dim * S_TRI
    return of_paper("RoPE matrix", TRI, size, "sin and cos of each angle, all at once")


def attention_scores(n: Count, d: int, heads: int, kv_heads: int, head_dim: int) -> Component:
    """exp(x_i W_Q R_(j-i) W_K^T x_j^T) for all i, j: four matrix products, rotations, exp.

    The size is that of rotating queries and keys apart, which needs no more levels.
    """
    n = as_polynomial(n)
    rotated = n * (heads + kv_heads) * head_dim
    size = (
        matrix_product(n, d, heads * head_dim).size
        + matrix_product(n, d, kv_heads * head_dim).size
        + n * head_dim * S_TRI
        + rotated * 2 * S_STD
        + rotated * S_OPLUS
        + matrix_product(n, head_dim, n).size * heads
        + n * n * heads * S_EXP
    )
    return of_paper(
        "attention entries",
        4 * (STD + OPLUS) + TRI + EXP,
        size,
        "x W_Q, R, W_K^T, x^T: four matrix products; R: d_△; exp",
        (heads + kv_heads) * head_dim * d,
    )


def attention_layer(
    d: int, heads: int, kv_heads: int, head_dim: int, n: Count = N, rotary: bool = True
) -> Component:
    """D^-1 A X W_V: entries, row sums and division, A X, times W_V.

    Heads run side by side, which the paper does not treat and which does not change the depth; its
    single head is `heads = kv_heads = 1`, `head_dim = d`.
    """
    n = as_polynomial(n)
    scores = attention_scores(n, d, heads, kv_heads, head_dim)
    size = (
        scores.size
        + n * heads * S_OPLUS
        + n * n * heads * S_STD
        + matrix_product(n, d, kv_heads * head_dim).size
        + matrix_product(n, n, head_dim).size * heads
    )
    depth = scores.depth + 3 * (STD + OPLUS)
    how = "entries 4 (d_std + d_⊕) + d_△ + d_exp; row sums and division 1; A X, W_V 2"
    parameters = (heads + 2 * kv_heads) * head_dim * d
    if rotary:
        return of_paper("attention layer", depth, size, how, parameters)
    return extension(
        "attention layer without RoPE",
        7 * (STD + OPLUS) + EXP,
        size.substitute({"s_tri": 0}),
        "as with RoPE, without d_△ (an upper bound: there is no R to multiply by)",
        parameters,
        ("rope", "here"),
    )


def mlp_layer(
    d_in: int, d_out: int, rows: Count = N, bias: bool = True, name: str = "MLP layer"
) -> Component:
    """One affine map of every token."""
    rows = as_polynomial(rows)
    product = matrix_product(rows, d_in, d_out)
    depth, size = product.depth, product.size
    if bias:
        depth, size = depth + STD, size + rows * d_out * S_STD
    how = "products, sums" + (", bias" if bias else "; no bias: d_std less than the paper's")
    return of_paper(name, depth, size, how, d_in * d_out + (d_out if bias else 0))


def layer_norm(d: int, rows: Count = N) -> Component:
    """LayerNorm without gain, bias and epsilon, as in the paper."""
    rows = as_polynomial(rows)
    size = rows * ((3 * d + 2) * S_STD + 2 * S_OPLUS + S_SQRT)
    how = "sum d_⊕, mean, centre, square, sum d_⊕, variance, root, divide"
    return of_paper("LayerNorm", 5 * STD + 2 * OPLUS + SQRT, size, how)


def between_layers() -> Component:
    """The paper's g_i: whatever constant-depth part stands between two attention layers."""
    return of_paper("g_i", G, var("s[g_i]"), "assumed of depth at most d_g")


def transformer(layers: int, d: int = 1) -> Component:
    """The paper's network of m single-head attention layers: g_m A_m ... g_1 A_1 g_0."""
    parts = [between_layers()]
    for _ in range(layers):
        parts += [attention_layer(d, 1, 1, d), between_layers()]
    return series(f"{layers}-layer RoPE transformer", parts)


def depth_formula(layers: int) -> Polynomial:
    """(m + 1) d_g + 7 m (d_std + d_⊕) + m (d_△ + d_exp), the closed form of `transformer`."""
    return (layers + 1) * G + 7 * layers * (STD + OPLUS) + layers * (TRI + EXP)
