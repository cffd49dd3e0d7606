"""The categorical Jacobian in packs against one forward pass per substitution, and its contacts."""

import numpy as np
import pytest
import torch
from torch import nn

from lcframework.data.alphabet import STANDARD_RESIDUES, TOKEN_TO_ID
from lcframework.errors import DataError
from lcframework.models.esm2.model import ESM2
from lcframework.models.lcplm import LCPLM
from lcframework.scoring.contacts import precision_counts
from lcframework.scoring.jacobian import (
    average_product_corrected,
    centred,
    contact_scores,
    coupling_norms,
)
from lcframework.tasks import contacts
from lcframework.tasks.contacts import categorical_jacobian, predicted_contacts
from lcframework.tasks.variant_effects.inference import Inference
from lcframework.tasks.variant_effects.reference import token_row

SEQUENCE = "MKTAYXIW"


def network(kind):
    torch.manual_seed(4)
    made = LCPLM(12, 2, d_state=4) if kind == "lcplm" else ESM2(16, 2, 2)
    for parameter in made.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return made


@torch.no_grad()
def logits_of(made, letters):
    row = torch.tensor(token_row("".join(letters)))
    found = made(row, torch.tensor([0, len(row)], dtype=torch.int32), len(row))
    return found[1:-1][:, [TOKEN_TO_ID[letter] for letter in STANDARD_RESIDUES]].numpy()


def slow_jacobian(made, sequence):
    made.eval()
    length = len(sequence)
    found = np.zeros((length, 20, length, 20))
    for i in range(length):
        for a, letter in enumerate(STANDARD_RESIDUES):
            changed = list(sequence)
            changed[i] = letter
            found[i, a] = logits_of(made, changed) - logits_of(made, sequence)
    return found


def slow_scores(jacobian):
    length = len(jacobian)
    mean = jacobian.copy()
    for axis in range(4):
        mean = mean - mean.mean(axis, keepdims=True)
    norms = np.zeros((length, length))
    for i in range(length):
        for j in range(length):
            if i != j:
                block = (mean[i, :, j, :] + mean[j, :, i, :].T) / 2
                norms[i, j] = np.sqrt((block**2).sum())
    scores = np.zeros((length, length))
    for i in range(length):
        for j in range(length):
            if i != j:
                scores[i, j] = norms[i, j] - norms[i].sum() * norms[:, j].sum() / norms.sum()
    return scores


@pytest.mark.parametrize("kind", ["lcplm", "esm2"])
@pytest.mark.parametrize("max_tokens", [10, 75, 5000])
def test_the_jacobian_in_packs(kind, max_tokens):
    made = network(kind).train()
    found = categorical_jacobian(Inference(made, max_tokens), SEQUENCE)
    assert made.training
    wanted = slow_jacobian(made, SEQUENCE)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.abs(wanted).max() > 0.1
    assert np.abs(found[0, STANDARD_RESIDUES.index("M")]).max() < 1e-5  # M stays M


@pytest.mark.parametrize("kind", ["lcplm", "esm2"])
def test_scores_step_by_step(kind):
    made = network(kind)
    found = predicted_contacts(Inference(made), SEQUENCE)
    np.testing.assert_allclose(found, slow_scores(slow_jacobian(made, SEQUENCE)), atol=1e-4)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert (np.diag(found) == 0).all()


def test_centring_and_correction_by_hand():
    jacobian = np.random.default_rng(0).normal(size=(4, 20, 4, 20)).astype(np.float32)
    found = centred(jacobian.copy())
    for axis in range(4):
        assert np.abs(found.mean(axis)).max() < 1e-5
    norms = coupling_norms(found)
    assert np.allclose(norms, norms.T) and (np.diag(norms) == 0).all()
    # One strong pair among equal ones: only that one stays above zero.
    plain = np.ones((4, 4)) - np.eye(4)
    plain[0, 1] = plain[1, 0] = 3.0
    corrected = average_product_corrected(plain)
    assert corrected[0, 1] == pytest.approx(3 - 5 * 5 / 16)
    assert corrected[2, 3] == pytest.approx(1 - 3 * 3 / 16)
    assert np.argmax(corrected) == 1
    assert (average_product_corrected(np.zeros((3, 3))) == 0).all()


class Paired(nn.Module):
    """Reads of each residue which letter its partner has, and nothing else."""

    PARTNERS = {2: 20, 20: 2, 5: 14, 14: 5}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(33, 33, generator=torch.Generator().manual_seed(0)))

    def forward(self, tokens, cu_seqlens, max_len, at=None):
        logits = torch.zeros(len(tokens), 33)
        for start in cu_seqlens[:-1].tolist():
            for residue, partner in self.PARTNERS.items():
                logits[start + 1 + residue] = self.weight[tokens[start + 1 + partner]]
        return logits if at is None else logits[at]


def test_pairs_that_a_network_couples_come_first():
    contact = np.zeros((24, 24), dtype=int)
    for i, j in Paired.PARTNERS.items():
        contact[i, j] = 1
    scores = predicted_contacts(Inference(Paired()), "M" * 24)
    assert precision_counts(scores, contact, divisor=12) == (2, 2)
    others = scores[(contact == 0) & ~np.eye(24, dtype=bool)]
    assert scores[contact == 1].min() > 3 * np.abs(others).max()


def test_no_memory_is_one_paragraph(monkeypatch):
    real = np.empty

    def little(shape, dtype=float):
        if shape == (160, 8, 20):
            raise MemoryError
        return real(shape, dtype=dtype)

    monkeypatch.setattr(contacts.np, "empty", little)
    with pytest.raises(DataError, match="of 8 residues needs 0.0 GB"):
        categorical_jacobian(Inference(network("lcplm")), SEQUENCE)


def test_contact_scores_centre_in_place():
    jacobian = np.random.default_rng(1).normal(size=(5, 20, 5, 20)).astype(np.float32)
    np.testing.assert_allclose(contact_scores(jacobian.copy()), slow_scores(jacobian), atol=1e-5)
