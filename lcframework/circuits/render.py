"""A report as text for a terminal, as Markdown for the documentation, and as LaTeX."""

from collections.abc import Sequence

from lcframework.circuits.polynomial import Polynomial
from lcframework.circuits.references import REFERENCES
from lcframework.circuits.report import SURE, Report, verdict_record
from lcframework.circuits.symbols import LATEX, TEXT
from lcframework.circuits.tasks import TASKS
from lcframework.circuits.verdicts import CAVEATS, Verdict

HEADERS = ("where", "component", "x", "depth of one", "gates of one", "tag", "source", "how")
SPECIAL = {"%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "²": "$^2$", "√": r"$\surd$",
           "⊕": r"$\oplus$", "⊗": r"$\otimes$", "△": r"$\triangle$", "^": r"\^{}"}  # fmt: skip


def leading(size: Polynomial, names=TEXT) -> str:
    """The terms with the highest power of n; what is left as `+ O(n^k)`."""
    degree = size.degree("n")
    top = Polynomial(tuple((m, c) for m, c in size.terms if dict(m).get("n", 0) == degree))
    rest = [dict(m).get("n", 0) for m, _ in size.terms if dict(m).get("n", 0) < degree]
    text = top.text(names)
    if not rest:
        return text
    return f"{text} + {('O(1)', 'O(n)')[max(rest)] if max(rest) < 2 else f'O(n^{max(rest)})'}"


def number(value: Polynomial) -> str:
    """A number, in powers of ten if it is large, or what is left of the polynomial."""
    whole = value.number()
    if whole is None:
        return leading(value)
    return f"{whole:,}" if whole < 10**7 else f"{float(whole):.2e}"


def rows(report: Report) -> list[tuple[str, ...]]:
    """The lines of the table, see `HEADERS`."""
    found = []
    for line in report.lines:
        one = line.component
        gates = report.gates(one.size)
        found.append(
            (
                line.where,
                one.name,
                str(line.times),
                report.depth(one.depth).text(TEXT),
                number(gates) if report.costs else leading(gates),
                one.tag,
                sources(one.cite),
                one.how,
            )
        )
    return found


def summary(report: Report) -> list[tuple[str, str]]:
    """(what, value) below the table."""
    total = report.total
    pairs = [
        (f"total depth ({total.tag})", total.depth.text(TEXT)),
        (f"total gates ({total.tag})", leading(total.size)),
    ]
    if report.costs:
        depth, gates = report.depth(total.depth), report.gates(total.size)
        pairs += [
            ("depth in layers of gates", f"at most {number(depth)}"),
            (f"gates at n = {report.length:,}", f"at most {number(gates)}"),
        ]
    if report.formula:
        m = report.model.layers  # type: ignore[union-attr]
        closed = "(m + 1) d_g + 7 m (d_std + d_⊕) + m (d_△ + d_exp)"
        pairs += [
            (f"paper's formula, m = {m}", report.formula.text(TEXT)),
            ("", f"{closed}: one head, g_i of depth d_g [rope]"),
        ]
    return pairs


def sources(keys: Sequence[str]) -> str:
    """Where a count comes from: keys of the list of sources."""
    return ", ".join(keys) or "none"


def title(report: Report) -> str:
    """One line about the model."""
    from lcframework.circuits.precision import describe

    parts = [report.model.name, report.family]
    if report.family != "composition":
        parts.append(f"{report.model.layers} layers, width {report.model.width:,}")  # type: ignore[union-attr]
    parts.append(f"{report.total.parameters:,} parameters, n = {report.length:,}")
    return "; ".join(parts) + f"; {describe(report.fmt)}"


def cited(keys: Sequence[str]) -> str:
    """Short forms of references."""
    return "; ".join(REFERENCES[key].short for key in dict.fromkeys(keys) if key != "here")


def verdict_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """(task, class, answer, reference) per task."""
    return [
        (TASKS[v.task].title, TASKS[v.task].level, v.text, cited(v.cite[:1]))
        for v in report.verdicts
    ]


def verdict_text(one: Verdict) -> str:
    """A verdict with everything it needs, as plain lines."""
    record = verdict_record(one)
    level = f"{record['class']}-complete" if record["complete"] else f"in {record['class']}"
    lines = [
        f"{record['title']} ({level}): {one.text.upper()}",
        f"  why: {one.reason}",
        f"  upper bound: {record['upper_bound'] or 'none known here'}",
        "  needs:" + ("" if one.hypotheses else " nothing beyond the setting"),
        *(f"    - {text}" for text in one.hypotheses),
        "  sources:",
    ]
    for key in one.cite:
        reference = REFERENCES[key]
        lines.append(f"    - {reference.who}. {reference.title}. {reference.where}.")
        lines.append(f"      states: {reference.states} [{reference.read}]")
    if record["note"]:
        lines.append(f"  note: {record['note']}")
    return "\n".join([*lines, *(f"  {text}" for text in CAVEATS)])


# -- Markdown ---------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """Tables for the documentation."""
    head = [name for name in HEADERS if name != "how"]
    lines = [
        f"**{title(report)}**\n",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row[:-1]) + " |" for row in rows(report)),
        "",
        "| total | |",
        "|---|---|",
        *(f"| {what} | {value} |" for what, value in summary(report)),
        "",
    ]
    return "\n".join(lines)


def verdict_markdown(report: Report) -> str:
    """The table of verdicts."""
    lines = ["| task | class | verdict | source |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in verdict_rows(report))])


# -- LaTeX ------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Plain text for LaTeX."""
    return "".join(SPECIAL.get(character, character) for character in text)


def latex(report: Report) -> str:
    """A booktabs table of the lines, the totals and the formula."""
    body = []
    for line in report.lines:
        one = line.component
        depth = report.depth(one.depth).latex(LATEX)
        degree = one.size.degree("n")
        order = {0: "O(1)", 1: "O(n)"}.get(degree, f"O(n^{{{degree}}})")
        cells = [escape(line.where), escape(one.name), str(line.times), f"${depth}$",
                 f"${order}$", one.tag, escape(sources(one.cite))]  # fmt: skip
        body.append("  " + " & ".join(cells) + r" \\")
    total = report.depth(report.total.depth).latex(LATEX)
    lines = [
        "% " + title(report),
        r"\begin{tabular}{llrllll}",
        r"  \toprule",
        r"  where & component & times & depth & gates & tag & source \\",
        r"  \midrule",
        *body,
        r"  \midrule",
        rf"  \multicolumn{{7}}{{l}}{{total depth: ${total}$}} \\",
    ]
    if report.formula:
        m = report.model.layers  # type: ignore[union-attr]
        formula = report.formula.latex(LATEX)
        lines.append(rf"  \multicolumn{{7}}{{l}}{{the paper's formula, $m={m}$: ${formula}$}} \\")
    lines += [r"  \bottomrule", r"\end{tabular}"]
    cites = (f"{key}: {REFERENCES[key].short}" for key in report.cited())
    return "\n".join([*lines, *(f"% {text}" for text in (SURE, *CAVEATS, *cites))]) + "\n"
