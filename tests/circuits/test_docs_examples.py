"""The examples on the page about circuits run as they stand."""

import re
from pathlib import Path

from lcframework.circuits.precision import parse_precision
from lcframework.circuits.read_model import read_model
from lcframework.circuits.report import calculate

PAGE = (Path(__file__).parents[2] / "docs" / "circuits.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_script_runs(capsys):
    (script,) = blocks("python")
    names = {}
    exec(compile(script, "docs/circuits.md", "exec"), names)  # our own page
    assert capsys.readouterr().out == "7 414\n"
    assert names["products"].shape == (1000, 17)
    assert names["graph"].number_of_nodes() == 34 + 414


def test_the_composition_is_read(tmp_path):
    (text,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(text)
    report = calculate(read_model(tmp_path / "mine.yaml"), parse_precision("bf16"), None, True)
    assert (report.model.name, report.length) == ("two layers of mine", 2048)
    assert report.depth(report.total.depth).number() > 0


def test_no_table_is_typed_in():
    """Depths on the page come from the calculator, apart from the general formula."""
    assert not re.search(r"\d d_std", PAGE)
    for name in ("symbols", "formula", "catalogue", "references", "llama-3.1-8b", "qwen3-8b"):
        assert f"<!-- circuits: {name} -->" in PAGE
