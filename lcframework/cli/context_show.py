"""How `lcf context` prints what it has to say."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lcframework.models.squeezed import Answer, SqueezedContext
from lcframework.run.context_compare import Comparison, answers_text


def show_about(about: dict[str, Any], path: Path) -> None:
    """What `read_about` found, as a table."""
    plan, facts, model = about["plan"], about["facts"], about["model"]
    dense = about["layers"] - len(about["squeezed_layers"])
    layers = f"{len(about['squeezed_layers'])} squeezed"
    if dense:
        numbers = ", ".join(map(str, about["squeezed_layers"]))
        layers += f" ({numbers})" if numbers else ""
        layers += f", {dense} with a sliding window left dense"
    clusters = ", ".join(f"{one:,}" for one in about["clusters"])
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in {
        "file": f"{path}, {about['bytes'] / 1e6:,.1f} MB",
        "document": f"{about['tokens']:,} tokens, {about['clustered']:,} of them clustered",
        "exact": f"last {plan['window']:,} tokens"
        + (f", first {plan['sinks']:,}" if plan["sinks"] else ""),
        "clusters": f"{clusters} (per head; finest level first)",
        "model": f"{model['architecture']}, {model['dtype']}, {about['model_path'] or 'unknown'}",
        "layers": f"{layers}; {about['heads']} key-value heads",
        "built in": ", ".join(
            f"{name.removesuffix('_s')} {seconds:.1f} s" for name, seconds in facts.items()
        ),
    }.items():
        table.add_row(name, value)
    Console().print(table, highlight=False, soft_wrap=True)


def answer_record(one: Answer, context: SqueezedContext) -> dict[str, Any]:
    """An answer as JSON: shares per layer and key-value head; null where nothing was decoded."""

    def shares(kept: Any) -> dict[str, list[float]] | None:
        if bool(kept.isnan().any()):
            return None
        rows = kept.tolist()
        return {
            str(layer): [round(share, 5) for share in row]
            for layer, row in zip(context.squeezed_layers, rows, strict=True)
        }

    return {
        "question": one.question,
        "answer": one.text,
        "tokens": len(one.tokens),
        "kept_question": shares(one.kept_prefill),
        "kept_answer": shares(one.kept_decode),
        "budget": one.budget,
    }


def show_answers(
    answers: Sequence[Answer], seconds: float, context: SqueezedContext, *, as_json: bool
) -> None:
    """Questions and answers, what was read for each, and how long it took."""
    tokens = sum(len(one.tokens) for one in answers)
    if as_json:
        record = {
            "answers": [answer_record(one, context) for one in answers],
            "seconds": seconds,
            "document_tokens": context.length,
        }
        sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return
    for one in answers:
        read = f"{float(one.kept_prefill.mean()):.1%} of the document read for the question"
        if not bool(one.kept_decode.isnan().any()):
            read += f", {float(one.kept_decode.mean()):.1%} for each word of the answer"
        sys.stdout.write(f"\n{one.question}\n{one.text}\n[{read}]\n")
    sys.stdout.write(
        f"\n{len(answers)} answers, {tokens} tokens in {seconds:.1f} s "
        f"({context.length:,} tokens of document)\n"
    )


COLUMNS = {
    "setting": ("sparsity", "{}"),
    "kept_question": ("read,\nquestion", "{:.1%}"),
    "kept_answer": ("read,\nanswer", "{:.1%}"),
    "budget": ("KV\nbudget", "{:.3f}"),
    "first_token_s": ("first\ntoken, s", "{:.3f}"),
    "ms_per_token": ("token,\nms", "{:.1f}"),
    "same_next_token": ("same next\ntoken", "{:.1%}"),
    "same_answers": ("same\nanswer", "{}"),
    "recall": ("recall", "{:.3f}"),
    "mass": ("mass", "{:.3f}"),
}
"""Titles and formats, narrow enough for a terminal of 80 letters."""


def show_comparison(found: Comparison, written: Sequence[Path]) -> None:
    """Answers, a table of the settings, and where everything is."""
    sys.stdout.write(answers_text(found) + "\n")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for title, _ in COLUMNS.values():
        table.add_column(title, no_wrap=True)
    for row in found.rows():
        shown = row | {"setting": row["setting"].removeprefix("sparsity ")}
        table.add_row(
            *("" if shown[k] is None else form.format(shown[k]) for k, (_, form) in COLUMNS.items())
        )
    Console().print(table)
    sys.stdout.write("".join(f"{path}\n" for path in written))
