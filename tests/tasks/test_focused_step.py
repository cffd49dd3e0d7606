"""The gradient-cached step equals the big batch, on one process and on two."""

import contextlib

import pytest
import torch
import torch.multiprocessing as mp
from focused_examples import item, llm
from torch.nn.parallel import DistributedDataParallel

from lcframework.errors import DataError
from lcframework.models.focused.lora import LoRA
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.tokens import encode_item
from lcframework.models.focused.views import focused_view, original_view
from lcframework.tasks.focused_step import Pair, Weights, cached_step, direct_step

MASK_ID = 0


def pairs(n=3, mode="mask", tokenizer=None):
    tokenizer = tokenizer or llm()[1]
    found = []
    for number in range(n):
        answers = ("Rome" if number % 2 else "the city of Rome",)
        one = encode_item(
            tokenizer, item(number, (number % 4, 1), answers=answers), chat=False, answer=answers[0]
        )
        found.append(Pair(original_view(one), focused_view(one, mode, MASK_ID), number, number % 2))
    return found


def network(dropout=0.3, lora=True, checkpointing=False, projection=5, pooling="last_prompt"):
    model, _ = llm(vocab_size=260)
    model.to(torch.float64)
    if lora:
        torch.manual_seed(1)
        LoRA(r=2, dropout=dropout).attach(model)
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # zero at the start: the gradient of A would be 0
                torch.nn.init.normal_(weight, std=0.1)
    model.to(torch.float64)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    torch.manual_seed(2)
    return TwoViewNetwork(model, pooling, projection).to(torch.float64).train()


def gradients(step, net, given, weights, **options):
    net.zero_grad()
    torch.manual_seed(5)
    losses = step(net, given, weights, lambda loss: loss.backward(), **options)
    return losses, {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, Weights()),
        ({"dropout": 0.0, "pooling": "prompt_mean"}, Weights(same_document=False, contrast=0.7)),
        ({"checkpointing": True}, Weights(focused=0.5)),
        ({"lora": False, "pooling": "answer_mean", "projection": None}, Weights()),
        ({}, Weights(original=0.0)),
        ({}, Weights(contrast=0.0, focused=1.0)),
        ({}, Weights(consistency=2.0, contrast=0.5)),
        ({}, Weights(consistency=1.0, contrast=0.0, original=0.0)),
    ],
)
def test_cached_gradients_equal_the_big_batch(options, weights):
    net, given = network(**options), pairs(4)
    wanted_losses, wanted = gradients(direct_step, net, given, weights)
    losses, found = gradients(cached_step, net, given, weights)
    assert found.keys() == wanted.keys() and found
    largest = max(one.abs().max() for one in wanted.values())
    assert largest > 1e-3
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=0, atol=1e-6 * float(largest), msg=name)
    for name in ("original", "focused", "contrast", "consistency"):
        first, second = getattr(losses, name), getattr(wanted_losses, name)
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first, second)
    assert ("log_scale" in found) == (weights.contrast > 0)


def test_the_big_batch_is_the_formula():
    """One tensor expression over all pairs, written out, against `direct_step`."""
    net, given = network(dropout=0.0), pairs(3)
    losses, found = gradients(direct_step, net, given, Weights(contrast=0.5))
    net.zero_grad()
    rows, nll, tokens = [], 0, 0
    for pair in given:
        both = []
        for view in (pair.original, pair.focused):
            out = net.model(**view.inputs("cpu"), use_cache=False, output_hidden_states=True)
            both.append(net.projection(out.hidden_states[-1][0, view.prompt_tokens - 1]))
            if view is pair.original:
                first = view.prompt_tokens
                logp = out.logits[0, first - 1 : -1].log_softmax(-1)
                nll = nll - logp.gather(1, view.ids_N[first:, None]).sum()
                tokens += view.answer_tokens
        rows.append(torch.stack(both))
    z = torch.nn.functional.normalize(torch.stack(rows), dim=-1)
    scores = net.log_scale.exp() * z[:, 0] @ z[:, 1].T
    rowwise = -scores.log_softmax(1).diagonal().mean()
    columns = -scores.log_softmax(0).diagonal().mean()
    loss = nll / tokens + 0.5 * 0.5 * (rowwise + columns)
    loss.backward()
    torch.testing.assert_close(losses.original, (nll / tokens).detach())
    torch.testing.assert_close(losses.contrast, (0.5 * (rowwise + columns)).detach())
    for name, weight in net.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, msg=name)


def test_the_consistency_term_is_the_divergence():
    net, given = network(dropout=0.0), pairs(2)
    weights = Weights(contrast=0.0, original=0.0, consistency=1.0)
    losses, found = gradients(cached_step, net, given, weights)
    net.zero_grad()
    total, tokens = 0, 0
    for pair in given:
        logs = []
        for view in (pair.original, pair.focused):
            out = net.model(**view.inputs("cpu"), use_cache=False).logits[0]
            logs.append(out[view.prompt_tokens - 1 : -1].log_softmax(-1))
        original, focused = logs[0], logs[1].detach()
        total = total + (focused.exp() * (focused - original)).sum()
        tokens += pair.original.answer_tokens
    (total / tokens).backward()
    assert losses.consistency > 1e-3
    torch.testing.assert_close(losses.consistency, (total / tokens).detach())
    for name, weight in net.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, msg=name)


def test_dropout_is_drawn_again():
    """Without the replay of random numbers the cached gradient would belong to other embeddings."""
    net, given = network(dropout=0.5), pairs(4)
    _, first = gradients(cached_step, net, given, Weights())
    _, still = gradients(direct_step, network(dropout=0.0), given, Weights())
    name = next(one for one in first if "lora_A" in one)
    assert not torch.allclose(first[name], still[name])  # so the dropout does act


def test_bfloat16_autocast_gives_every_weight_a_gradient():
    """Weights cast in the pass without gradients must not be used in the one with them."""
    net = network(dropout=0.0).float()
    given = pairs(3)
    with torch.autocast("cpu", torch.bfloat16):
        _, found = gradients(cached_step, net, given, Weights())
    wanted = {name for name, p in net.named_parameters() if p.requires_grad}
    assert set(found) == wanted
    assert all(torch.isfinite(one).all() for one in found.values())


def test_same_question_only_is_refused():
    given = [Pair(one.original, one.focused, 1, 1) for one in pairs(3)]
    with pytest.raises(DataError, match="No pair of a batch of 3 has a negative"):
        gradients(cached_step, network(), given, Weights())
    dropped = [Pair(p.original, p.focused, n, n, n == 0) for n, p in enumerate(pairs(3))]
    with pytest.raises(DataError, match="left out"):
        gradients(direct_step, network(), dropped, Weights())


def _worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    given = pairs(4)[2 * rank : 2 * rank + 2]
    for name, step in (("cached", cached_step), ("direct", direct_step)):
        net = network(dropout=0.0)
        net.requires_grad_(False)
        for key, weight in net.named_parameters():
            weight.requires_grad_("lora" in key or "projection" in key or key == "log_scale")
        wrapped = DistributedDataParallel(net)
        syncs = []

        def backward(loss, wrapped=wrapped, syncs=syncs):
            if wrapped.require_backward_grad_sync:
                wrapped.reducer.prepare_for_backward([])
                syncs.append(1)
            loss.backward()

        options = {"no_sync": wrapped.no_sync} if name == "cached" else {}
        _, found = gradients(
            lambda n, *rest, b=backward, s=step, **o: s(n, *rest[:2], b, **o),
            net, given, Weights(contrast=0.7, focused=0.3, consistency=0.4), **options,
        )  # fmt: skip
        if rank == 0:
            torch.save({"gradients": found, "syncs": len(syncs)}, f"{folder}/{name}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_and_synchronise_once(tmp_path):
    mp.start_processes(_worker, (str(tmp_path),), nprocs=2, start_method="spawn")
    _, wanted = gradients(
        direct_step,
        network(dropout=0.0),
        pairs(4),
        Weights(contrast=0.7, focused=0.3, consistency=0.4),
    )
    for name in ("cached", "direct"):
        found = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert found["syncs"] == 1
        assert found["gradients"].keys() == wanted.keys()
        for key, one in wanted.items():
            torch.testing.assert_close(found["gradients"][key], one, rtol=1e-6, atol=1e-9, msg=key)


def test_no_sync_surrounds_all_but_the_last():
    entered = []

    @contextlib.contextmanager
    def no_sync():
        entered.append(1)
        yield

    gradients(cached_step, network(), pairs(3), Weights(), no_sync=no_sync)
    assert len(entered) == 5  # of 6 sequences
