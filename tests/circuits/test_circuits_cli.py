"""`lcf circuits` as a user types it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lcframework.circuits.setting import CHOICES
from lcframework.circuits.threshold.catalogue import NAMES
from lcframework.cli import circuits, circuits_build
from lcframework.cli.main import main

LLAMA = str(Path(__file__).parents[1] / "fixtures" / "model_configs" / "llama-3.1-8b")


def run(capsys, *arguments):
    main(["circuits", *arguments])
    return capsys.readouterr().out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["circuits", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_the_names_in_the_help_are_the_real_ones():
    assert set(circuits_build.CIRCUIT_NAMES.split()) == set(NAMES)
    for name, choices in circuits.GROWTH.items():
        assert choices == CHOICES[name]


def test_the_table_says_everything(capsys):
    text = run(capsys, "--model", LLAMA, "--length", "4096", "--precision", "bf16")
    for wanted in (
        "llama-3.1-8b; llama; 32 layers",
        "7 d_std + 7 d_⊕ + d_exp + d_△",
        "paper's formula, m = 32",
        "33 d_g + 224 d_std + 224 d_⊕",
        "extension",
        "not expressible unless TC0 = NC1",
        "Asymptotic",
        "Expressible is not learnable",
        "its body was not available",
        "rope: Chen et al. 2024",
        "RoPE scaling (llama3)",
    ):
        assert wanted in text, wanted


def test_explicit_costs_name_their_circuits(capsys):
    text = run(capsys, "--model", LLAMA, "--length", "64", "--cost", "explicit")
    assert "float-add built: depth 8" in text
    assert "depth in layers of gates  at most 10,092" in text
    assert "Siu and Roychowdhury" in text


def test_json_and_latex(capsys):
    record = json.loads(run(capsys, "--model", LLAMA, "--json"))
    assert record["length"] == 131072  # the configuration's own bound
    assert record["precision"]["format"].startswith("bf16")  # what the weights are stored in
    assert run(capsys, "--model", LLAMA, "--latex").count(r"\begin{tabular}") == 1


def test_hypotheses_reach_the_verdicts(capsys):
    text = run(capsys, "--model", LLAMA, "--precision-growth", "constant")
    assert "constant: a fixed number of bits" in text
    assert "in AC0" in text
    text = run(capsys, "--model", LLAMA, "--looping", "log", "--padding", "poly")
    assert "layers repeated O(log n) times" in text


def test_a_verdict_on_one_task(capsys):
    text = run(capsys, "verdict", "--task", "bfvp", "--model", LLAMA)
    assert "NOT EXPRESSIBLE UNLESS TC0 = NC1" in text
    assert "arXiv 2411.07602" in text
    assert "gated MLP (silu)" in text  # what the theorem does not treat
    assert "Asymptotic" in text and "not learnable" in text


def test_options_may_stand_before_or_after_the_action(capsys):
    before = run(capsys, "--model", LLAMA, "--cot", "linear", "verdict", "--task", "s5")
    after = run(capsys, "verdict", "--task", "s5", "--model", LLAMA, "--cot", "linear")
    assert before == after
    assert "EXPRESSIBLE" in after


def test_verdicts_on_an_architecture(capsys):
    text = run(capsys, "verdict", "--architecture", "mamba")
    assert text.count("not expressible unless TC0 = NC1") == 4
    record = json.loads(run(capsys, "verdict", "--architecture", "linear-rnn", "--json"))
    answers = {v["task"]: v["answer"] for v in record["verdicts"]}
    assert (answers["s5"], answers["bfvp"]) == ("expressible", "open")


def test_drawing_and_building(capsys, tmp_path):
    target = tmp_path / "new" / "add.png"
    assert "depth 8, 369 gates" in run(
        capsys, "draw", "float-add", "--bits", "3", "-o", str(target)
    )
    assert target.read_bytes()[:4] == b"\x89PNG"
    for circuit in ("add", "float-exp"):  # small ones carry thresholds and weights
        run(capsys, "draw", circuit, "--bits", "2", "-o", str(target))
    record = json.loads(run(capsys, "build", "iterated-multiply", "--n", "4", "--json"))
    assert (record["depth"], record["inputs"], record["outputs"]) == (5, 12, 12)
    assert record["gates"] <= record["gate_bound"]


def test_growth_is_plotted_from_built_circuits(capsys, tmp_path, monkeypatch):
    from lcframework.circuits.threshold import growth
    from lcframework.circuits.threshold.catalogue import Size

    monkeypatch.setattr(growth, "OVER_N", {"iterated-add": (Size(2), (2, 4, 8))})
    monkeypatch.setattr(growth, "OVER_BITS", {"float-add": (Size(), (2, 3))})
    run(capsys, "grow", "-o", str(tmp_path))
    lines = (tmp_path / "growth.csv").read_text().splitlines()
    assert lines[0].startswith("circuit,over,value,bits,n,depth,gates")
    assert [line.split(",")[5] for line in lines[1:]] == ["2", "2", "2", "8", "8"]
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_depth_is_flat_in_every_series():
    from lcframework.circuits.threshold.growth import measure

    depths = {}
    for row in measure():
        depths.setdefault((row["circuit"], row["over"]), set()).add(row["depth"])
    assert len(depths) == 12
    assert all(len(found) == 1 for found in depths.values())


def test_the_attention_step_is_simulated(capsys):
    text = run(capsys, "simulate", "--samples", "50")
    assert "equal on all of them" in text
    assert "= 109 with the depths of these circuits" in text


def test_references_say_what_was_read(capsys):
    text = run(capsys, "references")
    assert "arXiv 2411.07602" in text and "[not read]" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "needs --model"),
        (["--model", "nowhere"], "nowhere: no such file"),
        (["--model", LLAMA, "--precision", "0"], "at least 2 and 1"),
        (["--model", LLAMA, "--length", "0"], "at least one token"),
        (["verdict"], "needs --model or --architecture"),
        (["verdict", "--model", LLAMA, "--architecture", "mamba"], "not both"),
        (["verdict", "--architecture", "mamba", "--task", "chess"], "there is no task 'chess'"),
        (["draw", "float-add", "--bits", "0", "-o", "x.png"], "at least 1"),
        (["draw", "float-add", "-o", "x.pdf"], "ends in .png"),
        (["draw", "float-root", "-o", "x.png"], "there is no circuit 'float-root'"),
        (["draw", "float-sum", "--bits", "4", "--n", "9", "-o", "x.png"], "up to 4,000"),
        (["build", "float-exp", "--bits", "24", "--exponent-bits", "8"], "4,294,967,329 gates"),
        (["build", "float-add", "--max-gates", "10"], "more than the 10"),
        (["simulate", "--n", "99", "--bits", "6"], "are simulated"),
        (["simulate", "--dim", "3"], "even width"),
        (["simulate", "--samples", "0"], "at least one input"),
    ],
)
def test_bad_input_is_one_paragraph(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = refused(capsys, *arguments)
    assert says in text
    assert len(text.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_without_a_length_bound(capsys, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("_target_: lcframework.models.lcplm.model.LCPLM\nd_model: 64\nn_layers: 2\n")
    assert "no bound on the length" in refused(capsys, "--model", str(path))
    assert "selective scan" in run(capsys, "--model", str(path), "--length", "9")


def test_help_is_quick_and_imports_no_torch():
    code = (
        "import sys\n"
        "from lcframework.cli.main import build_parser\n"
        "try:\n    build_parser().parse_args(['circuits', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'networkx', 'matplotlib', 'yaml'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 20  # a hang, not a speed claim


def test_the_calculator_needs_no_torch():
    code = (
        "import sys\n"
        "from lcframework.cli.main import main\n"
        f"main(['circuits', '--model', {LLAMA!r}, '--cost', 'explicit'])\n"
        "main(['circuits', 'simulate', '--samples', '3'])\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'lightning')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
