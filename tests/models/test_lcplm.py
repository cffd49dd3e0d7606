"""LC-PLM: the published function, batch invariance, symmetry, sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lcframework.models.lcplm import LCPLM
from lcframework.models.lcplm.block import BiMambaS


def cu(*lengths):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)


def tokens(n, seed=0):
    return torch.randint(4, 24, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    torch.manual_seed(1)
    return LCPLM(d_model=12, n_layers=2, d_state=4).eval()


def one_mamba(mixer: BiMambaS, u, direction):
    """A plain Mamba-1 layer over one sequence (L, d), written from the Mamba paper, with the shared
    projections."""
    x, z = mixer.in_proj(u).chunk(2, dim=-1)
    padded = F.pad(x.T[None], (mixer.conv_weight.shape[2] - 1, 0))
    weight, bias = mixer.conv_weight[direction], mixer.conv_bias[direction]
    x = F.silu(F.conv1d(padded, weight[:, None], bias, groups=x.shape[1])[0].T)
    parts = (x @ mixer.x_proj[direction].T).split(
        [mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1
    )
    dt = F.softplus(parts[0] @ mixer.dt_proj[direction].T + mixer.dt_bias[direction])
    A, h, outputs = -torch.exp(mixer.A_log[direction]), 0.0, []
    for x_t, dt_t, B_t, C_t in zip(x, dt, parts[1], parts[2], strict=True):
        h = torch.exp(dt_t[:, None] * A) * h + (dt_t * x_t)[:, None] * B_t
        outputs.append(h @ C_t + mixer.D[direction] * x_t)
    return mixer.out_proj(torch.stack(outputs) * F.silu(z))


def test_one_projection_equals_two_tied_mambas_with_flips(model):
    u = torch.randn(37, 12, generator=torch.Generator().manual_seed(2))
    mixer = model.blocks[0].mixer
    twice = one_mamba(mixer, u, 0) + one_mamba(mixer, u.flip(0), 1).flip(0)
    torch.testing.assert_close(mixer(u, cu(37)), twice, atol=1e-5, rtol=1e-5)


def test_alone_packed_and_padded_agree(model):
    lengths = [1, 30, 2, 77, 5]
    pack = tokens(sum(lengths))
    packed = model(pack, cu(*lengths)).split(lengths)
    rows, mask = torch.ones(5, 80, dtype=torch.long), torch.zeros(5, 80, dtype=torch.bool)
    for row, one in enumerate(pack.split(lengths)):
        rows[row, : len(one)], mask[row, : len(one)] = one, True
    padded = model.forward_padded(rows, mask)
    for row, one in enumerate(pack.split(lengths)):
        alone = model(one, cu(len(one)))
        torch.testing.assert_close(packed[row], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(padded[row, : len(one)], alone, atol=1e-5, rtol=1e-5)
        assert not padded[row, len(one) :].any()


def test_reversed_input_with_swapped_directions_gives_reversed_output(model):
    pack = tokens(41)
    forward = model(pack, cu(41))
    with torch.no_grad():
        for block in model.blocks:
            for name in ("conv_weight", "conv_bias", "x_proj", "dt_proj", "dt_bias", "A_log", "D"):
                parameter = getattr(block.mixer, name)
                parameter.copy_(parameter.flip(0))
    torch.testing.assert_close(model(pack.flip(0), cu(41)).flip(0), forward, atol=1e-5, rtol=1e-5)


def test_every_scan_gives_the_same_model():
    pack = tokens(50)
    outputs = []
    for backend in ("numba", "chunked", "reference"):
        torch.manual_seed(4)
        outputs.append(LCPLM(8, 2, scan_backend=backend)(pack, cu(20, 30)))
    for one in outputs[:2]:
        torch.testing.assert_close(one, outputs[2], atol=1e-5, rtol=1e-5)


def test_gradcheck_of_a_block():
    torch.manual_seed(0)
    mixer = BiMambaS(3, 2, 3, 2, 1, n_layers=1).double()
    u = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    names, values = zip(*mixer.named_parameters(), strict=True)

    def call(u, *values):
        return torch.func.functional_call(
            mixer, dict(zip(names, values, strict=True)), (u, cu(3, 4))
        )

    assert torch.autograd.gradcheck(call, (u, *values))


def test_logits_at_positions(model):
    pack, at = tokens(20), torch.tensor([3, 19, 0])
    torch.testing.assert_close(model(pack, cu(8, 12), at=at), model(pack, cu(8, 12))[at])


def test_released_size():
    with torch.device("meta"):
        model = LCPLM(d_model=1536, n_layers=48)
    assert model.num_parameters() == 752_788_992
    assert model.num_parameters("blocks") == 48 * (14_155_776 + 2 * 758_784 + 1536)
    assert model.num_parameters("embeddings") == 2 * 128 * 1536


def test_bfloat16_autocast_keeps_the_residual_in_fp32(model):
    pack = tokens(30)
    with torch.autocast("cpu", torch.bfloat16):
        logits, hidden = model(pack, cu(30)), model.blocks[0](model.embedding(pack), cu(30))
    assert logits.dtype == torch.bfloat16
    assert hidden.dtype == torch.float32
    torch.testing.assert_close(logits.float(), model(pack, cu(30)), atol=5e-2, rtol=5e-2)


def test_checkpointing_changes_no_gradient():
    pack, grads = tokens(25), []
    for checkpointing in (False, True):
        torch.manual_seed(4)
        model = LCPLM(8, 2, gradient_checkpointing=checkpointing)
        model(pack, cu(25)).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


def test_state_dict_holds_each_shared_projection_once(model):
    keys = [key for key in model.state_dict() if "blocks.0" in key and "proj" in key]
    assert sorted(keys) == [
        f"blocks.0.mixer.{n}" for n in ("dt_proj", "in_proj.weight", "out_proj.weight", "x_proj")
    ]
    again = LCPLM(**model.hparams)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(tokens(9), cu(9)), model(tokens(9), cu(9)))


def test_scan_parameters_are_spared_from_weight_decay(model):
    spared = {
        n.split(".")[-1]
        for n, p in model.named_parameters()
        if getattr(p, "_no_weight_decay", False)
    }
    assert {"A_log", "D"} <= spared


def test_wrong_input_is_refused(model):
    with pytest.raises(ValueError, match="packed tokens"):
        model(tokens(6).view(2, 3), cu(6))
    with pytest.raises(ValueError, match="every row"):
        model.forward_padded(torch.ones(1, 3, dtype=torch.long), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="sizes must be positive"):
        LCPLM(8, 0)


def test_initial_step_sizes_lie_in_the_published_range():
    torch.manual_seed(0)
    mixer = LCPLM(64, 1).blocks[0].mixer
    dt = nn.functional.softplus(mixer.dt_bias)
    assert 1e-3 * 0.999 <= dt.min() < 2e-3
    assert 0.05 < dt.max() <= 0.1 * 1.001
