import pytest

from lcframework.scoring.agreement import agreement


@pytest.mark.parametrize(
    ("answer", "dense", "want"),
    [([1, 2, 3], [1, 2, 3], 1.0), ([1, 2, 9, 4], [1, 2, 3, 4], 0.5), ([1, 2], [1, 2, 3, 4], 0.5),
     ([1, 2, 3, 4], [1], 0.25), ([5], [6], 0.0), ([], [1], 0.0), ([], [], 1.0)],
)  # fmt: skip
def test_share_before_two_answers_part(answer, dense, want):
    assert agreement(answer, dense) == want
