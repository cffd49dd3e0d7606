"""The published checkpoint's layout: the import computes its function and says what is wrong."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from lcframework.cli.main import main
from lcframework.data.alphabet import TOKENS as TOKEN_NAMES
from lcframework.errors import CheckpointError
from lcframework.models.lcplm.published_files import read_published

d, E, N, R, K, V, LAYERS = 8, 16, 4, 2, 4, 128, 2
CONFIG = {
    "model_type": "lc_plm", "architectures": ["LcPlmForMaskedLM"], "d_model": d, "n_layer": LAYERS,
    "d_intermediate": 0, "vocab_size": 33, "pad_vocab_size_multiple": 128, "norm_epsilon": 1e-5,
    "ssm_cfg": {"d_state": N, "dt_rank": R}, "attn_layer_idx": None, "rms_norm": True,
    "residual_in_fp32": True, "fused_add_norm": True, "tie_embeddings": False,
    "bidirectional": True, "bidirectional_strategy": "add", "bidirectional_weight_tie": True,
}  # fmt: skip
FIRST = "bimamba.backbone.layers.0.mixer."


def published(twice=True):
    """Random tensors under the published names; the shared ones once or under both names."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * 0.5

    tensors = {
        "bimamba.backbone.embedding.weight": draw(V, d),
        "bimamba.backbone.norm_f.weight": draw(d) + 1,
        "lm_head.weight": draw(V, d),
    }
    for layer in range(LAYERS):
        prefix = f"bimamba.backbone.layers.{layer}."
        tensors[prefix + "norm.weight"] = draw(d) + 1
        shared = {"in_proj.weight": draw(2 * E, d), "out_proj.weight": draw(d, E)}
        for direction in ("fwd", "rev"):
            mixer = f"{prefix}mixer.mamba_{direction}."
            tensors |= {mixer + key: value for key, value in {
                "conv1d.weight": draw(E, 1, K), "conv1d.bias": draw(E),
                "x_proj.weight": draw(R + 2 * N, E), "dt_proj.weight": draw(E, R),
                "dt_proj.bias": draw(E), "A_log": draw(E, N), "D": draw(E),
            }.items()}  # fmt: skip
            if twice or direction == "fwd":
                tensors |= {mixer + key: value.clone() for key, value in shared.items()}
    return tensors


def write(folder, tensors, config=None, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or CONFIG))
    if name.endswith(".safetensors"):
        save_file(tensors, folder / name)
    else:
        torch.save(tensors, folder / name)
    return folder


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def mamba(w, prefix, u):
    """One published Mamba-1 layer over (L, d), step by step."""
    x, z = (u @ w[prefix + "in_proj.weight"].T).chunk(2, -1)
    padded = F.pad(x.T[None], (K - 1, 0))
    x = F.conv1d(padded, w[prefix + "conv1d.weight"], w[prefix + "conv1d.bias"], groups=E)
    x = F.silu(x[0].T)
    dt, B, C = (x @ w[prefix + "x_proj.weight"].T).split([R, N, N], -1)
    dt = F.softplus(dt @ w[prefix + "dt_proj.weight"].T + w[prefix + "dt_proj.bias"])
    A, h, outputs = -torch.exp(w[prefix + "A_log"]), torch.zeros(E, N), []
    for x_t, dt_t, B_t, C_t in zip(x, dt, B, C, strict=True):
        h = torch.exp(dt_t[:, None] * A) * h + (dt_t * x_t)[:, None] * B_t
        outputs.append(h @ C_t + w[prefix + "D"] * x_t)
    return (torch.stack(outputs) * F.silu(z)) @ w[prefix + "out_proj.weight"].T


def published_logits(w, tokens):
    """The published network: two tied layers per block, the second on the flipped sequence."""
    residual = w["bimamba.backbone.embedding.weight"][tokens]
    for layer in range(LAYERS):
        prefix = f"bimamba.backbone.layers.{layer}."
        u = norm(residual, w[prefix + "norm.weight"])
        forward = mamba(w, prefix + "mixer.mamba_fwd.", u)
        backward = mamba(w, prefix + "mixer.mamba_rev.", u.flip(0)).flip(0)
        residual = residual + forward + backward
    return norm(residual, w["bimamba.backbone.norm_f.weight"]) @ w["lm_head.weight"].T


TOKENS = torch.tensor([0, 5, 9, 20, 4, 4, 13, 17, 2])


@pytest.mark.parametrize("twice", [True, False], ids=["stored-twice", "stored-once"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_imports_the_published_function(tmp_path, twice, name):
    folder = write(tmp_path / "p", published(twice), name=name)
    network = read_published(folder)
    logits = network(TOKENS, torch.tensor([0, len(TOKENS)], dtype=torch.int32))
    torch.testing.assert_close(logits, published_logits(published(), TOKENS), atol=1e-5, rtol=1e-5)
    assert not torch.equal(network.embedding.weight, network.lm_head.weight)


def test_import_save_load_keeps_the_logits(tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    import lcframework.models.lcplm.huggingface  # noqa: F401

    write(tmp_path / "p", published())
    main(["import-lcplm", str(tmp_path / "p"), "--to", str(tmp_path / "ours")])
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    expected = published_logits(published(), TOKENS)[:, : len(TOKEN_NAMES)]
    torch.testing.assert_close(model(TOKENS[None]).logits[0], expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(model.get_input_embeddings().weight, model.lm_head.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "ours")("LAG").input_ids == [0, 4, 5, 6, 2]
    with pytest.raises(SystemExit) as caught:
        main(["import-lcplm", str(tmp_path / "p"), "--to", str(tmp_path / "ours")])
    assert caught.value.code == 2


def damaged(change):
    tensors = published()
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(FIRST + "mamba_rev.x_proj.weight"), r"mamba_rev\.x_proj\.weight is miss"),
        (lambda t: t.pop("lm_head.weight"), r"lm_head\.weight is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unknown keys, the first is extra"),
        (
            lambda t: t.update({FIRST + "mamba_fwd.A_log": torch.zeros(E, N + 1)}),
            r"mamba_fwd\.A_log has shape \(16, 5\), but config.json asks for \(16, 4\)",
        ),
        (
            lambda t: t[FIRST + "mamba_rev.in_proj.weight"].add_(1),
            r"mamba_rev\.in_proj\.weight differs from .*mamba_fwd\.in_proj\.weight",
        ),
        (
            lambda t: t.update({"lm_head.weight": t["bimamba.backbone.embedding.weight"].clone()}),
            r"lm_head\.weight equals .*embedding\.weight",
        ),
    ],
    ids=["missing", "no-head", "extra", "shape", "untied", "merged"],
)
def test_a_key_that_does_not_fit_is_named(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        read_published(write(tmp_path / "p", damaged(change)))


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "esm"), ("tie_embeddings", True), ("d_intermediate", 64),
     ("ssm_cfg", {"layer": "Mamba2"}), ("bidirectional_strategy", "ew_multiply")],
)  # fmt: skip
def test_another_architecture_is_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=key if key != "ssm_cfg" else "Mamba2"):
        read_published(write(tmp_path / "p", published(), {**CONFIG, key: value}))


def test_an_export_is_told_from_a_published_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="is an export of lcframework already"):
        read_published(write(tmp_path / "p", published(), {**CONFIG, "model_type": "lcplm"}))


class Code:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_file_is_not_run_nor_advised(tmp_path):
    tensors = {**published(), "extra": Code(tmp_path / "ran")}
    folder = write(tmp_path / "p", tensors, name="pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin .*more than tensors") as caught:
        read_published(folder)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_partial_and_foreign_files_are_named(tmp_path):
    folder = write(tmp_path / "p", published())
    whole = folder / "model.safetensors"
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        read_published(folder)
    whole.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        read_published(folder)
    whole.unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_published(folder)


def test_shards_are_joined_and_a_missing_one_is_named(tmp_path):
    folder, tensors = tmp_path / "p", published()
    write(folder, tensors)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[:10], "two.safetensors": names[10:]}
    for name, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / name)
    index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_published(folder).num_parameters() > 0
    (folder / "two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"two\.safetensors is missing"):
        read_published(folder)


def test_another_vocabulary_is_refused_by_the_token(tmp_path):
    folder = write(tmp_path / "p", published())
    tokens = list(TOKEN_NAMES)
    tokens[4], tokens[5] = tokens[5], tokens[4]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    with pytest.raises(CheckpointError, match=r"line 5: id 4 is 'A', .* it is 'L'"):
        read_published(folder)
