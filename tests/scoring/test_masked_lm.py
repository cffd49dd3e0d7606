"""Corpus scores by hand; the metric against a loop over proteins, also over two ranks."""

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from lcframework.scoring.masked_lm import accuracy_per_token, score_masked_lm, sum_by_protein
from lcframework.scoring.masked_lm_metric import MaskedLMMetric


def test_scores_by_hand():
    score = score_masked_lm([2.0, 6.0, 0.0], [1, 3, 0], [1, 1, 0], lengths=[10, 30, 7])
    assert score.loss == pytest.approx(2.0)  # 8 nats over 4 residues, not the mean of 2 and 2
    assert score.perplexity.value == pytest.approx(np.exp(2.0))
    assert score.accuracy.value == pytest.approx(0.5)
    assert (score.perplexity.n, score.accuracy.n) == (2, 2)
    assert (score.residues, score.residues_scored) == (40, 4)


def test_uniform_guess_has_perplexity_20_without_width():
    counts = np.array([3, 8, 1])
    score = score_masked_lm(counts * np.log(20), counts, [0, 1, 1], lengths=[50, 50, 50])
    assert score.perplexity.value == pytest.approx(20.0)
    assert score.perplexity.low == pytest.approx(20.0)
    assert score.accuracy.low < score.accuracy.value < score.accuracy.high


@pytest.mark.parametrize(
    ("scored", "correct", "lengths", "message"),
    [
        ([2], [3], [9], "3 right of 2"),
        ([9], [3], [8], "9 scored of 8"),
        ([1, 1], [1], [5], "alike"),
    ],
)
def test_impossible_counts(scored, correct, lengths, message):
    with pytest.raises(ValueError, match=message):
        score_masked_lm([1.0] * len(scored), scored, correct, lengths)


def test_accuracy_per_token_by_hand():
    confusion = [[0, 0, 0, 0], [0, 6, 1, 3], [0, 0, 2, 0], [1, 1, 0, 0]]
    rows = accuracy_per_token(confusion, ["<cls>", "L", "A", "G"])
    assert rows == [
        {"token": "L", "n": 10, "accuracy": 0.6, "most_confused_with": "G", "confused_share": 0.3},
        {"token": "A", "n": 2, "accuracy": 1.0, "most_confused_with": None, "confused_share": 0.0},
        {
            "token": "G",
            "n": 2,
            "accuracy": 0.0,
            "most_confused_with": "<cls>",
            "confused_share": 0.5,
        },
    ]
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        accuracy_per_token(confusion, ["a", "b", "c"])


def test_sum_by_protein():
    sums, counts = sum_by_protein([1.0, 2.0, 4.0], [2, 0, 2], n_proteins=4)
    assert sums.tolist() == [2.0, 0.0, 5.0, 0.0]
    assert counts.tolist() == [1, 0, 2, 0]


def make_batch(ids, seed):
    """Random logits over a padded vocabulary; the scored residues of the proteins interleaved."""
    generator = torch.Generator().manual_seed(seed)
    m = 7 * len(ids)
    return {
        "logits": torch.randn(m, 40, generator=generator) * 3,
        "targets": torch.randint(4, 24, (m,), generator=generator),
        "segment_of": torch.randint(0, len(ids), (m,), generator=generator),
        "sequence_ids": torch.tensor(ids),
        "lengths": torch.tensor(ids) * 10 + 50,
    }


def slow_scores(batches):
    """Per protein, one residue at a time, in float64; the first appearance of an id counts."""
    proteins, confusion = {}, np.zeros((33, 33), int)
    for batch in batches:
        for place, name in enumerate(batch["sequence_ids"].tolist()):
            if name in proteins:
                continue
            nll, scored, right = 0.0, 0, 0
            for index in (batch["segment_of"] == place).nonzero()[:, 0].tolist():
                logits = batch["logits"][index, :33].double()
                true, best = int(batch["targets"][index]), int(logits.argmax())
                nll += float(logits.logsumexp(0) - logits[true])
                scored, right = scored + 1, right + (true == best)
                confusion[true, best] += 1
            proteins[name] = (int(batch["lengths"][place]), nll, scored, right)
    return proteins, confusion


def assert_scores_equal(scores, batches):
    proteins, confusion = slow_scores(batches)
    assert scores.sequence_ids.tolist() == sorted(proteins)
    expected = [proteins[name] for name in sorted(proteins)]
    lengths, nll, scored, right = zip(*expected, strict=True)
    assert scores.lengths.tolist() == list(lengths)
    np.testing.assert_allclose(scores.nll_sum, nll, rtol=1e-6)
    assert scores.n_scored.tolist() == list(scored)
    assert scores.n_correct.tolist() == list(right)
    np.testing.assert_array_equal(scores.confusion, confusion)


def test_metric_equals_a_loop_over_proteins():
    batches = [make_batch([4, 0, 9], 0), make_batch([2], 1), make_batch([7, 3, 1, 5], 2)]
    metric = MaskedLMMetric()
    for batch in batches:
        metric.update(**batch)
    assert_scores_equal(metric.compute(), batches)


def test_metric_drops_repeated_proteins():
    batches = [make_batch([4, 0, 9], 0), make_batch([0, 2, 4], 1), make_batch([9], 2)]
    metric = MaskedLMMetric()
    for batch in batches:
        metric.update(**batch)
    scores = metric.compute()
    assert scores.sequence_ids.tolist() == [0, 2, 4, 9]
    assert_scores_equal(scores, batches)
    metric.reset()
    metric.update(**batches[1])
    assert_scores_equal(metric.compute(), batches[1:2])


def test_metric_with_one_protein_keeps_arrays():
    metric = MaskedLMMetric()
    batch = make_batch([3], 0)
    metric.update(**batch)
    scores = metric.compute()
    assert scores.nll_sum.shape == (1,)
    found = score_masked_lm(scores.nll_sum, scores.n_scored, scores.n_correct, scores.lengths)
    assert found.perplexity.n == 1


def test_metric_keeps_proteins_without_scored_residues():
    batch = make_batch([3, 8], 0)
    batch["segment_of"].zero_()
    metric = MaskedLMMetric()
    metric.update(**batch)
    assert metric.compute().n_scored.tolist() == [14, 0]


def test_metric_refuses_shapes_that_do_not_fit():
    batch = make_batch([3, 8], 0)
    with pytest.raises(ValueError, match="expected logits"):
        MaskedLMMetric().update(**{**batch, "lengths": batch["lengths"][:1]})


RANK_BATCHES = [[make_batch([4, 0, 9], 0), make_batch([2], 1)], [make_batch([9, 6], 2)], []]


def _score_on_rank(rank, world_size, address, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=world_size
    )
    metric = MaskedLMMetric()
    for batch in RANK_BATCHES[rank]:
        metric.update(**batch)
    queue.put(metric.compute())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*compute.*before.*update")
def test_metric_over_ranks_of_which_one_saw_nothing(tmp_path):
    context = mp.get_context("spawn")
    queue = context.Queue()
    arguments = (3, f"file://{tmp_path / 'rendezvous'}", queue)
    processes = [context.Process(target=_score_on_rank, args=(r, *arguments)) for r in range(3)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    for scores in results:
        assert_scores_equal(scores, [batch for batches in RANK_BATCHES for batch in batches])
