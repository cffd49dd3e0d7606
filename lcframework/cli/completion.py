"""`lcf completion`: the shell code that completes `lcf`'s commands, options and file names."""

import argparse
import sys
from typing import Any

from lcframework.errors import LCFrameworkError


def register(commands: Any) -> None:
    """Add `lcf completion` to the subcommands."""
    parser = commands.add_parser(
        "completion",
        help="print shell completion code",
        description="Print the code that completes lcf in a shell.",
        epilog='bash: eval "$(lcf completion bash)"; '
        'zsh: lcf completion zsh > "${fpath[1]}/_lcf"; '
        "for lcf-train see lcf-train --hydra-help, --shell-completion",
    )
    parser.add_argument("shell", choices=("bash", "zsh"))
    parser.set_defaults(work=_work)


def _work(arguments: argparse.Namespace) -> None:
    from lcframework.cli.main import build_parser

    sys.stdout.write(completion_code(build_parser(), arguments.shell))


def completion_code(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion code of a command line.

    Args:
        parser: the whole command line; values without choices complete as file names.
        shell: "bash" or "zsh".

    Raises:
        LCFrameworkError: the package `shtab` is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise LCFrameworkError(
            "lcf completion needs the package shtab, which is not installed: pip install shtab"
        ) from error
    _complete_files(parser, shtab.FILE)
    return shtab.complete(parser, shell)


def _complete_files(parser: argparse.ArgumentParser, files: Any) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                _complete_files(one, files)
        elif action.choices is None and action.nargs != 0:
            action.complete = files  # type: ignore[attr-defined]  # the attribute shtab reads
