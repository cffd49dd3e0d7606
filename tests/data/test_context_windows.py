"""Windows of a masked protein: where they lie, what they show, that nothing but reach differs."""

import numpy as np
import pytest
import torch

from lcframework.data.alphabet import CLS_ID, EOS_ID
from lcframework.data.batch import PackedProteins
from lcframework.data.context_windows import (
    cut_windows,
    pack_windows,
    target_starts,
    window_start,
)


def pack_of(lengths):
    """Residues are numbered 100, 101, ... through the pack; every third one is scored."""
    tokens, labels, cu = [], [], [0]
    for length in lengths:
        own = [CLS_ID, *range(100 + len(tokens), 100 + len(tokens) + length), EOS_ID]
        labels += [-100] + [5 if i % 3 == 0 else -100 for i in range(length)] + [-100]
        tokens += own
        cu.append(len(tokens))
    return PackedProteins(
        torch.tensor(tokens),
        torch.tensor(labels),
        torch.tensor(cu, dtype=torch.int32),
        max(lengths) + 2,
        torch.arange(len(lengths)),
    )


def test_window_start_by_hand():
    # 100 residues, a stretch of 10 from 40 on: its middle is 45.
    assert window_start(100, 40, 10, 20) == 35
    assert window_start(100, 0, 10, 20) == 0
    assert window_start(100, 90, 10, 20) == 80
    assert window_start(100, 40, 10, 100) == 0


@pytest.mark.parametrize("span", [7, 8])
def test_windows_hold_their_stretch_and_one_another(span):
    for length in (40, 41):
        for target in range(length - span + 1):
            before = (target, target + span)
            for width in range(span, length + 1):
                start = window_start(length, target, span, width)
                assert 0 <= start <= before[0]
                assert before[1] <= start + width <= length
                before = (start, start + width)


def test_targets_are_spread_apart_and_follow_from_the_seed():
    seen = set()
    for protein in range(200):
        starts = target_starts(100, protein, span=10, count=3)
        assert len(starts) == 3
        for part, start in enumerate(starts):
            assert part * 100 // 3 <= start <= (part + 1) * 100 // 3 - 10
        seen.add(tuple(starts))
    assert len(seen) > 150
    assert target_starts(100, 7, 10, 3) == target_starts(100, 7, 10, 3)
    assert target_starts(100, 7, 10, 3) != target_starts(100, 7, 10, 3, seed=1)
    assert len(target_starts(25, 0, span=10, count=3)) == 2  # a third would overlap
    with pytest.raises(ValueError, match="in a protein of 9"):
        target_starts(9, 0, 10, 1)


def test_windows_show_what_the_protein_shows():
    batch = pack_of([30, 60])
    scored_T, windows = cut_windows(
        batch, 1, row=4, contexts=(22, 42, 62, 82), span=9, count=1, seed=3
    )
    [start] = target_starts(60, 1, 9, 1, seed=3)
    first = 32 + 1
    at = np.flatnonzero(scored_T.numpy())
    expected = [first + i for i in range(start, start + 9) if i % 3 == 0]
    assert at.tolist() == expected
    # A window of 62 tokens is the whole protein, nothing to compare; 82 tokens exceed it.
    assert [(window.row, window.context) for window in windows] == [(4, 0), (4, 1)]
    for window, size in zip(windows, (22, 42), strict=True):
        tokens = window.tokens.tolist()
        assert len(tokens) == len(window.labels) == size
        assert (tokens[0], tokens[-1]) == (CLS_ID, EOS_ID)
        assert tokens[1:-1] == list(range(tokens[1], tokens[1] + size - 2))
        chosen = window.labels != -100
        assert window.tokens[chosen].tolist() == batch.tokens[at].tolist()
        assert (window.labels[chosen] == 5).all()


def test_a_stretch_without_scored_residues_has_no_windows():
    batch = pack_of([60])
    batch.labels.fill_(-100)
    scored_T, windows = cut_windows(batch, 0, 0, (22,), span=9, count=2)
    assert not scored_T.any()
    assert windows == []


def test_packing_windows():
    batch = pack_of([60])
    _, windows = cut_windows(batch, 0, 0, (22, 42), span=9, count=2)
    pack = pack_windows(windows)
    assert pack.cu_seqlens.tolist() == [0, 22, 64, 86, 128]
    assert pack.cu_seqlens.dtype == torch.int32
    assert pack.max_len == 42
    assert pack.tokens[22:64].equal(windows[1].tokens)
