"""`lcf circuits`: what threshold circuits simulate a model, and what follows."""

import argparse
import sys
from typing import Any

from lcframework.cli import circuits_build

# Repeated here so that help needs no import; a test compares them with the originals.
GROWTH = {
    "precision": ("constant", "log", "poly"),
    "depth": ("constant", "log", "polylog", "poly"),
    "width": ("constant", "linear", "poly"),
    "cot": ("none", "log", "linear", "poly"),
    "padding": ("none", "poly"),
    "uniformity": ("dlogtime", "none"),
}
FLAGS = {"precision": "--precision-growth", "depth": "--looping"}
HELP = {
    "precision": "bits as n grows (default: poly, as in the paper; constant: a real format)",
    "depth": "how often the layers are repeated as n grows (default: constant)",
    "width": "width as n grows (default: linear)",
    "cot": "decoding steps before the answer (default: none)",
    "padding": "padding tokens (default: none)",
    "uniformity": "of the family of networks (default: dlogtime)",
}
MODEL = "Hugging Face folder, config.json, conf/model/x.yaml, a run's config.yaml, or a composition"


def register(commands: Any) -> None:
    """Add `lcf circuits` to the subcommands."""
    parser = commands.add_parser(
        "circuits",
        help="depth and size of the threshold circuits of a model, and what it can compute",
        description="Without an action: the table of a model's components, totals and verdicts.",
        epilog="Statements are asymptotic; expressible is not learnable.",
    )
    _model_options(parser)
    parser.add_argument("--cost", choices=("paper", "explicit"), default="paper",
                        help="symbols only, or numbers where a circuit backs them")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--latex", action="store_true", help="print a LaTeX table")
    parser.set_defaults(work=_table, parser=parser)
    actions = parser.add_subparsers(metavar="action")
    _register_verdict(actions)
    circuits_build.register(actions)


def _model_options(parser: argparse.ArgumentParser) -> None:
    # No defaults: an action must not overwrite what stands before it.
    quiet: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_argument("--model", help=MODEL, **quiet)
    parser.add_argument(
        "--length", type=int, help="tokens n (default: the model's maximum)", **quiet
    )
    parser.add_argument(
        "--precision", help="bf16, fp16, fp32, fp8_e4m3, p=BITS or SIG,EXP (default: the weights')",
        **quiet,
    )  # fmt: skip
    for name, choices in GROWTH.items():
        flag = FLAGS.get(name, f"--{name}")
        parser.add_argument(flag, dest=f"grow_{name}", choices=choices, help=HELP[name], **quiet)


def _register_verdict(actions: Any) -> None:
    parser = actions.add_parser(
        "verdict",
        help="can a model, or an architecture, do a task?",
        description="One task, or all of them, with hypotheses, sources and conditions.",
    )
    parser.add_argument("--task", help="bfvp, s5, parity, ... (default: a table of all tasks)")
    parser.add_argument(
        "--architecture",
        choices=("transformer", "mamba", "linear-rnn"),
        help="instead of --model: the architecture as such",
    )
    _model_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(work=_verdict)


# -- the calculator ---------------------------------------------------------------------------


def _hypotheses(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        name: getattr(arguments, f"grow_{name}")
        for name in GROWTH
        if hasattr(arguments, f"grow_{name}")
    }


def _report(arguments: argparse.Namespace, explicit: bool) -> Any:
    from lcframework.circuits.precision import parse_precision
    from lcframework.circuits.read_model import read_model
    from lcframework.circuits.report import calculate
    from lcframework.errors import ConfigError

    if not hasattr(arguments, "model"):
        raise ConfigError("lcf circuits needs --model: " + MODEL + ".")
    model = read_model(arguments.model)
    stored = getattr(model, "dtype", None)
    precision = getattr(arguments, "precision", None) or stored or "bf16"
    fmt = parse_precision(precision)
    length = getattr(arguments, "length", None)
    return calculate(model, fmt, length, explicit, **_hypotheses(arguments))


def _table(arguments: argparse.Namespace) -> None:
    import json

    report = _report(arguments, arguments.cost == "explicit")
    if arguments.json:
        sys.stdout.write(json.dumps(report.record(), indent=2, ensure_ascii=False) + "\n")
    elif arguments.latex:
        from lcframework.circuits.render import latex

        sys.stdout.write(latex(report))
    else:
        from lcframework.circuits.terminal import show_report

        show_report(report)


def _verdict(arguments: argparse.Namespace) -> None:
    import json

    from lcframework.circuits.render import verdict_text
    from lcframework.circuits.report import covered_parts, verdict_record
    from lcframework.circuits.setting import Setting
    from lcframework.circuits.tasks import TASKS
    from lcframework.circuits.verdicts import find_task, verdict
    from lcframework.errors import ConfigError

    unknown: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    if arguments.architecture and hasattr(arguments, "model"):
        raise ConfigError("give either --model or --architecture, not both.")
    if hasattr(arguments, "model"):
        from lcframework.circuits.assemble import assemble
        from lcframework.circuits.read_model import read_model
        from lcframework.circuits.report import model_setting

        model = read_model(arguments.model)
        setting = model_setting(model, **_hypotheses(arguments))
        unknown, extensions = covered_parts(assemble(model))
        name = model.name
    elif arguments.architecture:
        setting = Setting(kind=arguments.architecture, **_hypotheses(arguments))
        name = arguments.architecture
    else:
        raise ConfigError("lcf circuits verdict needs --model or --architecture.")
    tasks = [find_task(arguments.task)] if arguments.task else list(TASKS)
    found = [verdict(task, setting, unknown, extensions) for task in tasks]
    if arguments.json:
        record = {
            "model": name,
            "setting": setting.record(),
            "hypotheses": setting.hypotheses(),
            "verdicts": [verdict_record(one) for one in found],
        }
        sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    elif arguments.task:
        sys.stdout.write(f"{name}\n{verdict_text(found[0])}\n")
    else:
        from lcframework.circuits.terminal import show_verdicts

        show_verdicts(name, setting, found)
