"""MkDocs hooks: pages that are generated at build, so that they cannot go stale.

* the front page, the house rules and the changelog from README.md, CONTRIBUTING.md, CHANGELOG.md;
* `configuration.md` from the tree of configs;
* `reference/<room>.md`, one entry per module, filled from the docstrings by mkdocstrings;
* the tables of benchmarks: a line `<!-- benchmark: NAME -->` in a page becomes the table of
  benchmarks/results/NAME.json, `<!-- benchmarks -->` all of them; `<!-- csv: FILE COLUMN ... -->`
  a CSV file there; their pictures lie beside the pages;
* tables of `lcf context compare`: `<!-- squeezed comparison: NAME -->` from
  benchmarks/results/runs/NAME.json;
* tables and pictures of the page on circuits (`<!-- circuits: NAME -->`), by docs_circuits.py.

The navigation is made here too: a page under docs/ that no list below names is added by itself.
"""

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# MkDocs loads a hook as a lone file; its neighbour is found only by its folder.
sys.path.insert(0, str(ROOT / "scripts"))

import docs_circuits  # noqa: E402
import docs_pages  # noqa: E402

FIRST = ("index.md", "tutorial.md", "data.md", "scan.md")
LAST = ("configuration.md", "benchmarks.md")
PROJECT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
LINKS = {
    "data/README.md": "data.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
ROOMS = docs_pages.rooms(ROOT / "lcframework")


def relink(text: str) -> str:
    """Turn links between files of the repository into links between pages."""

    def page(match: re.Match[str]) -> str:
        target = match.group(1)
        return f"]({LINKS.get(target, target.removeprefix('docs/'))}{match.group(2) or ''})"

    return re.sub(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", page, text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation."""
    written = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    others = [name for name in written if name not in (*FIRST, *LAST)]
    reference = ["reference/index.md", *(f"reference/{room}.md" for room in ROOMS)]
    config.nav = [
        {"Start": FIRST[0]},
        *FIRST[1:],
        *others,
        *LAST,
        {"Reference": reference},
        {"Project": list(PROJECT)},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "index.md": relink((ROOT / "README.md").read_text()),
        "configuration.md": docs_pages.configuration(ROOT / "conf"),
        "reference/index.md": docs_pages.reference_index(ROOT / "lcframework", ROOMS),
    }
    for name, source in PROJECT.items():
        pages[name] = relink((ROOT / source).read_text())
    for room, modules in ROOMS.items():
        pages[f"reference/{room}.md"] = docs_pages.reference(ROOT / "lcframework", room, modules)
    drawn = (ROOT / "benchmarks" / "results").rglob("*.png")
    pictures = docs_circuits.pictures() | {path.name: path.read_bytes() for path in drawn}
    for name, content in {**pages, **pictures}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in the tables of benchmarks and of data sets."""
    results = ROOT / "benchmarks" / "results"
    markdown = re.sub(
        r"<!-- benchmark: (\S+) -->",
        lambda match: docs_pages.benchmark_table(results / f"{match.group(1)}.json"),
        markdown,
    )
    markdown = re.sub(
        r"<!-- csv: (\S+?)((?: \S+)*) -->",
        lambda match: docs_pages.csv_table(results / match.group(1), match.group(2).split()),
        markdown,
    )
    markdown = re.sub(
        r"<!-- squeezed comparison: (\S+) -->",
        lambda match: docs_pages.comparison_table(results / "runs" / f"{match.group(1)}.json"),
        markdown,
    )
    markdown = re.sub(
        r"<!-- circuits: (\S+) -->", lambda match: docs_circuits.part(match.group(1)), markdown
    )
    markdown = re.sub(
        r"<!-- circuits verdicts: (\S+) -->",
        lambda match: docs_circuits.verdict_table(match.group(1)),
        markdown,
    )
    if "<!-- benchmarks -->" in markdown:
        markdown = markdown.replace("<!-- benchmarks -->", docs_pages.all_benchmarks(results))
    if "<!-- data sets -->" in markdown:
        table = docs_pages.table_of((ROOT / "data" / "README.md").read_text())
        markdown = markdown.replace("<!-- data sets -->", table)
    return markdown
