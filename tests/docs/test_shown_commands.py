"""Every command that README.md and the docs show: train and evaluate commands compose, `lcf`
commands parse, `make` targets exist."""

import itertools
import re

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from shown_commands import FENCE, INLINE, PAGES, ROOT, commands_of, parse, user_configs

from lcframework.cli.main import build_parser
from lcframework.paths import conf_dir
from lcframework.run.app import register

SHOWN = list(dict.fromkeys(itertools.chain.from_iterable(map(commands_of, PAGES))))
HYDRA = [one for one in SHOWN if one.program in ("lcf-train", "lcf-evaluate")]
LCF = [one for one in SHOWN if one.program == "lcf"]
TAKES_VALUE = ("--config-dir", "--cfg", "--shell-completion", "-c", "-sc", "--info")
FLAGS = ("-m", "--multirun", "--help", "--hydra-help", "--resolve")


def split_arguments(arguments):
    """(overrides, options) of a Hydra command line."""
    overrides, options, rest = [], {}, list(arguments)
    while rest:
        word = rest.pop(0)
        if word in TAKES_VALUE:
            options[word] = rest.pop(0)
        elif word in FLAGS:
            options[word] = True
        else:
            assert not word.startswith("-"), f"unknown option {word}"
            overrides.append(word)
    return overrides, options


def composed(shown, folder):
    """Compose what a command asks for: every combination of a multirun."""
    overrides, options = split_arguments(shown.arguments)
    search = []
    if "--config-dir" in options and options["--config-dir"] != "DIR":
        for name, text in user_configs().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert (folder / options["--config-dir"]).is_dir()
        search = [f"hydra.searchpath=[file://{folder / options['--config-dir']}]"]
    jobs = [overrides]
    if "-m" in options or "--multirun" in options:
        loader = GlobalHydra.instance().config_loader()  # which knows what a glob stands for
        parsed = OverridesParser.create(loader).parse_overrides(overrides)
        jobs = list(itertools.chain(*BasicSweeper.split_arguments(parsed, None)))
    primary = shown.program.removeprefix("lcf-")
    return [compose(primary, overrides=[*job, *search]) for job in jobs]


@pytest.fixture
def hydra_ready():
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


@pytest.mark.parametrize("shown", HYDRA, ids=str)
def test_train_and_evaluate_commands_compose(shown, hydra_ready, tmp_path):
    for cfg in composed(shown, tmp_path):
        wanted = "checkpoint" not in OmegaConf.missing_keys(cfg)
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=wanted)


@pytest.mark.parametrize("shown", LCF, ids=str)
def test_lcf_commands_parse(shown):
    if "--help" in shown.arguments or "--version" in shown.arguments:
        with pytest.raises(SystemExit) as stop:
            build_parser().parse_args(shown.arguments)
        assert stop.value.code == 0
    else:
        assert callable(build_parser().parse_args(shown.arguments).work)


def test_no_command_of_an_unknown_module_is_shown():
    assert not [str(one) for one in SHOWN if one not in HYDRA and one not in LCF]


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    code = itertools.chain.from_iterable(
        [body for _, body in FENCE.findall(text)] + INLINE.findall(FENCE.sub("", text))
        for text in (path.read_text() for path in PAGES)
    )
    named = {
        name
        for one in code
        for words in re.findall(r"^(?:\$ )?make ((?:[a-z-]+ ?)+)", one, re.MULTILINE)
        for name in words.split()
    }
    assert "quickstart" in named
    assert named <= set(targets)


def test_the_pages_show_commands_of_every_kind():
    assert {one.page for one in HYDRA} >= {"README.md", "docs/tutorial.md", "docs/scan.md"}
    assert {one.arguments[0] for one in LCF} >= {"report", "data", "doctor", "completion"}
    assert any("--config-dir" in one.arguments and "-m" not in one.arguments for one in HYDRA)
    assert any("-m" in one.arguments for one in HYDRA)


@pytest.mark.parametrize(
    "line",
    [
        "python -m lcframework.train model.widht=3",
        "python -m lcframework.train -m experiment=lcplm/pretrain model=lcplm_tiny,lcplm_7b",
        "lcf-evaluate checkpoint=RUN optimizer.lr=1e-3",
    ],
)
def test_a_stale_override_fails(line, hydra_ready, tmp_path):
    from hydra.errors import HydraException

    with pytest.raises(HydraException):
        composed(parse("page", line)[0], tmp_path)


def test_parsing_drops_variables_comments_pipes_and_redirections():
    (one,) = parse("page", "A=1 lcf report runs/x > out.txt  # why")
    assert one.arguments == ("report", "runs/x")
    first, second = parse("page", "lcf doctor --json | head && lcf-train seed=2")
    assert (first.arguments, second.arguments) == (("doctor", "--json"), ("seed=2",))
