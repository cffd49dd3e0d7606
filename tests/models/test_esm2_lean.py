"""ESM-2 without gradients equals transformers' own layers, which run with gradients."""

import copy

import pytest
import torch
from test_esm2 import RAGGED, distance, make_model, make_pack
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lcframework.models.hidden_states import hidden_states

SCATTERED = torch.tensor([194, 0, 71, 71, 3, 80, 195, 2])
"""Out of order, one place twice, most proteins without any."""


def both(model, *arguments, **keywords):
    """Lean, and as transformers computes it."""
    with torch.no_grad():
        lean = model(*arguments, **keywords)
    return lean, model(*arguments, **keywords).detach()


@pytest.mark.parametrize("changes", [{}, {"token_dropout": True}, {"d_model": 20, "n_heads": 2}])
@pytest.mark.parametrize("at", [None, SCATTERED, SCATTERED[:1], SCATTERED[:0]])
def test_float32(changes, at):
    model = make_model(**changes)
    tokens, cu_seqlens = make_pack(RAGGED)
    tokens[2::9] = 32
    lean, own = both(model, tokens, cu_seqlens, 70, at=at)
    assert lean.shape == own.shape
    torch.testing.assert_close(lean, own, atol=2e-5, rtol=1e-5)


def test_a_network_of_one_layer():
    model = make_model(n_layers=1)
    tokens, cu_seqlens = make_pack(RAGGED)
    torch.testing.assert_close(
        *both(model, tokens, cu_seqlens, 70, at=SCATTERED), atol=2e-5, rtol=0
    )


def test_float64_is_no_less_exact_than_transformers():
    model = make_model().double()
    tokens, cu_seqlens = make_pack(RAGGED)
    torch.testing.assert_close(*both(model, tokens, cu_seqlens, 70), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("at", [None, SCATTERED])
def test_half_precision_is_as_close_to_float32(at):
    model = make_model(d_model=64, n_layers=6)
    tokens, cu_seqlens = make_pack(RAGGED)
    _, full = both(model, tokens, cu_seqlens, 70, at=at)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lean, own = both(model, tokens, cu_seqlens, 70, at=at)
    assert distance(lean, full) < 1.1 * distance(own, full)
    lean, own = both(copy.deepcopy(model).bfloat16(), tokens, cu_seqlens, 70, at=at)
    assert lean.dtype == torch.bfloat16
    assert distance(lean, full) < 1.1 * distance(own, full)


@pytest.mark.parametrize("layer", [0, 1, 2, -1])
def test_hidden_states_of_every_layer(layer):
    model = make_model()
    tokens, cu_seqlens = make_pack(RAGGED)
    with torch.no_grad():
        lean = hidden_states(model, tokens, cu_seqlens, 70, layer)
    own = hidden_states(model, tokens, cu_seqlens, 70, layer)
    torch.testing.assert_close(lean, own.detach(), atol=2e-5, rtol=1e-5)


def test_a_place_gets_the_same_numbers_in_any_company():
    model = make_model()
    tokens, cu_seqlens = make_pack(RAGGED)
    with torch.no_grad():
        together = model(tokens, cu_seqlens, 70, at=SCATTERED)
        for place, expected in zip(SCATTERED.tolist(), together, strict=True):
            one = model(tokens, cu_seqlens, 70, at=torch.tensor([place]))
            torch.testing.assert_close(one[0], expected, atol=2e-5, rtol=1e-5)


class Traffic(TorchDispatchMode):
    """Bytes that operators other than views, matrix products and attention read and write."""

    APART = ("addmm", "empty_like", "_scaled_dot_product_flash_attention_for_cpu")

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket.__name__ not in self.APART:
            every = tree_leaves((args, {k: v for k, v in (kwargs or {}).items() if k != "out"}))
            every = [one for one in [*every, *tree_leaves(found)] if torch.is_tensor(one)]
            self.total += sum(one.nbytes for one in every)
        return found


def test_half_the_memory_traffic_of_transformers():
    """What bounds the layer on a GPU beside its matrix products."""
    tokens, cu_seqlens = make_pack((1500,))
    model = make_model(d_model=64, n_layers=2)

    def traffic(gradients):
        half = torch.autocast("cpu", dtype=torch.bfloat16)
        with half, torch.set_grad_enabled(gradients), Traffic() as counted:
            model(tokens, cu_seqlens, 1500)
        return counted.total

    assert traffic(False) < 0.5 * traffic(True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("at", [None, SCATTERED])
@pytest.mark.parametrize(("d_model", "n_heads"), [(128, 2), (104, 4)])
def test_on_a_gpu(d_model, n_heads, at):
    model = make_model(d_model=d_model, n_heads=n_heads).cuda()
    tokens, cu_seqlens = (x.cuda() for x in make_pack(RAGGED))
    at = None if at is None else at.cuda()
    _, full = both(model, tokens, cu_seqlens, 70, at=at)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        lean, own = both(model, tokens, cu_seqlens, 70, at=at)
    assert distance(lean, full) < 1.1 * distance(own, full)
