"""The generated parts of the page on circuits: nothing there is typed in."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from lcframework.circuits import render
from lcframework.circuits.paper_parts import transformer
from lcframework.circuits.precision import parse_precision
from lcframework.circuits.read_model import read_model
from lcframework.circuits.references import REFERENCES
from lcframework.circuits.report import Report, calculate
from lcframework.circuits.symbols import DEPTH, TEXT
from lcframework.circuits.threshold.catalogue import NAMES, Size, build, describe
from lcframework.circuits.threshold.draw import draw
from lcframework.circuits.threshold.growth import measure, save

ROOT = Path(__file__).resolve().parents[1]
LENGTH, PRECISION = 4096, "bf16"


def _path(name: str) -> Path:
    ours = ROOT / "conf" / "model" / f"{name}.yaml"
    return ours if ours.is_file() else ROOT / "tests" / "fixtures" / "model_configs" / name


def _report(name: str, explicit: bool) -> Report:
    return calculate(read_model(_path(name)), parse_precision(PRECISION), LENGTH, explicit)


def model_tables(name: str) -> str:
    """The table in symbols, and the totals in numbers."""
    symbols, numbers = _report(name, False), _report(name, True)
    lines = [render.markdown(symbols)]
    counted = [row for row in render.summary(numbers) if "layers" in row[0] or "n =" in row[0]]
    lines += ["| in bfloat16, with the circuits built here | |", "|---|---|"]
    lines += [f"| {what} | {value} |" for what, value in counted]
    each = [
        f"{row[1]} {row[3]}"
        for row in render.rows(numbers)
        if row[3] != "0" and row[0].startswith("layer")
    ]
    lines.append(f"| layers of one component | {', '.join(each)} |")
    return "\n".join(lines) + "\n"


def verdict_table(name: str) -> str:
    """The verdicts on all tasks."""
    return render.verdict_markdown(_report(name, False))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def symbols() -> str:
    """The variables of depths."""
    rows = [
        (one.text, one.meaning, "yes" if one.of_paper else "no: extension")
        for one in DEPTH.values()
    ]
    return _table(("depth", "of", "in the paper"), rows)


def formula() -> str:
    """The formula for m = 1 to 4, composed by the algebra."""
    rows = [(str(m), transformer(m).depth.text(TEXT)) for m in range(1, 5)]
    return _table(("m", "depth"), rows)


def catalogue() -> str:
    """Every circuit, built with 3 bits."""
    rows = []
    for name in NAMES:
        size = Size(2 if name == "attention" else 3)
        one = build(name, size)
        what = describe(name, size).removeprefix(f"{name}: ")
        rows.append((f"`{name}`", what, str(one.depth), f"{one.size:,}", f"{one.wire_count:,}"))
    return _table(("circuit", "computes", "depth", "gates", "wires"), rows)


def references() -> str:
    """All sources."""
    rows = [
        (f"`{key}`", f"{one.who}. {one.title}. {one.where}.", one.states, one.read)
        for key, one in REFERENCES.items()
    ]
    return _table(("key", "source", "cited for", "read"), rows)


PARTS: dict[str, Callable[[], str]] = {
    "symbols": symbols,
    "formula": formula,
    "catalogue": catalogue,
    "references": references,
}


def part(name: str) -> str:
    """What `<!-- circuits: NAME -->` becomes: a part, or the tables of a model."""
    return PARTS[name]() if name in PARTS else model_tables(name)


def pictures() -> dict[str, bytes]:
    """The page's pictures by file name, drawn now."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("add", "float-add"):
            path = Path(folder) / f"{name}.png"
            draw(build(name, Size(3)), path, describe(name, Size(3)))
            found[f"circuits_{name}.png"] = path.read_bytes()
        save(measure(), Path(folder))
        found["circuits_growth.png"] = (Path(folder) / "growth.png").read_bytes()
    return found
