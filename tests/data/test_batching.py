"""Epoch plans: complete, within budget, well filled, equal on all ranks, resumable."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.data.batching import EpochBatchSampler, batches_per_epoch, plan_epoch
from lcframework.data.packing import packs_in_order
from lcframework.errors import DataError


def protein_lengths(count, seed=0):
    """Token lengths that resemble UniRef50's."""
    drawn = np.random.default_rng(seed).lognormal(5.7, 0.7, count)
    return drawn.astype(np.int64).clip(20, 35_000) + 2


def batches(plans):
    return [plan[number] for plan in plans for number in range(len(plan))]


@settings(max_examples=300, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 40), min_size=1, max_size=60),
    max_tokens=st.integers(1, 100),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
    world_size=st.integers(1, 5),
    shuffle=st.booleans(),
)
def test_any_plan_is_complete_equal_and_within_budget(
    lengths, max_tokens, seed, epoch, world_size, shuffle
):
    lengths = np.array(lengths, dtype=np.int64)
    if len(lengths) < world_size:
        with pytest.raises(DataError, match="cannot be shared among"):
            batches_per_epoch(lengths, max_tokens, seed, world_size, shuffle)
        return
    plans = [
        plan_epoch(lengths, max_tokens, seed, epoch, rank, world_size, shuffle)
        for rank in range(world_size)
    ]
    found = batches(plans)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    assert len({len(plan) for plan in plans}) == 1
    total = batches_per_epoch(lengths, max_tokens, seed, world_size, shuffle)
    assert len(found) == total
    assert all(len(batch) for batch in found)
    # Only where ranks cannot be served otherwise do two packs share a batch over budget.
    if world_size == 1:
        tokens = [lengths[batch].sum() for batch in found if len(batch) > 1]
        assert max(tokens, default=0) <= max_tokens


def test_packs_in_order_against_a_loop():
    for seed in range(5):
        lengths = protein_lengths(300, seed)
        expected, tokens = [[]], 0
        for index, length in enumerate(lengths):
            if expected[-1] and tokens + length > 2048:
                expected.append([])
                tokens = 0
            expected[-1].append(index)
            tokens += length
        indices, borders = packs_in_order(lengths, 2048)
        assert [piece.tolist() for piece in np.split(indices, borders[1:-1])] == expected


@pytest.mark.parametrize("count", [2000, 20_000])
def test_packs_are_well_filled(count):
    lengths = protein_lengths(count)
    for epoch in range(3):
        assert plan_epoch(lengths, 8192, epoch=epoch).fill >= 0.97


def test_similar_lengths_meet():
    lengths = protein_lengths(20_000)
    found = batches([plan_epoch(lengths, 8192)])
    near = [lengths[b] > 0.8 * lengths[b].max() for b in found]
    share = [lengths[b][n].sum() / lengths[b].sum() for b, n in zip(found, near, strict=True)]
    assert np.mean(share) > 0.9  # 0.22 without buckets


def test_epochs_and_seeds_differ_and_repeat():
    lengths = protein_lengths(2000)
    plans = {(s, e): plan_epoch(lengths, 8192, s, e) for s in range(2) for e in range(2)}
    texts = {str([b.tolist() for b in batches([plan])]) for plan in plans.values()}
    assert len(texts) == 4
    again = plan_epoch(lengths, 8192, 1, 1)
    assert np.array_equal(again.indices, plans[1, 1].indices)
    packs = [{tuple(sorted(b)) for b in batches([plans[0, e]])} for e in range(2)]
    assert len(packs[0] & packs[1]) < 5  # other company, not only another order
    first = [int(lengths[b].max()) for b in batches([plans[0, 0]])]
    assert first != sorted(first)
    assert first != sorted(first, reverse=True)


def test_all_epochs_have_as_many_batches():
    for count in (9, 40, 300, 3000):
        lengths = protein_lengths(count)
        for world_size in (1, 4):
            sampler = EpochBatchSampler(lengths, 4096, world_size=world_size)
            counts = {len(sampler.plan(epoch)) for epoch in range(25)}
            assert counts == {len(sampler)}


def test_a_giant_protein_is_a_batch_of_its_own():
    lengths = protein_lengths(500)
    lengths[123] = 35_002
    for shuffle in (True, False):
        found = batches([plan_epoch(lengths, 8192, shuffle=shuffle)])
        assert [123] in [batch.tolist() for batch in found]


def test_evaluation_keeps_the_stores_order():
    lengths = protein_lengths(500)
    plan = plan_epoch(lengths, 8192, seed=3, epoch=2, shuffle=False)
    assert plan.indices.tolist() == list(range(500))


def test_more_ranks_than_splitting_can_serve():
    # Three proteins of a batch each on two ranks: one batch must hold two of them.
    plans = [plan_epoch(np.array([90, 80, 70]), 100, rank=rank, world_size=2) for rank in (0, 1)]
    assert [len(plan) for plan in plans] == [1, 1]
    assert sorted(map(len, batches(plans))) == [1, 2]


def test_planning_is_fast():
    lengths = protein_lengths(600_000)
    start = time.perf_counter()
    plan_epoch(lengths, 8192, num_batches=10**5 // 2)
    assert time.perf_counter() - start < 3  # about 0.1 s: 60 million then take some 10 s


def specs(sampler):
    return [(epoch, tuple(indices)) for epoch, indices in sampler]


def test_the_sampler_resumes_in_one_epoch_only():
    sampler = EpochBatchSampler(protein_lengths(300), 4096, seed=1)
    sampler.set_epoch(2)
    whole = specs(sampler)
    assert len(whole) == len(sampler)
    assert {epoch for epoch, _ in whole} == {2}
    sampler.resume_at(2, 5)
    assert specs(sampler) == whole[5:]
    assert len(sampler) == len(whole)
    sampler.set_epoch(3)
    assert len(specs(sampler)) == len(whole)
    sampler.resume_at(2, len(whole))
    assert specs(sampler) == []


def test_bad_numbers_are_refused():
    lengths = protein_lengths(10)
    sampler = EpochBatchSampler(lengths, 4096)
    with pytest.raises(ValueError, match="cannot resume at batch 99"):
        sampler.resume_at(0, 99)
    with pytest.raises(ValueError, match="rank 2"):
        plan_epoch(lengths, 4096, rank=2, world_size=2)
    with pytest.raises(ValueError, match="must be positive"):
        plan_epoch(lengths, 0)
