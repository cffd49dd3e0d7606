"""The gradient-cached step equals the big batch, on one process and on two."""

import contextlib
import dataclasses
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.multiprocessing as mp
from focused_examples import item, llm
from torch.nn.parallel import DistributedDataParallel

from lcframework.errors import CheckpointError, DataError
from lcframework.models.focused.layout import Passes
from lcframework.models.focused.lora import LoRA
from lcframework.models.focused.network import TwoViewNetwork
from lcframework.models.focused.tokens import encode_item
from lcframework.models.focused.views import focused_view, original_view
from lcframework.tasks.focused_pool import Pair, PairQueue, Weights
from lcframework.tasks.focused_step import cached_step, direct_step

MASK_ID = 0
TERMS = Weights(contrast=0.7, focused=0.3, consistency=0.4)
STEPS = {
    "cached": cached_step, "direct": direct_step, "gather": partial(direct_step, gather=True),
    "queue": partial(direct_step, gather=True),
}  # fmt: skip


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


def filled_queue(width=5):
    """Three pairs of the past, two of them about questions of `pairs`."""
    queue, draw = PairQueue(8), torch.Generator().manual_seed(3)
    rows = [torch.randn(3, width, generator=draw, dtype=torch.float64) for _ in range(2)]
    queue.push(rows[0], rows[1], torch.tensor([[0, 0], [1, 1], [77, 77]]))
    return queue


def network(
    dropout=0.3, lora=True, checkpointing=False, projection=5, pooling="last_prompt",
    attention="sdpa",
):  # fmt: skip
    model, _ = llm(vocab_size=260, attention=attention)
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
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
        timeout=timedelta(seconds=90),
    )  # fmt: skip
    given = pairs(4)[2 * rank : 2 * rank + 2]
    for name, step in STEPS.items():
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
        options |= {"queue": filled_queue()} if name == "queue" else {}
        _, found = gradients(
            lambda n, *rest, b=backward, s=step, **o: s(n, *rest[:2], b, **o),
            net, given, TERMS, **options,
        )  # fmt: skip
        if rank == 0:
            torch.save({"gradients": found, "syncs": len(syncs)}, f"{folder}/{name}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_and_synchronise_once(tmp_path):
    """Cached, gathered and queued: the gradients of one process with all pairs. Direct: the mean of
    two processes that do not know of each other."""
    mp.start_processes(_worker, (str(tmp_path),), nprocs=2, start_method="spawn")
    net = network(dropout=0.0)
    _, whole = gradients(direct_step, net, pairs(4), TERMS)
    _, queued = gradients(direct_step, net, pairs(4), TERMS, queue=filled_queue())
    _, terms = gradients(direct_step, net, pairs(4), dataclasses.replace(TERMS, contrast=0.0))
    halves = [
        gradients(direct_step, net, pairs(4)[n : n + 2], Weights(contrast=0.7, original=0.0))[1]
        for n in (0, 2)
    ]
    alone = {name: terms.get(name, 0) + (halves[0][name] + halves[1][name]) / 2 for name in whole}
    for name in STEPS:
        found = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert found["syncs"] == 1
        wanted = {"queue": queued, "direct": alone}.get(name, whole)
        assert found["gradients"].keys() == wanted.keys()
        # Direct's sum is formed in another order, and the model's norms are float32.
        bound = {"rtol": 1e-5, "atol": 1e-6} if name == "direct" else {"rtol": 1e-6, "atol": 1e-9}
        for key, one in wanted.items():
            torch.testing.assert_close(found["gradients"][key], one, **bound, msg=f"{name} {key}")
    key = next(name for name in whole if "lora_B" in name)
    assert not torch.allclose(whole[key], alone[key]) and not torch.allclose(
        whole[key], queued[key]
    )


def test_the_queue_is_more_negatives():
    """The loss and its gradient written out with the past pairs as further columns."""
    net, given, queue = network(dropout=0.0, projection=4), pairs(3), filled_queue(4)
    losses, found = gradients(direct_step, net, given, Weights(original=0.0), queue=queue)
    assert len(queue) == 6 and losses.negatives == pytest.approx((4 + 4 + 5) / 3)
    net.zero_grad()
    both = [net([getattr(p, side) for p in given], False).embedding_SE
            for side in ("original", "focused")]  # fmt: skip
    past = filled_queue(4).state_dict()
    z = [torch.nn.functional.normalize(one, dim=-1) for one in both]
    old = [torch.nn.functional.normalize(past[side], dim=-1) for side in ("focused", "original")]
    same = torch.tensor([[p.question == int(q) for q in past["about"][:, 0]] for p in given])
    total = 0
    for n, rows in enumerate((z, z[::-1])):
        scores = torch.cat([rows[0] @ rows[1].T, (rows[0] @ old[n].T).masked_fill(same, -9e9)], 1)
        total = total - 0.5 * (net.log_scale.exp() * scores).log_softmax(1).diagonal().mean()
    total.backward()
    torch.testing.assert_close(losses.contrast, total.detach())
    for name, weight in net.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, msg=name)


def test_a_queue_forgets_the_oldest_and_goes_on_from_a_checkpoint():
    queue = PairQueue(4)
    for n in range(3):
        queue.push(torch.full((2, 5), float(n)), torch.zeros(2, 5), torch.full((2, 2), n))
    assert len(queue) == 4 and queue.state_dict()["about"][:, 0].tolist() == [1, 1, 2, 2]
    again = PairQueue(3)
    again.load_state_dict(queue.state_dict())
    assert again.state_dict()["original"][:, 0].tolist() == [1.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="1 pair or more"):
        PairQueue(0)
    with pytest.raises(CheckpointError, match="queue holds"):
        again.load_state_dict({"keys": torch.zeros(1)})
    # A pool of one question has negatives, once the queue has others.
    one = [Pair(p.original, p.focused, 7, 7) for p in pairs(2)]
    gradients(direct_step, network(), one, Weights(), queue=filled_queue())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", ["mask", "hole", "removal", "compact"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_many_in_a_pass_equal_each_alone(attention, mode, packed):
    """Padded rows, and one packed row: losses, embeddings and gradients of one sequence at a time,
    of the cached and of the direct step."""
    net, given = network(dropout=0.0, attention=attention), pairs(4, mode)
    net.packed = packed
    weights = Weights(focused=0.5, consistency=0.3)
    wanted_losses, wanted = gradients(direct_step, net, given, weights)
    longest = max(len(p.original.ids_N) for p in given)
    bound = 2e-6 if attention == "eager" else 1e-9  # eager's softmax is float32 whatever comes in
    for step, tokens in ((direct_step, 10**6), (cached_step, 2 * longest + 1)):
        losses, found = gradients(step, net, given, weights, passes=Passes(tokens, packed))
        assert float(losses.contrast) == pytest.approx(float(wanted_losses.contrast), rel=1e-5)
        for name, one in wanted.items():
            torch.testing.assert_close(
                found[name], one, rtol=0, atol=bound * float(one.abs().max()), msg=name
            )


def test_dropout_is_drawn_again_in_packed_passes():
    net, given = network(dropout=0.4, checkpointing=True), pairs(4)
    net.packed = True
    passes = Passes(len(given[0].original.ids_N) * 2 + 9, True)
    _, wanted = gradients(direct_step, net, given, Weights(), passes=passes)
    _, found = gradients(cached_step, net, given, Weights(), passes=passes)
    for name, one in wanted.items():
        atol = 1e-6 * float(one.abs().max())
        torch.testing.assert_close(found[name], one, rtol=0, atol=atol, msg=name)


def test_passes_hold_so_many_tokens():
    assert Passes().groups([5, 3, 9]) == [[0], [1], [2]]
    assert Passes(10).groups([5, 3, 9, 5, 20]) == [[1, 0], [3], [2], [4]]  # 2 rows of 5, not 3
    assert Passes(13, True).groups([5, 3, 9, 5, 20]) == [[1, 0, 3], [2], [4]]
    with pytest.raises(ValueError, match="1 or more"):
        Passes(0)


def test_no_sync_surrounds_all_but_the_last():
    entered = []

    @contextlib.contextmanager
    def no_sync():
        entered.append(1)
        yield

    gradients(cached_step, network(), pairs(3), Weights(), no_sync=no_sync)
    assert len(entered) == 5  # of 6 sequences
