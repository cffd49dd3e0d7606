"""Linear probes of a downstream task: what features of any kind hold, fitted in closed form.

Legend: L residues of a protein, p features, C classes.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lcframework.data.alphabet import STANDARD_IDS
from lcframework.data.contact_map import UNKNOWN
from lcframework.data.tape.proteins import IGNORED, TapeProtein, contact_labels
from lcframework.data.tape.tasks import CLASS, CONTACT, RESIDUE, VALUE, TapeTaskSpec
from lcframework.scoring.contacts import precision_counts
from lcframework.scoring.intervals import Interval
from lcframework.scoring.tape.features import one_hot, one_hot_windows, word_frequencies
from lcframework.scoring.tape.metrics import ratio_score, spearman_score
from lcframework.scoring.tape.ridge import PENALTIES, LinearMap, RidgeProbe

Proteins = Sequence[TapeProtein]
Features = Callable[[Proteins], Iterator[NDArray[np.floating]]]
"""Yields one array per protein: (L, p) for a class per residue, else (1, p)."""
WINDOW, WORDS, LETTERS, SEPARATION = (
    "one-hot window of 15, linear probe",
    "words of 1 and 2 letters, linear probe",
    "one-hot sequence, linear probe",
    "frequency of contacts by separation",
)
MOST_ONE_HOT = 400
"""Residues up to which sequences of equal length are also given letter by letter."""


def linear_probe(
    spec: TapeTaskSpec, features: Features, train: Proteins, valid: Proteins, tests: dict
) -> dict[str, Interval]:
    """Score a probe of `features` on each test split; the penalty is chosen on valid.

    Args:
        spec: a task with classes or values.
        features: of proteins.
        train: where it is fitted.
        valid: where the penalty is chosen.
        tests: name -> proteins.

    Returns:
        Name -> score.

    Raises:
        ValueError: the task is contacts, or no training residue is scored.
    """
    if spec.kind == CONTACT:
        raise ValueError("contacts have no linear probe")
    classes = _classes(spec, [*train, *valid, *(one for some in tests.values() for one in some)])
    rows = (
        (found[chosen], target)
        for found, (chosen, target) in zip(
            features(train), (_targets(spec, one, classes) for one in train), strict=True
        )
        if len(target)
    )
    probe = RidgeProbe(rows)
    candidates = [probe.solve(penalty) for penalty in PENALTIES]
    scores = [
        np.nan_to_num(one.value, nan=-2.0) for one in _scores(spec, candidates, features, valid)
    ]
    best = candidates[int(np.argmax(scores))]
    return {name: _scores(spec, [best], features, proteins)[0] for name, proteins in tests.items()}


def _classes(spec: TapeTaskSpec, proteins: Proteins) -> int:
    if spec.kind == CLASS and not spec.classes:
        return 1 + max(int(one.label) for one in proteins)
    return spec.classes or 1


def _targets(
    spec: TapeTaskSpec, protein: TapeProtein, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which rows of the protein's features are fitted, and (rows, outputs) what they should say."""
    if spec.kind == VALUE:
        return np.zeros(1, dtype=np.int64), np.array([[protein.label]])
    labels = np.atleast_1d(np.asarray(protein.label))
    chosen = np.flatnonzero(labels != IGNORED)
    return chosen, np.eye(classes)[labels[chosen]]


def _scores(
    spec: TapeTaskSpec, probes: Sequence[LinearMap], features: Features, proteins: Proteins
) -> list[Interval]:
    pairs: list[list[tuple[float, float]]] = [[] for _ in probes]
    for protein, found in zip(proteins, features(proteins), strict=True):
        labels = np.atleast_1d(np.asarray(protein.label))
        for own, probe in zip(pairs, probes, strict=True):
            said = probe.predict(found)
            if spec.kind == VALUE:
                own.append((float(said[0, 0]), float(protein.label)))
            else:
                scored = labels != IGNORED
                right = (said.argmax(-1) == labels) & scored
                own.append((float(right.sum()), float(scored.sum())))
    score = spearman_score if spec.kind == VALUE else ratio_score
    return [score([one for one, _ in own], [other for _, other in own]) for own in pairs]


def baselines(
    spec: TapeTaskSpec, train: Proteins, valid: Proteins, tests: dict[str, list[TapeProtein]]
) -> dict[str, dict[str, Interval]]:
    """What the task's score is without a network.

    Returns:
        Name of the baseline -> test split -> score.
    """
    if spec.kind == CONTACT:
        return {SEPARATION: _by_separation(train, tests)}
    kinds: dict[str, Callable[[NDArray[np.int64]], NDArray[np.floating]]] = {}
    if spec.kind == RESIDUE:
        kinds[WINDOW] = one_hot_windows
    else:
        kinds[WORDS] = lambda residues: word_frequencies(residues)[None]
        every = [*train, *valid, *(one for some in tests.values() for one in some)]
        lengths = {len(one.tokens) for one in every}
        if spec.kind == VALUE and len(lengths) == 1 and max(lengths) <= MOST_ONE_HOT:
            kinds[LETTERS] = lambda residues: one_hot(residues).reshape(1, -1)

    def features_by(kind: str) -> Features:
        return lambda proteins: (kinds[kind](_numbers(one)) for one in proteins)

    return {kind: linear_probe(spec, features_by(kind), train, valid, tests) for kind in kinds}


def _numbers(protein: TapeProtein) -> NDArray[np.int64]:
    """Standard residues as 0 to 19."""
    return protein.tokens.astype(np.int64) - int(STANDARD_IDS[0])


def _by_separation(train: Proteins, tests: dict[str, list[TapeProtein]]) -> dict[str, Interval]:
    """Pairs ranked by how often residues so far apart touch in training proteins."""
    every = [one for some in (train, *tests.values()) for one in some]
    longest = max(len(one.tokens) for one in every)
    touching, known = np.zeros(longest), np.zeros(longest)
    for protein in train:
        labels = contact_labels(protein.label)
        index = np.arange(len(labels))
        apart = np.abs(index[:, None] - index[None])
        known += np.bincount(apart[labels != UNKNOWN], minlength=longest)
        touching += np.bincount(apart[labels == 1], minlength=longest)
    frequency = touching / np.maximum(known, 1)
    found = {}
    for name, proteins in tests.items():
        counts = []
        for protein in proteins:
            index = np.arange(len(protein.tokens))
            scores = frequency[np.abs(index[:, None] - index[None])]
            counts.append(precision_counts(scores, contact_labels(protein.label), 5))
        found[name] = ratio_score([one for one, _ in counts], [other for _, other in counts])
    return found
