"""TAPE's heads on packs against the plain layers on one protein at a time."""

import pytest
import torch
from torch import nn

from lcframework.models.tape_heads import (
    PairwiseContacts,
    SimpleConv,
    SimpleMLP,
    mean_over_residues,
)

CU = torch.tensor([0, 3, 10, 15], dtype=torch.int32)
SLICES = [slice(0, 3), slice(3, 10), slice(10, 15)]


@pytest.fixture
def states():
    return torch.randn(15, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_convolutions_see_zeros_beyond_each_protein(states):
    torch.manual_seed(1)
    head = SimpleConv(6, 3)
    found = head(states, CU)
    plain = nn.Sequential(head.first, nn.ReLU(), head.second)  # pads each protein with zeros
    normed = head.norm(states)
    wanted = torch.cat([plain(normed[one].T[None])[0].T for one in SLICES])
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(
            (found * weights).sum(), [states, *head.parameters()], retain_graph=True
        ),
        torch.autograd.grad((wanted * weights).sum(), [states, *head.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_protein_gets_alone_what_it_gets_in_the_pack(states):
    head = SimpleConv(6, 3).eval()
    alone = head(states[SLICES[1]], torch.tensor([0, 7], dtype=torch.int32))
    torch.testing.assert_close(head(states, CU)[SLICES[1]], alone)


def test_layers_are_tapes():
    head = SimpleConv(6, 3)
    assert head.first.weight.shape == (512, 6, 5) and head.second.weight.shape == (3, 512, 3)
    norm = head.first.parametrizations.weight.original0  # one norm for the whole weight: dim=None
    assert norm.numel() == 1
    mlp = SimpleMLP(6, 4)
    assert [tuple(one.weight.shape) for one in (mlp.main[0], mlp.main[3])] == [(512, 6), (4, 512)]


def test_the_mean_leaves_out_the_specials(states):
    found = mean_over_residues(states, CU)
    wanted = torch.stack([states[one][1:-1].mean(0) for one in SLICES])
    torch.testing.assert_close(found, wanted)
    assert SimpleMLP(6, 4)(states, CU).shape == (3, 4)


def slow_contacts(head, states):
    maps = []
    for one in SLICES:
        inside = states[one][1:-1]
        length = len(inside)
        logits = torch.stack(
            [
                head.predict(torch.cat((inside[i] * inside[j], inside[i] - inside[j])))
                for i in range(length)
                for j in range(length)
            ]
        ).reshape(length, length, 2)
        maps.append(((logits + logits.transpose(0, 1)) / 2).reshape(-1, 2))
    return torch.cat(maps)


@pytest.mark.parametrize("mode", ["eval", "train without dropout"])
def test_contacts_pair_by_pair(states, mode):
    torch.manual_seed(2)
    head = PairwiseContacts(6, 0.5 if mode == "eval" else 0.0)
    head.train(mode != "eval")
    found, wanted = head(states, CU), slow_contacts(head, states)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), [states, *head.parameters()], retain_graph=True),
        torch.autograd.grad(wanted.square().sum(), [states, *head.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_dropout_falls_on_the_features_of_pairs(states):
    torch.manual_seed(3)
    head = PairwiseContacts(6).train()
    assert not torch.equal(head(states, CU), head(states, CU))
    with torch.no_grad():
        head.predict.weight.zero_()
    torch.testing.assert_close(head(states, CU), head.predict.bias.expand(1 + 25 + 9, 2))
