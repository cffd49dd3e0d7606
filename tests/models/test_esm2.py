"""ESM2 on packs equals transformers' own EsmForMaskedLM on one protein at a time."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import EsmForMaskedLM

from lcframework.models.esm2 import ESM2
from lcframework.models.esm2.attention import Packing, packed_attention
from lcframework.models.esm2.model import positions_in_protein

RAGGED = (1, 70, 2, 3, 33, 17, 64, 1, 5)
SIZES = {"d_model": 24, "n_layers": 3, "n_heads": 4}


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    model = ESM2(**{**SIZES, **changes})
    for name, parameter in model.named_parameters():  # norms and biases away from their 1 and 0
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0 if "weight" in name else 0.0, std=0.2)
        else:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def make_pack(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, 33, (sum(lengths),), generator=generator)
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    return tokens, cu_seqlens


def alone(model, tokens, cu_seqlens):
    """Logits of each protein from a call of its own, concatenated."""
    done = []
    for start, end in pairwise(cu_seqlens.tolist()):
        ends = torch.tensor([0, end - start], dtype=torch.int32)
        done.append(model(tokens[start:end], ends, end - start))
    return torch.cat(done)


def transformers_own(model, implementation):
    """The plain transformers model with the same weights, its contact head unused."""
    config = type(model.network.config)(**model.network.config.to_dict())
    config._attn_implementation = implementation
    network = EsmForMaskedLM(config)
    missing, unexpected = network.load_state_dict(model.network.state_dict(), strict=False)
    assert all("contact_head" in name for name in missing)
    assert not unexpected
    return network.eval()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_packed_equals_transformers_alone(implementation):
    model = make_model()
    tokens, cu_seqlens = make_pack(RAGGED)
    network = transformers_own(model, implementation)
    with torch.no_grad():
        packed = model(tokens, cu_seqlens, max(RAGGED))
        for start, end in pairwise(cu_seqlens.tolist()):
            theirs = network(input_ids=tokens[None, start:end]).logits[0]
            torch.testing.assert_close(packed[start:end], theirs, atol=1e-5, rtol=1e-5)
    assert packed.std() > 0.1


def test_packed_equals_alone_for_every_length_to_70():
    model = make_model()
    lengths = tuple(range(70, 0, -1))
    tokens, cu_seqlens = make_pack(lengths)
    with torch.no_grad():
        packed = model(tokens, cu_seqlens, 70)
        torch.testing.assert_close(packed, alone(model, tokens, cu_seqlens), atol=1e-5, rtol=1e-5)


def test_gradients_packed_equal_gradients_alone():
    model = make_model()
    tokens, cu_seqlens = make_pack(RAGGED)
    weights = torch.randn(
        tokens.shape[0], model.vocab_size, generator=torch.Generator().manual_seed(3)
    )
    names = [name for name, _ in model.named_parameters()]

    def gradients(logits):
        return torch.autograd.grad((logits * weights).mean(), list(model.parameters()))

    packed = gradients(model(tokens, cu_seqlens, max(RAGGED)))
    single = gradients(alone(model, tokens, cu_seqlens))
    for name, ours, theirs in zip(names, packed, single, strict=True):
        torch.testing.assert_close(
            ours, theirs, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_every_parameter_gets_a_gradient():
    model = make_model().train()
    tokens, cu_seqlens = make_pack((5, 9))
    model(tokens, cu_seqlens, 9).square().mean().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def test_position_ids_alone_mix_proteins_and_ours_do_not():
    model = make_model()
    tokens, cu_seqlens = make_pack((20, 30))
    other = tokens.clone()
    other[20:] = (other[20:] - 3 + 7) % 30 + 3
    network = transformers_own(model, "sdpa")
    positions = positions_in_protein(cu_seqlens, 50)[None]
    with torch.no_grad():
        ours = [model(t, cu_seqlens, 30)[:20] for t in (tokens, other)]
        mixed = [
            network(input_ids=t[None], position_ids=positions).logits[0, :20]
            for t in (tokens, other)
        ]
    assert torch.equal(*ours)
    assert (mixed[0] - mixed[1]).abs().max() > 0.05 * mixed[0].abs().max()


def test_at_selects_rows():
    model = make_model()
    tokens, cu_seqlens = make_pack(RAGGED)
    at = torch.tensor([0, 195, 71, 71, 3])
    with torch.no_grad():
        everywhere = model(tokens, cu_seqlens, 70)
        torch.testing.assert_close(model(tokens, cu_seqlens, 70, at=at), everywhere[at])
        assert model(tokens, cu_seqlens, 70, at=at[:0]).shape == (0, 33)


def test_bfloat16_autocast_stays_close():
    model = make_model()
    tokens, cu_seqlens = make_pack(RAGGED)
    with torch.no_grad():
        full = model(tokens, cu_seqlens, 70)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(tokens, cu_seqlens, 70)
    assert (half.float() - full).abs().mean() < 0.05 * full.abs().mean()


def test_positions_start_at_zero_in_every_protein():
    _, cu_seqlens = make_pack((3, 1, 4))
    assert positions_in_protein(cu_seqlens, 8).tolist() == [0, 1, 2, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(("d_model", "n_layers", "ffn_ratio"), [(24, 3, 4), (32, 1, 2)])
def test_parameter_counts(d_model, n_layers, ffn_ratio):
    model = ESM2(d_model, n_layers, 4, ffn_ratio=ffn_ratio)
    d, f = d_model, ffn_ratio * d_model
    block = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 2 * 2 * d
    embeddings = 33 * d + (d * d + d) + 2 * d + 33
    assert model.num_parameters("blocks") == n_layers * block
    assert model.num_parameters("embeddings") == embeddings
    assert model.num_parameters() == n_layers * block + embeddings + 2 * d
    with pytest.raises(ValueError, match="part"):
        model.num_parameters("heads")


def lcplm_block(d, state=16, kernel=4):
    inner, rank = 2 * d, math.ceil(d / 16)
    scan = inner * (rank + 2 * state) + inner * rank + inner + inner * state + inner
    return 6 * d * d + d + 2 * (inner * (kernel + 1) + scan)


@pytest.mark.parametrize(
    ("lcplm", "esm2"),
    [
        ((128, 4), (104, 4, 4)),
        ((160, 10), (144, 8, 6)),
        ((320, 10), (320, 6, 20)),
        ((480, 21), (480, 12, 20)),
        ((768, 32), (768, 18, 12)),
        ((1024, 48), (1024, 27, 16)),
        ((1536, 48), (1280, 38, 20)),
        ((2048, 48), (1536, 47, 24)),
    ],
)
def test_block_parameters_match_lcplm_within_3_percent(lcplm, esm2):
    width, layers = lcplm
    with torch.device("meta"):
        ours = ESM2(*esm2).num_parameters("blocks")
    assert ours == pytest.approx(layers * lcplm_block(width), rel=0.03)


def test_forward_flops_against_torch_counter():
    model = make_model()
    tokens, cu_seqlens = make_pack(RAGGED)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens, cu_seqlens, max(RAGGED))
    # transformers 5.17 forms the rotation angles with a (T, 1) by (1, d) product, 0.01% more here.
    assert model.forward_flops(RAGGED) == pytest.approx(counter.get_total_flops(), rel=2e-4)


def test_hparams_rebuild_the_model():
    model = make_model(attention_backend="sdpa", ffn_ratio=3)
    again = type(model)(**model.hparams)
    again.load_state_dict(model.state_dict())
    tokens, cu_seqlens = make_pack((4, 8))
    with torch.no_grad():
        assert torch.equal(model(tokens, cu_seqlens, 8), again.eval()(tokens, cu_seqlens, 8))
    assert model.architecture == "esm2"


def test_padded_and_broken_packs_are_refused():
    model = make_model()
    tokens, cu_seqlens = make_pack((4, 8))
    with pytest.raises(ValueError, match="packed by dropping its padding"):
        model(tokens.view(2, 6), cu_seqlens, 8)
    with pytest.raises(ValueError, match="int32"):
        model(tokens, cu_seqlens.long(), 8)
    with pytest.raises(ValueError, match="max_len=7"):
        model(tokens, cu_seqlens, 7)
    with pytest.raises(ValueError, match="T=12"):
        model(tokens, cu_seqlens - 1, 8)
    with pytest.raises(ValueError, match="rise strictly"):
        model(tokens, torch.tensor([0, 4, 4, 12], dtype=torch.int32), 8)
    tokens[5] = 1
    with pytest.raises(ValueError, match="first at position 5"):
        model(tokens, cu_seqlens, 8)


def test_sizes_and_backends_are_checked():
    with pytest.raises(ValueError, match="even size"):
        ESM2(20, 1, 4)
    with pytest.raises(ValueError, match="<mask>"):
        ESM2(24, 1, 4, vocab_size=32)
    with pytest.raises(ValueError, match="attention_backend"):
        ESM2(24, 1, 4, attention_backend="flash")
    tokens, cu_seqlens = make_pack((4, 8))
    with pytest.raises(ValueError, match="CUDA"):
        make_model(attention_backend="varlen")(tokens, cu_seqlens, 8)


def test_attention_refuses_a_mask_and_a_missing_packing():
    q = torch.randn(1, 2, 6, 4)
    with pytest.raises(ValueError, match="needs packing"):
        packed_attention(torch.nn.Identity(), q, q, q, None)
    packing = Packing(torch.tensor([0, 6], dtype=torch.int32), 6)
    with pytest.raises(ValueError, match="without mask"):
        packed_attention(torch.nn.Identity(), q, q, q, torch.ones(1, 1, 6, 6), packing=packing)
    with pytest.raises(ValueError, match="needs packing"):
        make_model().network(input_ids=torch.randint(4, 24, (1, 6)))


def distance(a, b):
    return ((a.float() - b.float()).norm() / b.float().norm()).item()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("head_size", [24, 26, 52])  # the last two are padded for the kernel
def test_varlen_attention_matches_float32(head_size):
    _, cu_seqlens = make_pack(RAGGED)
    packing = Packing(cu_seqlens.cuda(), max(RAGGED), "varlen")
    torch.manual_seed(0)
    half = torch.randn(4, 1, 3, sum(RAGGED), head_size, device="cuda", dtype=torch.bfloat16)
    results = []
    for x, backend in ((half, "varlen"), (half.float(), "sdpa")):
        q, k, v = (part.clone().requires_grad_() for part in x[:3])
        packing = Packing(packing.cu_seqlens, packing.max_len, backend)
        out, _ = packed_attention(torch.nn.Identity(), q, k, v, None, scaling=0.3, packing=packing)
        assert out.dtype == x.dtype
        results.append((out, *torch.autograd.grad((out * x[3].transpose(1, 2)).sum(), (q, k, v))))
    for ours, reference in zip(*results, strict=True):
        assert ours.shape == reference.shape
        assert distance(ours, reference) < 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("d_model", "n_heads"), [(104, 2), (104, 4), (144, 6)])
def test_varlen_model_is_as_close_to_float32_as_sdpa(d_model, n_heads):
    model = make_model(d_model=d_model, n_heads=n_heads).cuda()
    tokens, cu_seqlens = (x.cuda() for x in make_pack(RAGGED))
    weights = torch.randn(tokens.shape[0], 33, device="cuda")
    results = []
    for backend, half in (("sdpa", False), ("sdpa", True), ("varlen", True)):
        model.attention_backend = backend
        model.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
            logits = model(tokens, cu_seqlens, max(RAGGED))
        (logits.float() * weights).mean().backward()
        first = model.network.esm.encoder.layer[0].attention.self.query.weight.grad
        results.append((logits.detach(), first.clone()))
    for full, sdpa, varlen in zip(*results, strict=True):
        assert distance(varlen, full) < 1.5 * distance(sdpa, full) + 1e-3
