"""`lcf context`: a document becomes a file, questions become answers, bad input one paragraph."""

import contextlib
import csv
import io
import json
import signal

import pytest
from tiny_llms import tiny_config, write_folder
from transformers import GPT2Config

from lcframework.cli import context_work
from lcframework.cli.main import main
from lcframework.models.llm.load import load_llm
from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.run.context_compare import compare_sparsities, next_tokens

QUESTIONS = ["What costs the lamp?", "And the chair, the 2 of them?"]
DOCUMENT = "\n".join(
    f"{number}. the thing {chr(97 + number % 26)}{number} costs {number * 7 % 23} coins"
    for number in range(40)
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_folder(folder, tiny_config(max_position_embeddings=2048))
    return folder


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    path = tmp_path_factory.mktemp("document") / "list.txt"
    path.write_text(DOCUMENT)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory, model, document):
    path = tmp_path_factory.mktemp("built") / "list.ctx"
    main(["context", "build", str(document), "--model", str(model), "-o", str(path)])
    return path


def lcf(capsys, *arguments):
    capsys.readouterr()
    main([str(one) for one in arguments])
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """The error of a command: exit code 2, one paragraph."""
    with pytest.raises(SystemExit) as stop:
        main([str(one) for one in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("\nError: ") or "\nError: " in error
    paragraph = error[error.index("\nError: ") :].strip()
    assert "\n" not in paragraph
    return paragraph


def test_answers_are_those_of_the_library(built, model, capsys):
    record = json.loads(
        lcf(capsys, "context", "ask", built, *QUESTIONS, "--sparsity", 0.5, "--max-new-tokens", 5,
            "--json")
    )  # fmt: skip
    network, tokenizer = load_llm(model, attn_implementation="squeezed", device="cpu")
    context = SqueezedContext.build(network, tokenizer, DOCUMENT)
    expected = context.ask(QUESTIONS, sparsity=0.5, max_new_tokens=5)
    assert [one["answer"] for one in record["answers"]] == [one.text for one in expected]
    assert [one["question"] for one in record["answers"]] == QUESTIONS
    assert record["document_tokens"] == context.length
    kept = record["answers"][0]["kept_question"]
    assert list(kept) == ["0", "1"]
    assert kept["1"] == pytest.approx(expected[0].kept_prefill[1].tolist(), abs=1e-5)
    text = lcf(capsys, "context", "ask", built, *QUESTIONS, "--sparsity", 0.5,
               "--max-new-tokens", 5)  # fmt: skip
    assert all(one in text for one in QUESTIONS)
    assert f"{float(expected[1].kept_prefill.mean()):.1%} of the document read" in text


def test_info_says_what_is_in_the_file(built, model, capsys):
    about = json.loads(lcf(capsys, "context", "info", built, "--json"))
    assert about["model_path"] == str(model.resolve())
    assert about["plan"]["sinks"] == 4
    text = lcf(capsys, "context", "info", built)
    for words in (f"{about['tokens']:,} tokens", "LlamaForCausalLM", str(model), "2 squeezed"):
        assert words in text.replace("\n", "")


def test_options_of_build_arrive(document, model, tmp_path, capsys):
    path = tmp_path / "deep" / "a.ctx"  # the folder is made
    lcf(capsys, "context", "build", document, "--model", model, "-o", path, "--max-tokens", 500,
        "--clusters", 40, "--levels", "3", "--window", 50, "--sinks", 0, "--seed", 7,
        "--prompt", "plain", "--dtype", "bfloat16", "--value-centroids")  # fmt: skip
    about = json.loads(lcf(capsys, "context", "info", path, "--json"))
    assert about["clusters"] == [40, 8, 1]
    plan = about["plan"]
    assert (plan["window"], plan["sinks"], plan["seed"]) == (50, 0, 7)
    assert plan["value_centroids"]
    assert about["parts"]["after"] == "\nAnswer:"
    assert 400 < about["tokens"] <= 501  # cut at the end of a line
    # The weights' type is the context's, unless another is asked for.
    lcf(capsys, "context", "ask", path, "a?", "--max-new-tokens", 2, "--correct-values")
    error = refused(capsys, "context", "ask", path, "a?", "--dtype", "float32")
    assert "dtype=bfloat16" in error


def test_questions_come_from_a_file_and_from_stdin(built, tmp_path, capsys, monkeypatch):
    file = tmp_path / "questions.txt"
    file.write_text("\n".join(["", *QUESTIONS, "  "]))
    short = ["--max-new-tokens", "2", "--batch-size", "1", "--json"]
    found = json.loads(lcf(capsys, "context", "ask", built, "first?", "--questions", file, *short))
    assert [one["question"] for one in found["answers"]] == ["first?", *QUESTIONS]
    monkeypatch.setattr("sys.stdin", io.StringIO("piped?\n"))
    found = json.loads(lcf(capsys, "context", "ask", built, "--questions", "-", *short))
    assert [one["question"] for one in found["answers"]] == ["piped?"]


def test_a_moved_model_is_asked_for(built, document, model, tmp_path, capsys):
    moved, path = tmp_path / "moved", tmp_path / "a.ctx"
    write_folder(moved, tiny_config(max_position_embeddings=2048))
    lcf(capsys, "context", "build", document, "--model", moved, "-o", path)
    moved.rename(tmp_path / "elsewhere")
    error = refused(capsys, "context", "ask", path, "a?")
    assert str(moved) in error
    assert "--model" in error
    lcf(capsys, "context", "ask", path, "a?", "--max-new-tokens", 2, "--model", model)


def test_comparison_writes_tables_answers_and_pictures(built, tmp_path, capsys):
    folder = tmp_path / "out"
    printed = lcf(capsys, "context", "compare", built, *QUESTIONS, "--sparsities", "0.8,0.4",
                  "--max-new-tokens", 4, "-o", folder)  # fmt: skip
    with (folder / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows] == ["dense", "sparsity 0.4", "sparsity 0.8"]
    assert float(rows[0]["kept_answer"]) == 1
    assert float(rows[0]["same_next_token"]) == 1
    assert float(rows[1]["kept_question"]) > float(rows[2]["kept_question"])
    assert all(float(row["ms_per_token"]) > 0 for row in rows)
    record = json.loads((folder / "comparison.json").read_text())
    assert [one["question"] for one in record["answers"]] == QUESTIONS
    assert [row["layer"] for row in record["quality"]] == [0, 1, 0, 1]
    assert record["context"]["bytes"] == built.stat().st_size
    assert '"layer": 1,' in (folder / "comparison.json").read_text()  # a whole number
    assert (folder / "answers.md").read_text().strip() in printed
    assert "\u2026" not in printed  # no column is cut off at 80 letters
    for name in ("kept", "quality", "latency"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_next_tokens_of_the_dense_answer_are_the_dense_answer(built, model):
    network, tokenizer = load_llm(model, attn_implementation="squeezed", device="cpu")
    context = SqueezedContext.load(built, network, tokenizer)
    (answer,) = context.ask(QUESTIONS[:1], sparsity=0.0, max_new_tokens=6)
    dense = next_tokens(context, QUESTIONS[0], answer.tokens, Squeeze(sparsity=0.0))
    assert dense == list(answer.tokens)
    # Written word by word, a squeezed answer is its own continuation too.
    squeeze = Squeeze(sparsity=0.7)
    (answer,) = context.ask(QUESTIONS[:1], squeeze=squeeze, max_new_tokens=6)
    assert next_tokens(context, QUESTIONS[0], answer.tokens, squeeze) == list(answer.tokens)
    found = compare_sparsities(context, QUESTIONS[:1], {0.7: squeeze}, max_new_tokens=6)
    assert found.settings[1].answers[0].tokens == answer.tokens


def test_a_picture_of_what_was_read(built, tmp_path, capsys):
    picture = tmp_path / "kept.png"
    # One token: nothing was decoded, so one of the two panels is empty.
    lcf(capsys, "context", "ask", built, "a?", "--max-new-tokens", 1, "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"%PDF-1.7 and so on", "a PDF"),
        ("first line\ncaf\u00e9".encode("latin1"), "line 2: not UTF-8"),
        (b"one\ntwo\x00", "line 2: a NUL byte"),
        (b"too short", "no more than the 104"),
    ],
)
def test_documents_that_cannot_be_read(content, words, model, tmp_path, capsys):
    path, out = tmp_path / "bad.txt", tmp_path / "bad.ctx"
    path.write_bytes(content)
    error = refused(capsys, "context", "build", path, "--model", model, "-o", out)
    assert words in error
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bad.txt"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--clusters", "0.9e-9"], ""),
        (["--clusters", "0"], "clusters=0"),
        (["--clusters", "nan"], "clusters=nan"),
        (["--clusters", "inf"], "clusters=inf"),
        (["--chunk", "0"], "chunk=0"),
        (["--seed", "99999999999"], "seed=99999999999"),
        (["--clusters", "100000"], "more clusters than tokens"),
        (["--levels", "many"], "--levels many"),
        (["--levels", "0"], "levels=0"),
        (["--window", "0"], "window=0"),
        (["--max-tokens", "0"], "--max-tokens 0"),
        (["--model", "nowhere"], "no model at nowhere"),
        (["--model", "smollm2"], "lcf models get smollm2"),
        (["--device", "abacus"], "device abacus"),
    ],
)
def test_settings_that_cannot_be_built(
    options, words, document, model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("LCF_MODELS", str(tmp_path / "models"))
    out = tmp_path / "a.ctx"
    command = ["context", "build", document, "--model", model, "-o", out, *options]
    if not words:  # so small a share still makes one cluster
        lcf(capsys, *command)
        return
    assert words in refused(capsys, *command)
    assert not out.exists()


def test_an_existing_file_is_kept_and_said_so_at_once(built, model, document, tmp_path, capsys):
    before = built.read_bytes()
    out = ["-o", built]
    error = refused(capsys, "context", "build", document, "--model", "nowhere", *out)
    assert "--overwrite" in error  # before the model is even looked for
    assert built.read_bytes() == before
    (tmp_path / "file").write_text("")
    error = refused(capsys, "context", "build", document, "--model", model, "-o",
                    tmp_path / "file" / "a.ctx")  # fmt: skip
    assert "cannot be written" in error
    copy = tmp_path / "copy.ctx"
    copy.write_bytes(b"old")
    lcf(capsys, "context", "build", document, "--model", model, "-o", copy, "--overwrite")
    assert json.loads(lcf(capsys, "context", "info", copy, "--json"))["tokens"]


def test_a_model_without_rotary_positions(document, tmp_path, capsys):
    config = GPT2Config(
        n_embd=8, n_layer=1, n_head=2, vocab_size=300, bos_token_id=1, eos_token_id=0
    )
    write_folder(tmp_path / "gpt2", config)
    out = tmp_path / "a.ctx"
    error = refused(capsys, "context", "build", document, "--model", tmp_path / "gpt2", "-o", out)
    assert "rotary" in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no question to ask"),
        ([" "], "empty"),
        (["a?", "--sparsity", "1"], "sparsity=1"),
        (["a?", "--sparsity", "-0.1"], "sparsity=-0.1"),
        (["a?", "--budget", "5", "--top-p", "0.5"], ""),
        (["a?", "--max-new-tokens", "0"], "max_new_tokens=0"),
        (["a?", "--batch-size", "0"], "batch_size=0"),
        (["a?", "--questions", "nowhere.txt"], "nowhere.txt"),
        (["long " * 500], "it does not fit"),
        (["a?", "--correct-values"], "value_centroids"),
        (["a?", "--plot", "kept.txt"], "ends in .png"),
    ],
)
def test_questions_that_cannot_be_asked(options, words, built, capsys):
    assert words in refused(capsys, "context", "ask", built, *options)


def test_sparsities_that_cannot_be_compared(built, tmp_path, capsys):
    for text, words in (("0.5;0.9", "separated by commas"), ("0", "always read"), ("2", "[0, 1)")):
        error = refused(capsys, "context", "compare", built, "a?", "--sparsities", text, "-o",
                        tmp_path / "out")  # fmt: skip
        assert words in error
    (tmp_path / "file").write_text("")
    error = refused(capsys, "context", "compare", built, "a?", "-o", tmp_path / "file")
    assert "is a file" in error


def test_files_that_are_no_context(built, model, tmp_path, capsys):
    cut = tmp_path / "cut.ctx"
    cut.write_bytes(built.read_bytes()[:-1000])
    for action in (["ask", cut, "a?"], ["info", cut]):
        assert "cut.ctx" in refused(capsys, "context", *action)
    changed = bytearray(built.read_bytes())
    changed[-1000] ^= 1
    cut.write_bytes(changed)
    assert "checksum" in refused(capsys, "context", "ask", cut, "a?")
    other = tmp_path / "other"
    write_folder(other, tiny_config(max_position_embeddings=2048, num_hidden_layers=3))
    error = refused(capsys, "context", "ask", built, "a?", "--model", other)
    assert "other weights" in error
    assert "no such file" in refused(capsys, "context", "ask", tmp_path / "none.ctx", "a?")


def test_an_interrupt_leaves_nothing_half_written(document, model, tmp_path, capsys, monkeypatch):
    @contextlib.contextmanager
    def interrupting():
        def report(what, done, of):
            if what == "clustering":
                signal.raise_signal(signal.SIGINT)

        yield report

    monkeypatch.setattr(context_work, "shown_progress", interrupting)
    with pytest.raises(SystemExit) as stop:
        main(["context", "build", str(document), "--model", str(model), "-o",
              str(tmp_path / "a.ctx")])  # fmt: skip
    assert stop.value.code == 130
    assert list(tmp_path.iterdir()) == []
