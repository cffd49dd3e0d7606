"""The documentation site: built with warnings as errors, complete, and asking no other server."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Requests(HTMLParser):
    """Collects what a browser would fetch by itself from elsewhere; links to follow are none."""

    def __init__(self):
        super().__init__()
        self.external = []

    def handle_starttag(self, tag, attributes):
        if tag != "a" and ("rel", "canonical") not in attributes:
            self.external += [
                value
                for name, value in attributes
                if name in ("src", "href", "srcset") and re.match(r"(https?:)?//", value or "")
            ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_config_is_on_the_configuration_page(site):
    page = (site / "configuration.html").read_text()
    for path in (ROOT / "conf").glob("*/**/*.yaml"):
        group, *option = path.relative_to(ROOT / "conf").with_suffix("").parts
        assert f"<code>{group}={'/'.join(option)}</code>" in page


@pytest.mark.slow
def test_every_module_is_in_the_reference(site):
    pages = "".join(path.read_text() for path in (site / "reference").glob("*.html"))
    for path in (ROOT / "lcframework").rglob("*.py"):
        if not path.stem.startswith("_"):
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert f'id="{dotted}"' in pages


@pytest.mark.slow
def test_benchmark_numbers_are_those_of_the_results(site):
    page = (site / "benchmarks.html").read_text()
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        record = json.loads(path.read_text())
        assert record["git"] in page
        for row in record["rows"]:
            value = row["ours"]
            assert (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}") in page


@pytest.mark.slow
def test_the_page_on_circuits_holds_what_the_calculator_says(site):
    from lcframework.circuits.paper_parts import depth_formula
    from lcframework.circuits.symbols import TEXT

    page = (site / "circuits.html").read_text()
    for m in (1, 2, 3, 4, 32, 36, 33):
        assert depth_formula(m).text(TEXT) in page
    assert page.count("not expressible unless TC0 = NC1") == 8
    for name in ("circuits_add.png", "circuits_float-add.png", "circuits_growth.png"):
        assert (site / name).read_bytes()[:4] == b"\x89PNG"
        assert f'src="{name}"' in page


@pytest.mark.slow
def test_no_page_asks_another_server_or_leaves_a_marker(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        requests = Requests()
        requests.feed(text)
        assert not requests.external, path.name
        assert not re.search("<!-- (benchmark|data sets|circuits|squeezed)", text)
        assert 'class="mermaid"' not in text  # the theme would fetch the renderer
