"""Tables of methods: paired with dense, weighted by tokens, and claims that are not overdone."""

import pytest

from lcframework.scoring.method_table import (
    claim_rows,
    layer_table,
    method_rows,
    method_table,
    run_counts,
)
from lcframework.scoring.paired import PairedTokens, summarize
from lcframework.scoring.paired_sums import PairedSums, mean_over_documents, summarize_sums


def reading(score, kl=None, tokens=2, budget=0.2, gold=None):
    own = None if kl is None else {"tokens": tokens, "kl": kl, "agree": 1, "gold": 0.0}
    gold = None if gold is None else {"tokens": 4, "kl": 0.4, "agree": 4, "gold": gold}
    return {"score": score, "budget": budget, "kept_question": 0.3, "kept_layers": [0.1, budget],
            "own": own, "gold": gold}  # fmt: skip


def item(n, document, dense, other, suite="a"):
    return {"suite": suite, "task": "t", "key": f"{n}", "document": document,
            "readings": {"dense": reading(dense, budget=1.0), "m": other}}  # fmt: skip


ITEMS = [
    item(0, "d0", 1.0, reading(0.5, kl=1.0, tokens=2, gold=-0.4)),
    item(1, "d0", 0.0, reading(0.0, kl=0.0, tokens=8, gold=-0.8)),
    item(2, "d1", 1.0, reading(None, kl=2.0, tokens=5)),
    item(0, "d0", 0.5, reading(1.0, kl=0.0, tokens=5), suite="b"),
]


def test_the_table_by_hand():
    table = {(row["suite"], row["method"]): row for row in method_table(method_rows(ITEMS))}
    assert list(table) == [(s, m) for s in ("a", "b", "all") for m in ("dense", "m")]
    row = table["a", "m"]
    assert row["items"] == 3 and row["documents"] == 2 and row["scored"] == 2
    assert row["score"] == 25.0 and row["difference"] == -25.0  # against the scored items' dense
    assert row["kl"] == pytest.approx(3.0 / 15) and row["tokens"] == 15
    assert row["agreement"] == pytest.approx(3 / 15)
    assert row["gold"] == pytest.approx(-1.2 / 8) and row["gold_tokens"] == 8
    assert row["gold_kl"] == pytest.approx(0.1)
    dense = table["a", "dense"]
    assert dense["kl"] is None and dense["difference"] is None and dense["budget"] == 1
    assert dense["score"] == pytest.approx(200 / 3)
    # d0 of one benchmark is not d0 of another.
    assert table["all", "m"]["documents"] == 3
    assert table["all", "m"]["difference"] == pytest.approx((-50 + 0 + 50) / 3)
    assert len(method_table(method_rows(ITEMS[:3]))) == 2  # one benchmark: no rows over all


def test_layers_are_means_over_items():
    rows = layer_table(method_rows(ITEMS), [4, 9])
    assert [(row["method"], row["layer"]) for row in rows] == [
        ("dense", 4), ("dense", 9), ("m", 4), ("m", 9),
    ]  # fmt: skip
    assert rows[3]["kept"] == pytest.approx(0.2) and rows[1]["kept"] == 1


def test_counts():
    items = [
        {"suite": "a", "task": "t", "state": one} for one in ("", "too long", "", "too long", "x")
    ]
    assert run_counts(items) == [
        {"suite": "a", "task": "t", "items": 5, "run": 2, "not_run": "2 too long; 1 x"}
    ]


def verdicts(dense, other, loss, measure="difference"):
    items = [
        item(n, f"d{n}", a, reading(b, kl=0.1, gold=4 * (b - a)))
        for n, (a, b) in enumerate(zip(dense, other, strict=True))
    ]
    rows = claim_rows(method_table(method_rows(items)), [("us", "m", measure, loss)])
    return [row["verdict"] for row in rows]


def test_claims_hold_fail_or_cannot_be_tested():
    half = [1.0, 0.0] * 10
    assert verdicts(half, [0.5, 0.0] * 10, 5.0) == ["fails"]
    assert verdicts(half, [1.0, 0.1] * 10, 5.0) == ["holds"]
    assert verdicts(half, [*half[:-2], 0.0, 1.0], 5.0) == ["not testable here"]  # wide
    assert verdicts(half[:8], [0.5, 0.0] * 4, 5.0) == ["not testable here"]  # few documents
    assert verdicts([0.0] * 20, [0.0] * 20, 5.0) == ["not testable here"]  # nothing to lose
    # No answer changed among 20 documents: 15% of all may change yet; among 100, 3%.
    assert verdicts(half, half, 5.0) == ["not testable here"]
    assert verdicts(half * 5, half * 5, 5.0) == ["holds"]
    assert verdicts(half, [one - 0.5 for one in half], 0.1, "gold") == ["fails"]
    assert verdicts(half, half, 0.1, "gold") == ["holds"]


def test_a_method_that_was_not_run_has_no_verdict():
    table = method_table(method_rows(ITEMS))
    assert claim_rows(table, [("us", "other", "difference", 1.0)]) == []


def test_sums_say_what_tokens_say():
    import numpy as np

    generator = np.random.default_rng(0)
    parts = [
        PairedTokens(generator.random(n), generator.random(n) < 0.7, generator.normal(size=n),
                     generator.random(n))
        for n in (3, 1, 7, 4)
    ]  # fmt: skip
    documents = ["a", "b", "a", "c"]
    want = summarize(parts, documents)
    assert summarize_sums([PairedSums.of(one) for one in parts], documents) == want
    plain = [PairedSums.of(one).as_dict() for one in parts]
    assert summarize_sums(plain, documents) == want
    for bad in ([], plain[:2]):
        with pytest.raises(ValueError, match="one for each"):
            summarize_sums(bad, documents)
    broken = [*plain[:3], plain[3] | {"kl": float("inf")}]
    with pytest.raises(ValueError, match="finite"):
        summarize_sums(broken, documents)
    assert mean_over_documents([1.0, 2.0, 6.0], ["a", "a", "b"]).value == 3
    with pytest.raises(ValueError, match="one for each"):
        mean_over_documents([1.0], [])
