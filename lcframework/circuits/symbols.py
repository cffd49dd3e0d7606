"""The variables of depths and sizes: what they stand for and how they are written."""

from dataclasses import dataclass

from lcframework.circuits.polynomial import Polynomial, var


@dataclass(frozen=True)
class Symbol:
    """One variable.

    Attributes:
        text: in plain text.
        latex: in LaTeX.
        meaning: in words.
        of_paper: whether the paper has it.
    """

    text: str
    latex: str
    meaning: str
    of_paper: bool = True


DEPTH = {
    "d_g": Symbol("d_g", "d_g", "depth of each g_i, what stands between two attention layers"),
    "d_std": Symbol("d_std", r"d_{\mathrm{std}}", "one +, -, *, / or <= of p-bit floats"),
    "d_oplus": Symbol("d_⊕", r"d_{\oplus}", "sum of n floats, one rounding"),
    "d_otimes": Symbol("d_⊗", r"d_{\otimes}", "product of n floats, one rounding"),
    "d_exp": Symbol("d_exp", r"d_{\exp}", "exp to relative error 2^-p"),
    "d_sqrt": Symbol("d_sqrt", r"d_{\mathrm{sqrt}}", "square root to relative error 2^-p"),
    "d_tri": Symbol("d_△", r"d_{\triangle}", "sin and cos; 8 d_std + d_⊕ + d_⊗ by Taylor series"),
    "d_log": Symbol(
        "d_log",
        r"d_{\log}",
        "logarithm; the Mamba paper has one, its depth is not known here",
        False,
    ),
}
SIZE = {
    "n": Symbol("n", "n", "tokens"),
    **{
        "s" + name[1:]: Symbol(
            "s" + symbol.text[1:], "s" + symbol.latex[1:], "gates of: " + symbol.meaning,
            symbol.of_paper,
        )
        for name, symbol in DEPTH.items()
        if name != "d_g"
    },
}  # fmt: skip
TEXT = {name: symbol.text for name, symbol in (DEPTH | SIZE).items()}
LATEX = {name: symbol.latex for name, symbol in (DEPTH | SIZE).items()}

STD, OPLUS, OTIMES, EXP, SQRT, TRI, LOG, G = (
    var(f"d_{name}") for name in ("std", "oplus", "otimes", "exp", "sqrt", "tri", "log", "g")
)
N, S_STD, S_OPLUS, S_OTIMES, S_EXP, S_SQRT, S_TRI, S_LOG = (
    var(name) for name in ("n", "s_std", "s_oplus", "s_otimes", "s_exp", "s_sqrt", "s_tri", "s_log")
)
TRI_BY_SERIES: Polynomial = 8 * STD + OPLUS + OTIMES
"""d_△ in the other symbols: range reduction and a truncated Taylor series."""


def unknown_symbols(part: str) -> tuple[Polynomial, Polynomial]:
    """(depth, size) of a part whose computation is not known: variables of its own."""
    return var(f"d[{part}]"), var(f"s[{part}]")
