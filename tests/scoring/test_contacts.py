"""Precision of contacts on hand-made maps, against sorting pairs one by one."""

import numpy as np
import pytest

from lcframework.data.contact_map import contact_map
from lcframework.scoring.contacts import precision_counts, precision_table


def by_hand(scores, contacts, divisor, separation):
    length = len(scores)
    pairs = [
        (scores[i][j], i, j)
        for i in range(length)
        for j in range(i + separation, length)
        if contacts[i][j] >= 0
    ]
    pairs.sort(key=lambda one: -one[0])
    top = pairs[: length // divisor]
    return sum(contacts[i][j] == 1 for _, i, j in top), len(top)


def test_a_map_of_ten_residues():
    contacts = np.zeros((10, 10), dtype=int)
    contacts[0, 6] = contacts[0, 9] = contacts[1, 7] = 1
    scores = np.zeros((10, 10))
    scores[0, 6], scores[2, 8], scores[0, 9], scores[0, 5] = 4, 3, 2, 9
    # separation 6: ten pairs; the two best (L/5) are (0, 6) right and (2, 8) wrong.
    assert precision_counts(scores, contacts, 5, 6) == (1, 2)
    # L/2: (0, 6), (2, 8), (0, 9), then two ties in order: (0, 7), (0, 8).
    assert precision_counts(scores, contacts, 2, 6) == (2, 5)
    assert precision_counts(scores, contacts, 1, 6) == (3, 10)
    assert precision_counts(scores, contacts, 1, 24) == (0, 0)
    contacts[2, 8] = -1  # unknown: not chosen
    assert precision_counts(scores, contacts, 5, 6) == (2, 2)


@pytest.mark.parametrize("divisor", [1, 2, 5])
@pytest.mark.parametrize("separation", [6, 12, 24])
def test_random_maps(divisor, separation):
    generator = np.random.default_rng(3)
    scores = generator.normal(size=(41, 41))
    contacts = generator.integers(-1, 2, (41, 41))
    assert precision_counts(scores, contacts, divisor, separation) == by_hand(
        scores, contacts, divisor, separation
    )


def test_the_table_knows_what_guessing_gives():
    contacts = np.zeros((30, 30), dtype=int)
    contacts[0, 29] = contacts[0, 6] = 1
    rows = precision_table(contacts.astype(float), contacts)
    assert [row["separation"] for row in rows] == [6, 12, 24]
    assert rows[0]["contacts"] == 2 and rows[2]["contacts"] == 1
    assert rows[0]["pairs"] == 24 * 25 // 2 and rows[0]["random"] == pytest.approx(2 / 300)
    assert rows[2]["P@L/5"] == pytest.approx(1 / 6)  # one contact among six chosen
    short = precision_table(np.zeros((5, 5)), np.zeros((5, 5)))
    assert short[0]["P@L"] is None and short[0]["random"] is None


def test_contacts_from_coordinates():
    places = np.array([[0, 0, 0], [7.9, 0, 0], [8, 0, 0], [np.nan] * 3])
    found = contact_map(places)
    assert found[0].tolist() == [1, 1, 0, -1]
    assert (found == found.T).all()


def test_bad_maps():
    with pytest.raises(ValueError, match="alike"):
        precision_counts(np.zeros((3, 3)), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="at least 1"):
        precision_counts(np.zeros((3, 3)), np.zeros((3, 3)), separation=0)
    with pytest.raises(ValueError, match="not a number"):
        precision_counts(np.full((8, 8), np.nan), np.zeros((8, 8)))
