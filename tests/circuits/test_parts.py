"""The component algebra and the paper's depth table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcframework.circuits import extension_parts as ext
from lcframework.circuits import paper_parts as paper
from lcframework.circuits.architecture import Mamba
from lcframework.circuits.component import parallel, repeat, series, unknown
from lcframework.circuits.mamba_parts import mamba_block
from lcframework.circuits.polynomial import Polynomial, upper_bound, var
from lcframework.circuits.symbols import (
    EXP,
    LATEX,
    OPLUS,
    OTIMES,
    SQRT,
    STD,
    TEXT,
    TRI,
    TRI_BY_SERIES,
    G,
    N,
)

COEFFICIENTS = st.dictionaries(
    st.sampled_from([(), (("a", 1),), (("b", 2),), (("a", 1), ("b", 1))]), st.integers(0, 9)
)
POLYNOMIALS = COEFFICIENTS.map(Polynomial.of)


@given(POLYNOMIALS, POLYNOMIALS, st.integers(0, 20), st.integers(0, 20))
def test_polynomials_are_a_ring_homomorphism_to_numbers(p, q, a, b):
    def at(polynomial):
        return polynomial.substitute({"a": a, "b": b}).number()

    assert at(p + q) == at(p) + at(q)
    assert at(p * q) == at(p) * at(q)
    assert at(upper_bound(p, q)) >= max(at(p), at(q))
    assert (p.number() is None) == bool(p.variables)


def test_polynomials_are_written_in_the_order_of_the_symbols():
    p = 7 * (OPLUS + STD) + TRI + EXP + 3
    assert p.text(TEXT) == "7 d_std + 7 d_⊕ + d_exp + d_△ + 3"
    assert p.latex(LATEX).startswith(r"7\,d_{\mathrm{std}} + 7\,d_{\oplus}")
    assert (N * N * var("s_std") * 1200).text(TEXT) == "1,200 n² s_std"
    assert (N * N * var("s_std")).latex(LATEX) == r"n^{2}\,s_{\mathrm{std}}"
    assert Polynomial().text() == "0"
    assert p.coefficients() == {"d_oplus": 7, "d_std": 7, "d_tri": 1, "d_exp": 1, "1": 3}
    assert (N * N + N).degree("n") == 2


@pytest.mark.parametrize(
    ("component", "depth"),
    [
        (paper.float_operation(), STD),
        (paper.iterated_sum(), OPLUS),
        (paper.iterated_product(), OTIMES),
        (paper.exponential(), EXP),
        (paper.square_root(), SQRT),
        (paper.trigonometric(), TRI),
        (paper.matrix_product(N, 8, N), STD + OPLUS),
        (paper.rope_matrix(8), TRI),
        (paper.attention_scores(N, 8, 1, 1, 8), 4 * (STD + OPLUS) + TRI + EXP),
        (paper.attention_layer(8, 1, 1, 8), 7 * (STD + OPLUS) + TRI + EXP),
        (paper.mlp_layer(8, 16), 2 * STD + OPLUS),
        (paper.layer_norm(8), 5 * STD + 2 * OPLUS + SQRT),
    ],
)
def test_the_papers_depth_table(component, depth):
    assert component.depth == depth
    assert component.tag == "paper"
    assert component.cite == ("rope",)
    assert "not compared" in component.checked  # said in every output
    assert component.how


def test_trigonometric_depth_by_series():
    assert TRI_BY_SERIES == 8 * STD + OPLUS + OTIMES


@pytest.mark.parametrize("m", [0, 1, 2, 3, 4])
def test_the_m_layer_formula(m):
    composed = paper.transformer(m)
    assert composed.depth == (m + 1) * G + 7 * m * (STD + OPLUS) + m * (TRI + EXP)
    assert composed.depth == paper.depth_formula(m)
    assert composed.tag == "paper"


def test_the_formula_as_text():
    assert paper.depth_formula(1).text(TEXT) == "2 d_g + 7 d_std + 7 d_⊕ + d_exp + d_△"
    assert paper.depth_formula(4).text(TEXT) == "5 d_g + 28 d_std + 28 d_⊕ + 4 d_exp + 4 d_△"
    assert paper.depth_formula(0) == G


def test_heads_change_the_size_and_not_the_depth():
    one, many = paper.attention_layer(64, 1, 1, 64), paper.attention_layer(64, 8, 8, 8)
    grouped = paper.attention_layer(64, 8, 2, 8)
    assert one.depth == many.depth == grouped.depth
    entries = {("n", 2), ("s_exp", 1)}

    def exponentials(component):
        return next(c for m, c in component.size.terms if set(m) == entries)

    assert exponentials(many) == 8 * exponentials(one) == exponentials(grouped)
    assert grouped.parameters < many.parameters


def test_attention_without_rope_has_no_trigonometry_and_is_an_extension():
    one = paper.attention_layer(64, 2, 2, 32, rotary=False)
    assert one.depth == 7 * (STD + OPLUS) + EXP
    assert one.tag == "extension"
    assert "s_tri" not in one.size.variables


def test_a_matrix_product_costs_its_products_and_sums():
    size = paper.matrix_product(3, 5, 7).size
    assert size.coefficients() == {"s_std": 105, "s_oplus": 21}


def test_series_add_parallel_takes_the_larger():
    a, b = paper.mlp_layer(4, 4), paper.exponential()
    both = series("both", [a, b])
    assert both.depth == a.depth + b.depth
    assert both.size == a.size + b.size
    side = parallel("side", [a, b])
    assert side.depth == upper_bound(a.depth, b.depth)
    assert side.size == both.size
    assert repeat(a, 3).depth == 3 * a.depth
    assert repeat(a, 3).parameters == 3 * a.parameters


def test_tags_of_compositions():
    known, more = paper.exponential(), ext.residual(4)
    assert series("x", [known, known]).tag == "paper"
    assert series("x", [known, more]).tag == "extension"
    assert series("x", [known, more, unknown("warp", "?")]).tag == "unknown"


def test_an_unknown_part_stays_a_variable_of_its_own():
    total = series("net", [paper.exponential(), repeat(unknown("warp", "?"), 3)])
    assert total.depth.text(TEXT) == "d_exp + 3 d[warp]"
    assert "s[warp]" in total.size.variables


@pytest.mark.parametrize(
    ("component", "depth"),
    [
        (ext.rms_norm(8), 5 * STD + OPLUS + SQRT),
        (ext.layer_norm(8), 8 * STD + 2 * OPLUS + SQRT),
        (ext.gated_mlp(8, 16, "silu"), 5 * STD + 2 * OPLUS + EXP),
        (ext.output_projection(8, 8, False), STD + OPLUS),
        (ext.residual(8), STD),
        (ext.causal_mask(None), Polynomial()),
        (ext.subtract_largest(N, N), 2 * STD + 3),
        (ext.embedding(10, 8), Polynomial() + 2),
        (ext.argmax(10), STD + 2),
        (ext.activation("silu", 8), EXP + 2 * STD),
    ],
)
def test_extensions_are_tagged_and_counted(component, depth):
    assert component.depth == depth
    assert component.tag == "extension"
    assert component.checked == "derived here"
    assert component.how


def test_every_activation_has_a_depth_and_a_citation():
    for name in ext.ACTIVATIONS:
        part = ext.activation(name, 4)
        assert part.depth.terms and part.cite


def test_the_mamba_block_has_no_level_that_grows_with_n():
    parts = mamba_block(8, Mamba(16, 4, 4, 2, directions=2))
    total = series("mixer", parts)
    assert "n" not in total.depth.variables
    assert total.depth.variables == {"d_std", "d_oplus", "d_otimes", "d_exp", "d_log"}
    assert total.size.degree("n") == 2
    assert all("mamba" in part.cite and part.tag == "extension" for part in parts)
