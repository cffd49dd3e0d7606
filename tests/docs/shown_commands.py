"""Finds the commands that README.md and the pages under docs/ show."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
FENCE = re.compile(r"^ *```([^\n]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
TITLE = re.compile(r'^yaml title="(my_conf/[^"]+)"$')
NOT_SHELL = ("python", "yaml", "json", "text", "toml", "csv")
MODULES = {
    "lcframework.train": "lcf-train",
    "lcframework.evaluate": "lcf-evaluate",
    "lcframework.cli.main": "lcf",
}
PROGRAMS = ("lcf", "lcf-train", "lcf-evaluate")


@dataclass(frozen=True)
class Shown:
    """One command: the page, the text as shown, the program and its arguments."""

    page: str
    text: str
    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def parse(page: str, text: str) -> list[Shown]:
    """The commands of ours in one line of shell."""
    text = re.sub(r'^(eval )"\$\((.*)\)"$', r"\2", text.strip().removeprefix("$ "))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|>")
    lexer.whitespace_split = True
    words = list(lexer)
    found, current = [], []
    for word in [*words, ";"]:
        if word and set(word) <= set(";&|>"):
            found.append(current)
            current = []
        else:
            current.append(word)
    commands = []
    for one in found:
        while one and re.fullmatch(r"[A-Z_]+=.*", one[0]):
            one = one[1:]
        if one[:2] == ["python", "-m"] and one[2:3] and one[2].startswith("lcframework"):
            program = MODULES.get(str(one[2]), str(one[2]))
            commands.append(Shown(page, text, program, tuple(one[3:])))
        elif one and one[0] in PROGRAMS:
            commands.append(Shown(page, text, one[0], tuple(one[1:])))
    return commands


def commands_of(path: Path) -> list[Shown]:
    """Every command of one page, in fences and in inline code that holds a whole command."""
    page, text = path.relative_to(ROOT).as_posix(), path.read_text()
    lines = []
    for language, body in FENCE.findall(text):
        if language.split()[:1] and language.split()[0] in NOT_SHELL:
            continue
        lines += body.replace("\\\n", " ").splitlines()
    lines += [
        one
        for one in INLINE.findall(FENCE.sub("", text))
        # `lcf` alone or `lcf data` names the program; a command has arguments.
        if re.match(r"(\S+=\S+ )*(python -m lcframework\.\S+|lcf(-train|-evaluate)? \S+) \S", one)
    ]
    return [shown for line in lines for shown in parse(page, line)]


def user_configs() -> dict[str, str]:
    """The config files that the pages tell the reader to write, by path."""
    return {
        match.group(1): body
        for path in PAGES
        for language, body in FENCE.findall(path.read_text())
        if (match := TITLE.match(language.strip()))
    }
