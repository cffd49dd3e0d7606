"""The wheel and the source distribution, built and used from an empty folder in an environment of
its own.

The environment shares the heavy packages with the one that runs the tests through a `.pth` file,
but not its lcframework: an editable install is itself a `.pth` file, which Python does not follow
from a folder that was added by another.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER_EXPERIMENT = """# @package _global_
defaults:
  - /experiment/lcplm/quickstart
  - override /model: mine
name: mine
trainer:
  max_steps: 2
"""
USER_MODEL = """_target_: lcframework.models.lcplm.model.LCPLM
d_model: 16
n_layers: 1
"""


def call(*command, cwd, **environment):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [str(one) for one in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist); the wheel is built from the sdist, so what the sdist lacks is found."""
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation: the build needs hatchling, which [dev] installs, and no package index.
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def programs(built, tmp_path_factory):
    """The folder of the installed commands."""
    venv = tmp_path_factory.mktemp("environment") / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    python = venv / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", built[0]]
    call(sys.executable, "-m", "pip", "--python", python, *install, cwd=venv.parent)
    site = call(
        python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=venv.parent
    )
    heavy = sysconfig.get_paths()["purelib"]
    (Path(site.strip()) / "heavy_packages.pth").write_text(heavy + "\n")
    where = call(python, "-c", "import lcframework; print(lcframework.__file__)", cwd=venv.parent)
    assert Path(where.strip()).is_relative_to(venv)
    return venv / "bin"


@pytest.mark.slow
def test_the_wheel_holds_configs_and_sample_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    configs = {p.relative_to(ROOT / "conf").as_posix() for p in (ROOT / "conf").rglob("*.yaml")}
    assert {f"lcframework/conf/{name}" for name in configs} <= names
    for split in ("train", "valid"):
        assert f"lcframework/sample/{split}.fasta.gz" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lcframework"}
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_and_docs_need(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "mkdocs.yml", "conf/train.yaml", "docs/tutorial.md", "Makefile"}
    wanted |= {"tests/test_cli.py", "data/sample/train.fasta.gz", "LICENSE"}
    assert wanted <= names
    assert not [name for name in names if name.startswith((".venv", "runs/", "site/"))]


@pytest.mark.slow
def test_the_commands_work_from_an_empty_folder(programs, tmp_path):
    stores = {"LCF_STORES": str(tmp_path / "stores")}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "doctor" in call(programs / "lcf", "--help", cwd=empty)
    found = json.loads(call(programs / "lcf", "doctor", "--json", cwd=empty, **stores))
    assert found["ok"]
    assert not list(empty.iterdir())
    command = ["experiment=lcplm/quickstart", "trainer.max_steps=2", "run_id=one"]
    call(programs / "lcf-train", *command, cwd=empty, **stores)
    run = empty / "runs" / "lcplm-quickstart" / "one"
    record = json.loads((run / "results.json").read_text())
    assert record["run"]["steps"] == 2
    assert record["metrics"]["test/perplexity"]["value"] > 1
    assert "site-packages" in record["data"]["train"]["path"][0]
    command = ["experiment=lcplm/evaluate", f"checkpoint={run}", "run_id=again"]
    test = record["data"]["test"]["path"][0]
    call(programs / "lcf-evaluate", *command, f"data.test={test}", cwd=empty, **stores)
    call(programs / "lcf", "report", "runs", cwd=empty)
    assert len((empty / "runs" / "report.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_users_own_configs_run_beside_the_packaged_ones(programs, tmp_path):
    (tmp_path / "my_conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my_conf" / "model").mkdir()
    (tmp_path / "my_conf" / "experiment" / "mine.yaml").write_text(USER_EXPERIMENT)
    (tmp_path / "my_conf" / "model" / "mine.yaml").write_text(USER_MODEL)
    command = ["--config-dir", "my_conf", "experiment=mine", "run_id=one"]
    call(programs / "lcf-train", *command, cwd=tmp_path, LCF_STORES=str(tmp_path / "stores"))
    run = tmp_path / "runs" / "mine" / "one"
    record = json.loads((run / "results.json").read_text())
    assert record["run"]["experiment"] == "mine"
    assert record["tables"]["model"][0]["d_model"] == 16
    assert "lr: 0.002" in (run / "config.yaml").read_text()  # of the packaged quickstart
