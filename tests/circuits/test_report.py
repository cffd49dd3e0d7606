"""The calculator on whole models: totals, formula, costs, and the forms of output."""

import json
import re
from pathlib import Path

import pytest

from lcframework.circuits import render
from lcframework.circuits.costs import apply, explicit_costs
from lcframework.circuits.paper_parts import depth_formula
from lcframework.circuits.precision import parse_precision
from lcframework.circuits.read_model import read_model
from lcframework.circuits.report import SURE, calculate
from lcframework.circuits.symbols import EXP, OPLUS, SQRT, STD, TRI
from lcframework.circuits.threshold.catalogue import CIRCUITS
from lcframework.paths import conf_dir

CONFIGS = Path(__file__).parents[1] / "fixtures" / "model_configs"
MODELS = {
    "llama": CONFIGS / "llama-3.1-8b",
    "qwen3": CONFIGS / "qwen3-8b",
    "esm": CONFIGS / "esm2_t33_650M_UR50D",
    "lcplm": conf_dir() / "model" / "lcplm_1b4.yaml",
}


def report(name, explicit=False, precision="bf16", length=4096, **hypotheses):
    return calculate(
        read_model(MODELS[name]), parse_precision(precision), length, explicit, **hypotheses
    )


def test_llamas_depth_by_hand():
    m = 32
    norm, attention = 5 * STD + OPLUS + SQRT, 7 * (STD + OPLUS) + TRI + EXP
    block = (
        (norm + attention + (2 * STD + 3) + (STD + OPLUS) + STD)  # scores' maximum, W_O, residual
        + (norm + (5 * STD + 2 * OPLUS + EXP) + STD)
    )
    whole = 2 + m * block + norm + (STD + OPLUS) + (STD + 2)
    assert report("llama").total.depth == whole


@pytest.mark.parametrize(("name", "m"), [("llama", 32), ("qwen3", 36), ("esm", 33)])
def test_the_papers_formula_is_below_the_table(name, m):
    one = report(name)
    assert one.formula == depth_formula(m)
    attention = next(x for x in one.lines if x.component.name == "attention layer")
    assert (attention.times, attention.component.tag) == (m, "paper")
    shown = dict(render.summary(one))
    assert shown[f"paper's formula, m = {m}"].startswith(f"{m + 1} d_g + {7 * m} d_std")


def test_mamba_has_the_sibling_and_no_formula():
    one = report("lcplm")
    assert one.formula is None
    assert one.setting.kind == "mamba"
    assert any("mamba" in line.component.cite for line in one.lines)
    assert next(v for v in one.verdicts if v.task == "s5").cite[0] == "mamba"


@pytest.mark.parametrize("name", MODELS)
def test_every_line_has_a_tag_a_count_in_words_and_a_source(name):
    for line in report(name).lines:
        one = line.component
        assert one.tag in ("paper", "extension")
        assert one.how and one.cite and one.checked


@pytest.mark.parametrize("name", MODELS)
def test_explicit_costs_are_those_of_the_circuits(name):
    one = report(name, explicit=True)
    depth = {symbol: cost.depth for symbol, cost in one.costs.items()}
    standard = ("float-add", "float-multiply", "float-divide", "float-compare")
    assert depth["std"] == max(CIRCUITS[circuit].depth for circuit in standard)
    assert depth["oplus"] == CIRCUITS["float-sum"].depth
    assert depth["otimes"] == CIRCUITS["float-product"].depth
    number = apply(one.total.depth, one.costs).number()
    by_hand = one.total.depth.substitute({f"d_{s}": d for s, d in depth.items()}).number()
    assert number == by_hand
    assert one.gates(one.total.size).number() > one.total.parameters


def test_numbers_only_where_a_circuit_backs_them():
    costs = explicit_costs(parse_precision("fp32"), 4096, 4096)
    assert costs["oplus"].depth == 7
    for symbol in ("std", "exp", "sqrt", "tri", "log"):
        assert costs[symbol].depth is None
        assert re.search(r"not built in this format: up to [\d,]+ gates", costs[symbol].source)
    one = report("llama", explicit=True, precision="fp32")
    assert one.depth(one.total.depth).variables == {"d_std", "d_exp", "d_sqrt", "d_tri"}
    small = explicit_costs(parse_precision("p=3"), 4, 4)
    assert all("built: depth" in cost.source for cost in small.values())


def test_depth_does_not_depend_on_the_length_and_gates_do():
    short, long = report("llama", length=128), report("llama", length=100_000)
    assert short.total.depth == long.total.depth
    assert "n" not in short.total.depth.variables
    short, long = report("llama", True, length=128), report("llama", True, length=4096)
    assert short.gates(short.total.size).number() < long.gates(long.total.size).number()


def test_json_holds_everything_and_nothing_torch_needs(tmp_path):
    record = json.loads(json.dumps(report("qwen3", explicit=True).record()))
    assert record["paper_formula"].startswith("37 d_g")
    assert record["total"]["depth_coefficients"]["d_tri"] == 36
    assert isinstance(record["total"]["depth_number"], int)
    assert {line["tag"] for line in record["lines"]} == {"paper", "extension"}
    assert all(line["cite"] and line["how"] and line["checked"] for line in record["lines"])
    assert any("Asymptotic" in text for text in record["caveats"])
    assert any("not learnable" in text for text in record["caveats"])
    assert record["sure"] == SURE
    bfvp = next(v for v in record["verdicts"] if v["task"] == "bfvp")
    assert (bfvp["answer"], bfvp["condition"]) == ("not expressible", "unless TC0 = NC1")
    assert set(bfvp["cite"]) <= set(record["references"])


def test_latex_is_balanced_and_complete():
    one = report("llama")
    text = render.latex(one)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert body.count("{") == body.count("}")
    assert body.count("$") % 2 == 0
    assert not re.search(r"(?<!\\)[&_%#](?![^$]*\$)[⊕⊗△²]", body)
    assert not set(body) & set("⊕⊗△²√")
    for line in one.lines:
        assert render.escape(line.component.name) in body
    assert "TC0" not in body and "not learnable" in text


def test_leading_terms():
    one = report("llama")
    attention = next(x for x in one.lines if x.component.name == "attention layer").component
    assert render.leading(attention.size).endswith("+ 32 n² s_exp + O(n)")
    assert render.leading(one.total.size) == "1,024 n³ s_std + O(n^2)"


def test_markdown_tables_have_as_many_cells_as_heads():
    for text in (render.markdown(report("esm")), render.verdict_markdown(report("esm"))):
        tables = [line for line in text.splitlines() if line.startswith("|")]
        heads = {line.count("|") for line in tables}
        assert len(heads) <= 2
