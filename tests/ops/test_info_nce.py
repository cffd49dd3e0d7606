"""InfoNCE against loops; chunked cross-entropy against torch's."""

import math

import pytest
import torch
from torch.nn import functional as F

from lcframework.ops.chunked_cross_entropy import chunked_cross_entropy
from lcframework.ops.info_nce import info_nce, info_nce_reference


def views(pairs=5, width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(pairs, width, dtype=torch.float64, generator=generator) for _ in range(2)]
    return [one.requires_grad_() for one in draw]


def matrix(pairs, excluded):
    found = torch.eye(pairs, dtype=torch.bool)
    for i, j in excluded:
        found[i, j] = found[j, i] = True
    return found


@pytest.mark.parametrize("excluded", [set(), {(0, 3)}, {(0, 1), (0, 2), (0, 3), (0, 4)}])
def test_equals_loops(excluded):
    original, focused = views()
    both_ways = excluded | {(j, i) for i, j in excluded}
    scale = torch.tensor(math.log(3.0), dtype=torch.float64)
    found = info_nce(original, focused, scale, matrix(5, excluded))
    wanted = info_nce_reference(original.tolist(), focused.tolist(), 3.0, both_ways)
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_gradients_by_finite_differences():
    original, focused = views(4, 3)
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    barred = matrix(4, {(1, 2)})
    assert torch.autograd.gradcheck(lambda *x: info_nce(*x, barred), (original, focused, scale))


def test_a_pair_without_negatives_has_no_part():
    original, focused = views()
    alone = matrix(5, {(0, 1), (0, 2), (0, 3), (0, 4)})
    info_nce(original, focused, torch.tensor(1.0), alone).backward()
    assert original.grad[0].abs().max() == 0 and original.grad[1].abs().max() > 0


def test_an_empty_pool_is_refused():
    original, focused = views(1)
    with pytest.raises(ValueError, match="no pair has a negative"):
        info_nce(original, focused, torch.tensor(1.0))


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_chunked_cross_entropy(chunk, softcap):
    torch.manual_seed(0)
    hidden = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(4, 11, dtype=torch.float64)
    labels = torch.randint(11, (7,))
    found = chunked_cross_entropy(hidden, labels, head, softcap, chunk)
    logits = head(hidden)
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    wanted = F.cross_entropy(logits, labels, reduction="sum")
    weights = (hidden, head.weight)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    for one, two in zip(
        torch.autograd.grad(found, weights), torch.autograd.grad(wanted, weights), strict=True
    ):
        torch.testing.assert_close(one, two)
