"""What describes no model is refused in one paragraph: the file, the place and the cure."""

import json

import pytest

from lcframework.circuits.precision import describe, parse_precision
from lcframework.circuits.read_model import read_model
from lcframework.circuits.report import calculate
from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.errors import ConfigError

LLAMA = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
}
BF16 = parse_precision("bf16")


def refused(path, *says):
    with pytest.raises(ConfigError) as error:
        read_model(path)
    text = str(error.value)
    assert "\n" not in text
    for one in says:
        assert one in text, text


def write(folder, text, name="config.json"):
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_nothing_there(tmp_path):
    refused(tmp_path / "no", "no such file", "hub are not downloaded")
    refused(tmp_path, "has no config.json", "conf/model/lcplm_8m.yaml")
    write(tmp_path, {}, "adapter_config.json")
    refused(tmp_path, "adapter", "base model")
    refused(write(tmp_path, "x", "weights.bin"), "only .json and .yaml")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.json", '{"model_type": "llama",\n "hidden_size" 4}', ("line 2", "not JSON")),
        ("config.json", "[1, 2]", ("no mapping",)),
        ("config.json", '{"hidden_size": 4}', ("no model_type", "llama")),
        ("x.yaml", "a: [1\nb: 2", ("line 2", "not YAML")),
        ("x.yaml", "d_model: 4", ("no _target_", "composition")),
        ("x.yaml", "_target_: torch.nn.Linear", ("torch.nn.Linear", "LCPLM")),
        (
            "x.yaml",
            "_target_: lcframework.models.lcplm.model.LCPLM\nd_model: ${width}\nn_layers: 2",
            ("d_model", "interpolation", "--cfg job"),
        ),
        (
            "x.yaml",
            "_target_: lcframework.models.esm2.model.ESM2\nd_model: 30\nn_layers: 2\nn_heads: 4",
            ("d_model 30", "n_heads 4"),
        ),
    ],
)
def test_broken_files(name, text, says, tmp_path):
    refused(write(tmp_path, text, name), name, *says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": None}, ("no 'hidden_size'", "config.json of the whole model")),
        ({"num_hidden_layers": 0}, ("num_hidden_layers = 0", "at least 1")),
        ({"vocab_size": "many"}, ("vocab_size = 'many'", "whole number")),
        ({"num_attention_heads": 5}, ("not a multiple of num_attention_heads 5",)),
        ({"num_key_value_heads": 3}, ("num_key_value_heads 3",)),
        ({"head_dim": 7}, ("head size 7 is odd",)),
        ({"attention_bias": "yes"}, ("attention_bias = 'yes'", "true or false")),
    ],
)
def test_impossible_values(change, says, tmp_path):
    refused(write(tmp_path, {**LLAMA, **change}), "config.json", *says)


def test_no_bound_on_the_length(tmp_path):
    model = read_model(write(tmp_path, LLAMA))
    with pytest.raises(ConfigError, match="no bound on the length. Give one with --length"):
        calculate(model, BF16)
    assert calculate(model, BF16, length=10).length == 10
    bounded = read_model(write(tmp_path, {**LLAMA, "max_position_embeddings": 77}))
    assert calculate(bounded, BF16).length == 77
    longer = calculate(bounded, BF16, length=100)
    assert any("more than the 77" in note for note in longer.notes)
    with pytest.raises(ConfigError, match="at least one token"):
        calculate(bounded, BF16, length=0)


@pytest.mark.parametrize("text", ["0", "p=0", "p=1", "8,0", "0,8", "1,5"])
def test_a_precision_of_nothing(text):
    with pytest.raises(ConfigError, match="at least 2 and 1"):
        parse_precision(text)


def test_precisions():
    assert parse_precision("bfloat16") == FloatFormat.like_ieee(8, 8)
    assert parse_precision("p=16") == parse_precision("16") == FloatFormat.paper(16)
    assert parse_precision("8,8") == parse_precision("bf16")
    assert describe(parse_precision("fp16")) == "fp16: 11 significand bits, 5 exponent bits"
    assert describe(parse_precision("p=4")).startswith("p-bit floats: 4")
    with pytest.raises(ConfigError, match="bf17.*bf16"):
        parse_precision("bf17")
    with pytest.raises(ConfigError, match="activations are computed in"):
        parse_precision("int8")


# -- compositions -----------------------------------------------------------------------------

GOOD = """
name: mine
length: 64
components:
  norm: {rms_norm: {width: 8}}
  mixer: {attention: {width: 8, heads: 2}}
  branch: {series: [norm, mixer, {residual: {width: 8}}]}
  wide: {parallel: [mixer, {gated_mlp: {width: 8, hidden: 16}}]}
model: [{embedding: {vocabulary: 9, width: 8}}, {repeat: branch, times: 2}, wide, exp]
"""


def test_a_composition_is_read(tmp_path):
    report = calculate(read_model(write(tmp_path, GOOD, "mine.yaml")), BF16)
    assert (report.model.name, report.length, report.setting.kind) == ("mine", 64, "transformer")
    depth = report.total.depth.coefficients()
    # twice (norm 5 + attention 7 + residual 1), then the deeper of attention 7 and MLP 5
    assert depth["d_std"] == 2 * 13 + 7
    assert depth["d_tri"] == 3
    assert depth["1"] == 2
    assert report.model.widest == 16


def test_a_composition_with_mamba_gets_its_theorem(tmp_path):
    text = "components: {}\nmodel: [{mamba: {width: 8, inner: 16}}]\n"
    model = read_model(write(tmp_path, text, "m.yaml"))
    assert calculate(model, BF16, length=5).setting.kind == "mamba"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "components: {a: [b], b: {repeat: c, times: 2}, c: {series: [exp, a]}}\nmodel: a",
            ("circular composition: a -> b -> c -> a",),
        ),
        ("components: {a: a}\nmodel: [a]", ("a -> a", "repeat")),
        ("components: {a: exp}\nmodel: [warp]", ("unknown component 'warp'", "a, float_operation")),
        ("components: {}\nmodel: [{warp: {width: 3}}]", ("unknown component 'warp'",)),
        ("components: {}", ("'model'",)),
        ("components: [a]\nmodel: a", ("mapping 'components'",)),
        ("components: {}\nmodel: [{rms_norm: {size: 3}}]", ("rms_norm takes width",)),
        ("components: {}\nmodel: [{rms_norm: {}}]", ("rms_norm needs width",)),
        ("components: {}\nmodel: [{rms_norm: {width: -1}}]", ("width = -1", "at least 1")),
        ("components: {}\nmodel: [{repeat: exp}]", ("'times'",)),
        ("components: {}\nmodel: [{series: []}]", ("series needs a list",)),
        ("components: {}\nmodel: [{exp: {}, sqrt: {}}]", ("one component per entry",)),
        ("components: {}\nmodel: [3]", ("3 is no component",)),
        ("components: {}\nlength: long\nmodel: [exp]", ("length = 'long'",)),
        (
            "components: {}\nmodel: [{gated_mlp: {width: 4, hidden: 8, activation: zelu}}]",
            ("unknown activation 'zelu'", "silu"),
        ),
    ],
)
def test_bad_compositions(text, says, tmp_path):
    refused(write(tmp_path, text, "mine.yaml"), "mine.yaml", *says)


def test_every_part_of_a_composition_can_be_used(tmp_path):
    from inspect import signature

    from lcframework.circuits.composition import PARTS

    entries = []
    for name, part in PARTS.items():
        sizes = {
            key: ("silu" if key in ("name", "activation") else 8)
            for key, p in signature(part).parameters.items()
            if p.default is p.empty
        }
        entries.append({name: sizes})
    text = json.dumps({"components": {}, "model": entries})  # JSON is YAML
    report = calculate(read_model(write(tmp_path, text, "all.yaml")), BF16, length=4)
    assert len(report.lines) == len(PARTS)
