"""`lcf doctor`: what it says of this machine is true, and what is broken changes the exit code."""

import json
import re

import pytest
import torch

from lcframework.cli.main import main
from lcframework.run import doctor, doctor_devices


def doctor_json(capsys, *arguments):
    main(["doctor", "--json", *arguments])
    return json.loads(capsys.readouterr().out)


def by_name(found, what):
    return next(one for one in found["checks"] if one["what"] == what)


def test_json_tells_versions_devices_and_backends(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    found = doctor_json(capsys, "--runs", str(tmp_path / "runs"))
    assert found["ok"]
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["hydra-core"].startswith("1.3")
    assert len(found["devices"]["gpus"]) == torch.cuda.device_count()
    scans = {
        row["backend"] for row in found["backends"]["bidirectional_scan"] if row["device"] == "cpu"
    }
    assert scans == set(doctor_devices.SCAN_BACKENDS)
    attention = {
        row["backend"]: row for row in found["backends"]["attention"] if row["device"] == "cpu"
    }
    assert attention["sdpa"]["works"]
    assert not attention["varlen"]["works"]
    assert "CUDA" in attention["varlen"]["why"]
    assert not (tmp_path / "runs").exists()  # looking leaves nothing behind


def test_text_names_each_missing_extra_with_its_command(tmp_path, capsys, monkeypatch):
    from packaging.requirements import Requirement

    wanted = {"": [Requirement("torch>=2")], "far": [Requirement("no-such-package>=3")]}
    monkeypatch.setattr(doctor, "_requirements", lambda: wanted)
    monkeypatch.setattr(doctor_devices, "SCAN_BACKENDS", ("auto",))
    main(["doctor", "--runs", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "extra [far]" in printed
    assert "pip install 'lcframework[far]'" in printed
    assert "Nothing needed is broken" in printed


def test_an_old_package_is_broken_and_ends_with_1(tmp_path, capsys, monkeypatch):
    from packaging.requirements import Requirement

    monkeypatch.setattr(doctor, "_requirements", lambda: {"": [Requirement("torch>=99")]})
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--json", "--runs", str(tmp_path)])
    assert stop.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert f"torch {torch.__version__} is not >=99" in by_name(found, "requirements")["found"]


def test_mmseqs_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor._mmseqs()
    assert (found["status"], found["cure"].split()[:3]) == ("note", ["apt", "install", "mmseqs2,"])
    (tmp_path / "mmseqs").touch(0o755)
    assert doctor._mmseqs() == doctor.check("mmseqs", "ok", str(tmp_path / "mmseqs"))


def test_a_run_directory_that_takes_no_file_is_broken(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    found = doctor._writable("run directory", tmp_path / "file" / "runs")
    assert found["status"] == "broken"
    assert "paths.runs=DIR" in found["cure"]


def test_a_backend_that_computes_something_else_is_named(monkeypatch):
    real = doctor_devices.bidirectional_scan

    def wrong(*args, backend, **kwargs):
        return real(*args, backend=backend, **kwargs) + (backend == "chunked")

    monkeypatch.setattr(doctor_devices, "bidirectional_scan", wrong)
    found, _ = doctor_devices.examine_backends({"gpus": []})
    rows = {row["backend"]: row for row in found["bidirectional_scan"]}
    assert not rows["chunked"]["works"]
    assert re.fullmatch(r"differs by 0\.\d+ of the largest", rows["chunked"]["why"])
    assert rows["reference"]["works"]


def test_a_broken_automatic_choice_is_broken(monkeypatch):
    def failing(*args, backend, **kwargs):
        if backend == "auto":
            raise RuntimeError("no kernel image is available")
        return torch.zeros(7, 16)

    monkeypatch.setattr(doctor_devices, "bidirectional_scan", failing)
    _, checks = doctor_devices.examine_backends({"gpus": []})
    line = next(one for one in checks if one["what"].startswith("bidirectional_scan"))
    assert line["status"] == "broken"
    assert "no kernel image" in line["found"]
