"""The text of the generated pages of the documentation: configs, reference, benchmarks."""

import ast
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

GROUPS = {
    "experiment": "A whole setting: the other groups' choices and their values.",
    "model": "The network; equal names of the two families have equal block parameters.",
    "data": "The data module.",
    "task": "The training objective.",
    "variant": "One row of the Focused Learning comparison, on top of an experiment.",
    "optimizer": "Optimizer and schedule.",
    "trainer": "Devices, precision, length of training: the arguments of `lightning.Trainer`.",
    "callbacks": "What runs beside the training.",
    "logger": "Where scalars go.",
    "paths": "Where runs are written.",
    "hydra": "Names of run directories, log lines.",
    "hparams_search": "Sweeps.",
    "debug": "Short runs that find mistakes.",
}
COLUMNS = ("case", "metric", "unit", "ours", "peer_name", "peer", "ratio", "limit")
TEXT_COLUMNS = ("case", "metric", "unit", "peer_name")


# -- configs ----------------------------------------------------------------------------------


def configuration(conf: Path) -> str:
    """Every config file, by group, with its YAML."""
    parts = [
        "# Configuration\n\nEvery config that is shipped, as it is. `GROUP=OPTION` chooses one, "
        "`GROUP.KEY=VALUE` changes a value; `--config-dir DIR` adds configs of your own (see the "
        "[tutorial](tutorial.md#configs-of-your-own)).\n",
        "## The two programs\n",
    ]
    for path in sorted(conf.glob("*.yaml"), reverse=True):
        program = (conf.parent / "lcframework" / f"{path.stem}.py").is_file()
        use = f": `python -m lcframework.{path.stem}`" if program else ""
        parts.append(_option(path, f"`{path.stem}.yaml`{use}"))
    folders = {path.name for path in conf.iterdir() if path.is_dir()}
    for group in [*(g for g in GROUPS if g in folders), *sorted(folders - set(GROUPS))]:
        parts.append(f"## {group}\n\n{GROUPS.get(group, '')}\n")
        for path in sorted((conf / group).rglob("*.yaml"), key=_by_size):
            name = path.relative_to(conf / group).with_suffix("").as_posix()
            parts.append(_option(path, f"`{group}={name}`"))
    return "\n".join(parts)


def _by_size(path: Path) -> tuple[str, int, str]:
    """Models in the order of their size, everything else by name."""
    values = yaml.safe_load(path.read_text()) or {}
    width, depth = values.get("d_model"), values.get("n_layers")
    if isinstance(width, int) and isinstance(depth, int):
        return (path.stem.rpartition("_")[0], width * width * depth, path.stem)
    return (path.as_posix(), 0, path.stem)


def _option(path: Path, title: str) -> str:
    return f"### {title}\n\n```yaml\n{path.read_text().strip()}\n```\n"


# -- reference --------------------------------------------------------------------------------


def rooms(package: Path) -> dict[str, list[str]]:
    """The modules of each room (`ops`, `models`, ...), dotted, in alphabetical order.

    Modules right under the package form the room `package`; modules whose names begin with an
    underscore are left out.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if any(part.startswith("_") and part != "__init__" for part in parts):
            continue
        if parts[-1] == "__init__":
            continue
        room = parts[1] if len(parts) > 2 else "package"
        found.setdefault(room, []).append(".".join(parts))
    return {room: found[room] for room in sorted(found)}


def _first_sentence(path: Path) -> str:
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "." if text else ""


def reference(package: Path, room: str, modules: Sequence[str]) -> str:
    """The page of one room: one mkdocstrings entry per module."""
    init = package / room / "__init__.py"
    about = _first_sentence(init) if init.is_file() else "What lies above the rooms."
    title = f"lcframework.{room}" if init.is_file() else "lcframework"
    entries = "\n\n".join(f"::: {module}" for module in modules)
    return f"# {title}\n\n{about}\n\n{entries}\n"


def reference_index(package: Path, by_room: Mapping[str, Sequence[str]]) -> str:
    """The list of all rooms and modules, with the first sentence of each."""
    lines = [
        "# Reference\n\nFrom the docstrings. Which room may import which is a contract that "
        "`make lint` checks.\n"
    ]
    for room, modules in by_room.items():
        lines.append(f"## [{room}]({room}.md)\n")
        lines.append("| module | |\n|---|---|")
        for module in modules:
            path = package.parent / Path(*module.split(".")).with_suffix(".py")
            sentence = _first_sentence(path).replace("|", "\\|")
            lines.append(f"| [`{module}`]({room}.md#{module}) | {sentence} |")
        lines.append("")
    return "\n".join(lines)


# -- benchmarks -------------------------------------------------------------------------------


def _cell(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "\\|")


def benchmark_table(path: Path) -> str:
    """The rows of one result file as a table, with where and when they were measured.

    Raises:
        FileNotFoundError: there is no such result.
    """
    record = json.loads(path.read_text())
    rows = record["rows"]
    known = [column for column in COLUMNS if any(_cell(row.get(column)) for row in rows)]
    more = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in COLUMNS]
    columns = known + more
    lines = [
        "| "
        + " | ".join({"peer_name": "compared with"}.get(column, column) for column in columns)
        + " |",
        "|" + "|".join("---" if column in TEXT_COLUMNS else "---:" for column in columns) + "|",
    ]
    for row in rows:
        cells = [_cell(row.get(column)) for column in columns]
        if "ratio" in columns and cells[columns.index("ratio")]:
            cells[columns.index("ratio")] += "x"
        lines.append("| " + " | ".join(cells) + " |")
    packages = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    where = f"{record['device']}; {packages}; commit {record['git']}, {record['date']}."
    return "\n".join(lines) + f"\n\nMeasured on: {where}\n"


def csv_table(path: Path, columns: Sequence[str] = ()) -> str:
    """A CSV file of benchmarks/results as a table: all columns, or those named."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(columns) or list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        lines.append("| " + " | ".join(_short(row[name]) for name in names) + " |")
    return "\n".join(lines)


def _short(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    return text if number.is_integer() else f"{number:.3f}"


def comparison_table(path: Path) -> str:
    """A comparison.json of `lcf context compare` as a table, with what was compared.

    Raises:
        FileNotFoundError: there is no such comparison.
    """
    record = json.loads(path.read_text())
    context, build = record["context"], record["context"]["build_seconds"]
    lines = [
        "| sparsity | read for question | read for answer | KV budget | first token | each further "
        "token | same next token | recall | mass | oracle's mass |",
        "|---|" + "---:|" * 9,
    ]
    for row in record["settings"]:
        measured = (row[key] for key in ("recall", "mass", "oracle_mass"))
        quality = ["" if one is None else f"{one:.2f}" for one in measured]
        cells = (
            row["setting"].removeprefix("sparsity "),
            f"{row['kept_question']:.0%}",
            f"{row['kept_answer']:.0%}",
            f"{row['budget']:.2f}",
            f"{row['first_token_s']:.2f} s",
            f"{row['ms_per_token']:.0f} ms",
            f"{row['same_next_token']:.0%}",
            *quality,
        )
        lines.append("| " + " | ".join(cells) + " |")
    about = (
        f"{context['model']}, {context['dtype']}, {context['tokens']:,} tokens, on "
        f"{context['device']} with {context['threads']} thread(s). Reading the document took "
        f"{build['read_s']:.0f} s, clustering it {build['cluster_s']:.1f} s."
    )
    if context.get("bytes"):
        about += f" Its file has {context['bytes'] / 1e6:,.1f} MB."
    return "\n".join(lines) + f"\n\n{about}\n\n{_answers(record)}"


def _answers(record: dict[str, Any]) -> str:
    """The answers to the first question, as written under every setting."""
    first = record["answers"][0]
    lines = [f"Asked: {first['question']}", ""]
    lines += [
        f"- **{row['setting']}:** `{' '.join(first[row['setting']].replace('`', '').split())}`"
        for row in record["settings"]
    ]
    return "\n".join(lines) + "\n"


def all_benchmarks(results: Path) -> str:
    """Every result file with what its benchmark says of itself."""
    parts = []
    for path in sorted(results.glob("*.json")):
        name = json.loads(path.read_text())["benchmark"]
        parts.append(f"## {name}\n\n{_about(results.parent, name)}{benchmark_table(path)}")
    return "\n".join(parts)


def _about(folder: Path, name: str) -> str:
    """The docstring of the benchmark that writes this result."""
    for path in sorted(folder.glob("*.py")):
        text = path.read_text()
        if path.stem == name or f'"{name}"' in text:
            about = ast.get_docstring(ast.parse(text)) or ""
            about = about.replace("[", "\\[")  # usage lines have brackets that are no links
            return f"`benchmarks/{path.name}`: {about}\n\n"
    return ""


# -- data sets --------------------------------------------------------------------------------


def table_of(markdown: str) -> str:
    """The lines of a text that belong to tables."""
    return "\n".join(line for line in markdown.splitlines() if line.startswith("|"))
