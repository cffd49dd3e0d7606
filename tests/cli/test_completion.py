"""Shell completion of `lcf` and of the Hydra apps, asked as a shell asks; help without torch."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from lcframework.cli.main import main

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def completion(shell, capsys):
    main(["completion", shell])
    return capsys.readouterr().out


def bash_answers(script, folder, path=""):
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


@needs_bash
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lcf do", {"doctor"}),
        ("lcf doctor --js", {"--json"}),
        ("lcf data g", {"get"}),
        ("lcf report my_", {"my_runs"}),
    ],
)
def test_bash_completes_commands_options_and_files(words, expected, tmp_path, capsys):
    (tmp_path / "my_runs").mkdir()
    (tmp_path / "code.sh").write_text(completion("bash", capsys))
    count = len(words.split()) - 1
    script = f"""source ./code.sh
COMP_WORDS=({words}); COMP_CWORD={count}; COMP_LINE='{words}'; COMP_POINT={len(words)}
function=$(complete -p lcf | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function lcf '{words.split()[-1]}' '{words.split()[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}" """
    assert set(bash_answers(script, tmp_path)) == expected


def test_zsh_code_names_every_command(capsys):
    code = completion("zsh", capsys)
    assert code.startswith("#compdef lcf")
    for command in ("report", "data", "doctor", "completion"):
        assert re.search(rf"^\s*{command}:'", code, re.MULTILINE)


def test_without_shtab_the_cure_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as stop:
        main(["completion", "bash"])
    assert stop.value.code == 2
    assert "pip install shtab" in capsys.readouterr().err


@needs_bash
def test_hydras_own_completion_works_for_lcf_train(tmp_path):
    program = tmp_path / "lcf-train"
    program.write_text(f"#!{sys.executable}\nfrom lcframework.train import main\nmain()\n")
    program.chmod(0o755)
    script = """eval "$(lcf-train --shell-completion install=bash)"
COMP_LINE='lcf-train model=lcplm_1'; COMP_POINT=23
COMP_WORDS=(lcf-train model=lcplm_1); COMP_CWORD=1
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}" """
    found = set(bash_answers(script, tmp_path, path=str(tmp_path)))
    assert found == {"model=lcplm_130m", "model=lcplm_1b4"}


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"], ["completion", "bash"]])
def test_help_and_completion_load_no_torch(arguments):
    code = f"""import sys
from lcframework.cli.main import main
try:
    main({arguments})
except SystemExit as stop:
    assert stop.code == 0
sys.exit('torch' in sys.modules or 'rich' in sys.modules)"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert b"usage" in done.stdout or b"complete" in done.stdout
    assert time.monotonic() - started < 20  # a hang; the second it takes is measured, not asserted
