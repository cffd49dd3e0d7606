"""What the actions of `lcf context` do; imported only when one runs."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from lcframework.cli.context_show import show_about, show_answers, show_comparison
from lcframework.errors import ConfigError, DataError
from lcframework.models.llm.load import load_llm
from lcframework.models.llm.prompts import first_tokens
from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.artifact import read_about, save_context
from lcframework.models.squeezed.hierarchy import ClusterPlan
from lcframework.run.context_files import (
    check_output,
    open_context,
    read_document,
    read_questions,
    shown_progress,
)


def build(arguments: argparse.Namespace) -> None:
    """Read and cluster a document into a file."""
    document, output = read_document(Path(arguments.document)), Path(arguments.output)
    check_output(output, arguments.overwrite)
    if arguments.max_tokens is not None and arguments.max_tokens < 1:
        raise ConfigError(f"--max-tokens {arguments.max_tokens}: at least 1.")
    plan = {
        "clusters": arguments.clusters,
        "levels": _levels(arguments.levels),
        "window": arguments.window,
        "sinks": arguments.sinks,
        "seed": arguments.seed,
        "value_centroids": arguments.value_centroids,
    }
    ClusterPlan(**plan)  # refuses before the model is loaded
    model, tokenizer = load_llm(
        arguments.model, dtype=arguments.dtype or "auto", device=arguments.device,
        attn_implementation="squeezed",
    )  # fmt: skip
    if arguments.max_tokens is not None:
        document = first_tokens(tokenizer, document, arguments.max_tokens)
    with shown_progress() as progress:
        context = SqueezedContext.build(
            model, tokenizer, document, prompt=arguments.prompt, chunk=arguments.chunk,
            progress=progress, **plan,
        )  # fmt: skip
    save_context(context, output, overwrite=arguments.overwrite)
    show_about(read_about(output), output)


def _levels(text: str) -> int | str:
    if text == "log":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--levels {text}: give a number, at least 1, or log.") from None


def _questions(arguments: argparse.Namespace) -> list[str]:
    questions = list(arguments.question)
    if arguments.questions is not None:
        questions += read_questions(arguments.questions)
    if not questions:
        raise DataError(
            "There is no question to ask: write one behind the context's file, in quotes, or name "
            "a file with --questions."
        )
    if not all(one.strip() for one in questions):
        raise DataError("A question is empty.")
    return questions


def _squeeze(arguments: argparse.Namespace, **more: Any) -> Squeeze:
    return Squeeze(
        scope=arguments.scope, group=arguments.group, correct_values=arguments.correct_values,
        **more,
    )  # fmt: skip


def _open(arguments: argparse.Namespace) -> SqueezedContext:
    return open_context(
        Path(arguments.context), model=arguments.model, dtype=arguments.dtype,
        device=arguments.device,
    )  # fmt: skip


def ask(arguments: argparse.Namespace) -> None:
    """Answer questions about a context's document."""
    questions = _questions(arguments)
    squeeze = _squeeze(
        arguments, sparsity=arguments.sparsity, budget=arguments.budget, top_p=arguments.top_p
    )
    if arguments.plot and (
        Path(arguments.plot).suffix.lower() != ".png" or Path(arguments.plot).is_dir()
    ):
        raise ConfigError(f"--plot {arguments.plot}: name a file that ends in .png.")
    context = _open(arguments)
    started = time.perf_counter()
    answers = context.ask(
        questions, squeeze=squeeze, max_new_tokens=arguments.max_new_tokens,
        batch_size=arguments.batch_size,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if arguments.plot:
        from lcframework.run.context_figures import plot_kept

        plot_kept({f"sparsity {squeeze.sparsity:g}": answers}, context, Path(arguments.plot))
    show_answers(answers, seconds, context, as_json=arguments.json)


def compare(arguments: argparse.Namespace) -> None:
    """The whole document beside several sparsities."""
    from lcframework.run.context_compare import compare_sparsities, write_comparison

    questions = _questions(arguments)
    try:
        sparsities = [float(one) for one in arguments.sparsities.split(",")]
    except ValueError:
        raise ConfigError(
            f"--sparsities {arguments.sparsities}: numbers separated by commas, such as 0.7,0.9."
        ) from None
    squeezes = {one: _squeeze(arguments, sparsity=one) for one in sparsities}
    if not any(sparsities):
        raise ConfigError("--sparsities 0: the whole document is always read; name a higher one.")
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder with -o.")
    context = _open(arguments)
    with shown_progress() as progress:
        found = compare_sparsities(
            context, questions, squeezes, max_new_tokens=arguments.max_new_tokens,
            progress=progress,
        )  # fmt: skip
    written = write_comparison(found, context, folder, Path(arguments.context))
    show_comparison(found, written)


def info(arguments: argparse.Namespace) -> None:
    """What a context's file holds."""
    about = read_about(arguments.context)
    if arguments.json:
        sys.stdout.write(json.dumps(about, indent=2) + "\n")
    else:
        show_about(about, Path(arguments.context))
