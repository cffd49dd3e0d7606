"""`lcf context`: cluster a document once (Squeezed Attention), ask it many questions."""

import argparse
import os
import sys
from typing import Any

MODEL = "Hugging Face folder, .gguf file, or a name from `lcf models list`"


def register(commands: Any) -> None:
    """Add `lcf context` to the subcommands."""
    actions = commands.add_parser(
        "context",
        help="read a long document once, ask it many questions (Squeezed Attention)",
        description="A document is read and clustered once and kept in a file; each question then "
        "reads only the clusters that matter to it (docs/squeezed.md).",
    ).add_subparsers(metavar="action", required=True)
    _register_build(actions)
    _register_ask(actions)
    _register_compare(actions)
    info = actions.add_parser("info", help="what a context file holds; needs no model")
    info.add_argument("context", help="context file")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(work=_work("info"))


def _register_build(actions: Any) -> None:
    parser = actions.add_parser("build", help="read and cluster a document")
    parser.add_argument("document", help="text file, UTF-8")
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument("-o", "--output", required=True, help="context file to write (.ctx)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--max-tokens", type=int, help="read at most so many tokens from the start")
    parser.add_argument("--clusters", type=float, default=0.05,
                        help="share of the tokens, or a number (default: 0.05)")  # fmt: skip
    parser.add_argument("--levels", default="2", help="of clusters: 1, 2, ... or log (default: 2)")
    parser.add_argument(
        "--window", type=int, default=100, help="last tokens kept exactly (default: 100)"
    )
    parser.add_argument(
        "--sinks", type=int, default=4, help="first tokens kept exactly (default: 4)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the clustering (default: 0)")
    parser.add_argument("--value-centroids", action="store_true",
                        help="store what `ask --correct-values` needs")  # fmt: skip
    parser.add_argument(
        "--prompt",
        choices=("auto", "chat", "plain"),
        default="auto",
        help="chat: the model's template; plain: Question: ... Answer:",
    )
    parser.add_argument("--chunk", type=int, default=1024,
                        help="tokens read at a time; lower it if memory runs out")  # fmt: skip
    _place_options(parser, "auto")
    parser.set_defaults(work=_work("build"))


def _place_options(parser: argparse.ArgumentParser, dtype: str) -> None:
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"),
                        help=f"of the weights (default: {dtype})")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def _question_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--questions", metavar="FILE", help="one question a line; - reads stdin")
    parser.add_argument("--model", help="if it is no longer where the context was built")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="of an answer (default: 64)")
    parser.add_argument("--scope", choices=("global", "layer", "head"), default="global",
                        help="what shares a threshold (default: global)")  # fmt: skip
    parser.add_argument(
        "--group",
        choices=("mean", "max", "none"),
        default="mean",
        help="how query heads of a key-value head agree (default: mean)",
    )
    parser.add_argument("--correct-values", action="store_true",
                        help="dropped clusters count by their mean value")  # fmt: skip
    _place_options(parser, "the context's")


def _register_ask(actions: Any) -> None:
    parser = actions.add_parser("ask", help="answer questions about a context's document")
    parser.add_argument("context", help="context file")
    parser.add_argument("question", nargs="*", help="one or more, each in quotes")
    parser.add_argument(
        "--sparsity",
        type=float,
        default=0.9,
        help="share of the document left unread, 0 to below 1 (default: 0.9)",
    )
    parser.add_argument("--budget", type=int, help="instead: tokens read per key-value head")
    parser.add_argument("--top-p", type=float, help="instead: share of the attention to recover")
    parser.add_argument("--batch-size", type=int, help="questions at a time (default: all)")
    parser.add_argument("--plot", metavar="PNG", help="draw the share read per layer")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    _question_options(parser)
    parser.set_defaults(work=_work("ask"))


def _register_compare(actions: Any) -> None:
    parser = actions.add_parser(
        "compare",
        help="the whole document beside several sparsities: answers, latency, what is read",
        description="To choose a sparsity: writes answers, a table and pictures into a folder.",
    )
    parser.add_argument("context", help="context file")
    parser.add_argument("question", nargs="*", help="one or more, each in quotes")
    parser.add_argument("--sparsities", default="0.7,0.8,0.9",
                        help="separated by commas (default: 0.7,0.8,0.9)")  # fmt: skip
    parser.add_argument("-o", "--output", required=True, help="folder to write to")
    _question_options(parser)
    parser.set_defaults(work=_work("compare"))


def _work(name: str) -> Any:
    """The function of this name, found only when it is called: it needs torch."""

    def work(arguments: argparse.Namespace) -> None:
        if not sys.stderr.isatty():
            # Third parties' progress bars are no use in a log file; read when tqdm is imported.
            os.environ.setdefault("TQDM_DISABLE", "1")
        from lcframework.cli import context_work

        getattr(context_work, name)(arguments)

    return work
