"""Every measure of a question against hand-worked values; their means; the torchmetrics metric."""

import json
from pathlib import Path

import pytest

from lcframework.scoring.focused import MEASURES, Answered, measure_table, measures
from lcframework.scoring.focused_metric import AnswerMetric
from lcframework.scoring.qasper import Reference, qasper_scores

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures/focused/scores.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["why"][:40])
def test_golden_scores(case):
    assert measures(Answered(**case["given"])) == pytest.approx(case["wanted"])


def test_every_suite_has_a_golden_score():
    assert {case["given"]["suite"] for case in GOLDEN} == set(MEASURES)
    with pytest.raises(ValueError, match="'nothing' has no measures"):
        measures(Answered("nothing", "x", ["x"]))


def qasper_rows():
    found = []
    for number, case in enumerate(one for one in GOLDEN if one["given"].get("types")):
        one = Answered(**case["given"])
        found.append((one, {"suite": "qasper", "task": "qasper", "document": str(number),
                            "measures": measures(one)}))  # fmt: skip
    return found


def test_means_are_those_of_the_official_evaluator():
    """Seven questions, one without answer, through both."""
    rows = qasper_rows()
    references = {
        str(n): [Reference(*three) for three in zip(
            one.references, one.types, map(tuple, one.evidence), strict=True)]
        for n, (one, _) in enumerate(rows)
    }  # fmt: skip
    given = {str(n): (one.prediction, one.predicted_evidence) for n, (one, _) in enumerate(rows)
             if one.prediction is not None}  # fmt: skip
    table = {row["measure"]: row for row in measure_table([row for _, row in rows])}
    for text_only, name in ((False, "evidence_f1"), (True, "evidence_f1_text")):
        official = qasper_scores(given, references, text_only)
        assert official["Missing predictions"] == 1
        assert table[name]["value"] == pytest.approx(100 * official["Evidence F1"])
    assert table["answer_f1"]["value"] == pytest.approx(100 * official["Answer F1"])
    for kind in ("extractive", "abstractive", "boolean", "none"):
        wanted = 100 * official[f"Answer F1 {kind}"]
        assert table[f"answer_f1_{kind}"]["value"] == pytest.approx(wanted)
    assert table["answer_f1"]["n"] == 7 and table["answer_f1_none"]["n"] == 2


def test_quality_has_hard_easy_and_all():
    rows = [
        {"suite": "quality", "task": f"quality {kind}", "document": document,
         "measures": {"by_letter": right, "gold_nats": 0.5}}
        for kind, document, right in (("hard", "a", 1), ("hard", "a", 0), ("easy", "b", 1))
    ]  # fmt: skip
    found = {(row["task"], row["measure"]): row for row in measure_table(rows)}
    assert found["quality hard", "by_letter"]["value"] == 50
    assert found["quality easy", "by_letter"]["value"] == 100
    assert found["all", "by_letter"]["value"] == pytest.approx(200 / 3)
    assert found["all", "by_letter"]["n"] == 3 and found["all", "by_letter"]["documents"] == 2
    assert found["all", "gold_nats"]["unit"] == "nats per token"
    assert found["all", "gold_nats"]["value"] == 0.5


def test_the_metric_sums_over_ranks():
    """Two ranks of unequal size: the mean over questions, not the mean of means."""
    answers = [one for one, _ in qasper_rows()]
    other = AnswerMetric("qasper")
    for one in answers[:2]:
        other.update(one)
    parts = iter([])

    def gather(tensor, group=None):
        return [tensor, next(parts)]

    here = AnswerMetric("qasper", dist_sync_fn=gather, distributed_available_fn=lambda: True)
    for one in answers[2:]:
        here.update(one)
    parts = iter([other.sums_M, other.counts_M])
    table = measure_table([row for _, row in qasper_rows()])
    wanted = {row["measure"]: row["value"] / (100 if row["unit"] == "%" else 1) for row in table}
    assert here.compute() == pytest.approx(wanted)
    here.reset()
    parts = iter([other.sums_M * 0, other.counts_M * 0])
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert here.compute() == {}
    with pytest.raises(ValueError, match="'nqd' among those of 'qasper'"):
        here.update(Answered("nqd", "x", ["x"]))
    with pytest.raises(ValueError, match="no measures"):
        AnswerMetric("nothing")
