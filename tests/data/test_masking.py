"""Masks: their statistics, what they may touch, and that they depend on the protein alone."""

import numpy as np
import pytest
import torch
from fake_proteins import random_proteins, write_fasta

from lcframework.data.alphabet import CLS_ID, EOS_ID, MASK_ID, STANDARD_IDS, encode
from lcframework.data.batching import plan_epoch
from lcframework.data.counter_random import Stream, _mix_int, draw, permutation, stream_key
from lcframework.data.masking import MaskingRule, choose_positions, crop_starts, mask_pack
from lcframework.data.packed_dataset import PackedDataset
from lcframework.data.token_store import TokenStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masking")
    proteins = [*random_proteins(200, 1, 120), "XXXXXXXX", "MXBZUOX", "W"]
    return TokenStore.build(write_fasta(folder / "a.fasta", proteins), folder / "store")


def splitmix64(state, count):
    """The published generator, one number at a time."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        numbers.append(z ^ (z >> 31))
    return numbers


def test_draws_are_splitmix64():
    # First outputs for seed 1234567, as printed in the generator's public test vectors.
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]
    assert draw(1234567, np.arange(50)).tolist() == splitmix64(1234567, 50)
    assert _mix_int(0) == 0


def test_streams_differ_and_permutations_are_complete():
    keys = {
        stream_key(seed, epoch, stream)
        for seed in range(20)
        for epoch in range(20)
        for stream in Stream
    }
    assert len(keys) == 20 * 20 * len(Stream)
    orders = [permutation(stream_key(0, epoch, Stream.CROP), 1000) for epoch in range(2)]
    assert sorted(orders[0].tolist()) == list(range(1000))
    assert (orders[0] != orders[1]).mean() > 0.9


def test_masking_statistics():
    lengths = np.full(400, 502)
    generator = np.random.default_rng(0)
    tokens = generator.choice(STANDARD_IDS, lengths.sum())
    starts = np.cumsum(lengths) - lengths
    tokens[starts], tokens[starts + 501] = CLS_ID, EOS_ID
    positions = np.tile(np.arange(502), 400)
    key = stream_key(0, 0, Stream.TRAIN_MASK)
    masked, labels = mask_pack(tokens, starts, positions, np.arange(400), MaskingRule(), key)
    scored = labels >= 0
    count = scored.sum()
    assert count / (400 * 500) == pytest.approx(0.15, abs=0.003)  # 3.8 standard errors
    assert (labels[scored] == tokens[scored]).all()
    assert (masked[~scored] == tokens[~scored]).all()
    assert np.isin(labels[scored], STANDARD_IDS).all()
    shown = masked[scored]
    assert (shown == MASK_ID).mean() == pytest.approx(0.8, abs=0.009)
    kept = (shown == tokens[scored]).mean()
    assert kept == pytest.approx(0.1 + 0.1 / 20, abs=0.007)
    random = shown[(shown != MASK_ID) & (shown != tokens[scored])]
    share = np.bincount(random, minlength=24)[4:24] / len(random)
    assert len(random) / count == pytest.approx(0.1 * 19 / 20, abs=0.007)
    assert abs(share - 0.05).max() < 0.017
    per_position = scored.reshape(400, 502).mean(axis=0)
    assert per_position[[0, 501]].sum() == 0
    assert per_position[1:501].std() == pytest.approx((0.15 * 0.85 / 400) ** 0.5, rel=0.15)


@pytest.mark.parametrize(
    ("rule", "mask", "same"),
    [
        (MaskingRule(1.0, 1.0, 0.0), 1.0, 0.0),
        (MaskingRule(1.0, 0.0, 0.0), 0.0, 1.0),
        (MaskingRule(1.0, 0.0, 1.0), 0.0, 0.05),
    ],
)
def test_extreme_shares(store, rule, mask, same):
    batch = PackedDataset(store, rule)[0, np.arange(200)]
    scored = batch.labels >= 0
    assert scored.sum() == batch.num_tokens - 2 * 200
    shown, truth = batch.tokens[scored], batch.labels[scored]
    assert (shown == MASK_ID).double().mean() == mask
    assert (shown == truth).double().mean() == pytest.approx(same, abs=0.01)


def test_only_standard_residues_are_scored_and_every_protein_counts(store):
    ids = np.arange(len(store))
    for epoch in range(3):
        batch = PackedDataset(store)[epoch, ids]
        scored = (batch.labels >= 0).numpy()
        truth = batch.labels.numpy()[scored]
        assert np.isin(truth, STANDARD_IDS).all()
        counts = np.add.reduceat(scored, batch.cu_seqlens.numpy()[:-1], dtype=int)
        assert counts[200] == 0  # nothing but X: there is nothing to predict
        assert (np.delete(counts, 200) >= 1).all()
        assert counts[202] == 1


def test_choose_positions_against_a_loop():
    generator = np.random.default_rng(1)
    for probability in (0.02, 0.3, 1.0):
        lengths = generator.integers(1, 9, 50)
        starts = np.cumsum(lengths) - lengths
        bits = generator.integers(0, 2**64, lengths.sum(), dtype=np.uint64)
        eligible = generator.random(lengths.sum()) < 0.7
        expected = []
        for start, length in zip(starts, lengths, strict=True):
            inside = [i for i in range(start, start + length) if eligible[i]]
            chosen = [i for i in inside if int(bits[i]) < probability * 2**64]
            expected += chosen or ([min(inside, key=lambda i: bits[i])] if inside else [])
        found = choose_positions(bits, eligible, starts, probability)
        assert found.tolist() == expected


def by_protein(batches):
    """Masked tokens and labels of each protein, cut out of its pack."""
    found = {}
    for batch in batches:
        borders = batch.cu_seqlens.tolist()
        for number, index in enumerate(batch.sequence_ids.tolist()):
            piece = slice(borders[number], borders[number + 1])
            assert index not in found
            found[index] = (batch.tokens[piece].tolist(), batch.labels[piece].tolist())
    return found


def test_masks_do_not_depend_on_packing_or_ranks(store):
    dataset = PackedDataset(store, seed=5)
    alone = by_protein(dataset[2, np.array([i])] for i in range(len(store)))
    for max_tokens, world_size in ((64, 1), (500, 3), (10**6, 1)):
        batches = []
        for rank in range(world_size):
            plan = plan_epoch(
                dataset.token_lengths(), max_tokens, 9, 4, rank=rank, world_size=world_size
            )
            batches += [dataset[2, plan[batch]] for batch in range(len(plan))]
        assert by_protein(batches) == alone


def test_masks_differ_by_epoch_seed_split_and_protein(store):
    ids = np.arange(len(store))
    reference = PackedDataset(store)[0, ids].labels
    for other in (
        PackedDataset(store)[1, ids],
        PackedDataset(store, seed=1)[0, ids],
        PackedDataset(store, stream=Stream.VALID_MASK)[0, ids],
    ):
        same = ((other.labels >= 0) & (reference >= 0)).sum() / (reference >= 0).sum()
        assert same < 0.25
    fixed = PackedDataset(store, fixed_epoch=0)
    assert torch.equal(fixed[7, ids].labels, reference)


def test_twins_get_different_masks(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text("".join(f">p{i}\n{'MKVLA' * 40}\n" for i in range(2)))
    batch = PackedDataset(TokenStore.build(path, tmp_path / "store"))[0, np.arange(2)]
    first, second = batch.labels.reshape(2, -1)
    assert not torch.equal(first, second)


def test_a_pack_holds_whole_proteins(store):
    ids = np.array([3, 201, 202, 0])
    batch = PackedDataset(store, MaskingRule(1.0, 0.0, 0.0))[0, ids]
    assert batch.tokens.dtype == batch.labels.dtype == batch.sequence_ids.dtype == torch.int64
    assert batch.cu_seqlens.dtype == torch.int32
    borders = batch.cu_seqlens.tolist()
    assert borders[0] == 0
    assert borders[-1] == batch.num_tokens
    assert batch.max_len == max(np.diff(borders))
    assert batch.num_sequences == 4
    for number, index in enumerate(ids):
        tokens = batch.tokens[borders[number] : borders[number + 1]].tolist()
        assert tokens == [CLS_ID, *store.residues(index), EOS_ID]
    assert batch.tokens[borders[1] : borders[2]].tolist()[1:-1] == encode("MXBZUOX").tolist()


def test_crops_are_random_windows_that_keep_their_masks(store):
    dataset, whole = PackedDataset(store, max_length=20), PackedDataset(store)
    ids = np.flatnonzero(store.lengths > 40)
    starts = []
    for epoch in range(30):
        batch = dataset[epoch, ids]
        assert (np.diff(batch.cu_seqlens.numpy()) == 20).all()
        first = crop_starts(store.lengths[ids], ids, 20, 0, epoch)
        starts.append(first / (store.lengths[ids] - 18))
        full = whole[epoch, ids]
        for number in range(5):
            cut = batch.labels[20 * number + 1 : 20 * number + 19]
            begin = int(full.cu_seqlens[number]) + 1 + int(first[number])
            expected = full.labels[begin : begin + 18]
            assert torch.equal(cut, expected) or (expected < 0).all()
    assert np.concatenate(starts).max() <= 1
    assert np.concatenate(starts).mean() == pytest.approx(0.5, abs=0.02)
    assert dataset.token_lengths().max() == 20
    short = np.flatnonzero(store.lengths <= 18)
    assert torch.equal(dataset[3, short].tokens, whole[3, short].tokens)


def test_bad_numbers_are_refused(store):
    with pytest.raises(ValueError, match="mask_probability"):
        MaskingRule(0.0)
    with pytest.raises(ValueError, match="add up to at most 1"):
        MaskingRule(0.15, 0.8, 0.3)
    with pytest.raises(ValueError, match="max_length counts <cls> and <eos>"):
        PackedDataset(store, max_length=2)
