"""The pictures by length show what the tables say, and leave nothing out silently."""

import pytest

from lcframework.callbacks.length_figures import _distance_figure, summary


def distance_rows(first):
    def row(end, distance, loss):
        numbers = {"loss": loss, "loss_low": loss and loss - 0.1, "loss_high": loss and loss + 0.1}
        return {"end": end, "distance": distance, "proteins": 30, **numbers}

    labels = ("0", "1", "2+")
    return [
        row(end, label, value)
        for end, losses in (("N", (first, 2.5, None)), ("C", (2.7, 2.6, None)))
        for label, value in zip(labels, losses, strict=True)
    ]


@pytest.mark.parametrize(("first", "apart"), [(0.1, True), (2.4, False), (None, False)])
def test_a_first_residue_far_below_is_written_instead_of_drawn(first, apart):
    axes = _distance_figure(distance_rows(first)).axes[0]
    texts = [one.get_text() for one in axes.texts]
    assert any("0.10, far below" in one for one in texts) == apart
    assert axes.get_ylim()[0] > 2.0
    assert texts.count("too few") == (2 if first is None else 1)


def test_the_summary_has_no_negative_zero():
    [line] = summary({"scores_by_length": [], "loss_by_context": [
        {"proteins_compared": "longer than this context", "context": 512, "proteins": 21,
         "difference": -1e-6, "difference_low": -2e-3, "difference_high": 1e-6}]})  # fmt: skip
    assert "0.0000 (-0.0020 to 0.0000), 21 proteins" in line
    assert "-0.0000" not in line
