"""Recall of the oracle's keys and attention recovered, against token-by-token loops."""

import pytest
import torch
from test_generate import QUESTIONS, build

from lcframework.errors import ConfigError, DataError
from lcframework.models.squeezed import Squeeze, diagnose


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize(
    "options", [{}, {"group": "none"}, {"scope": "head", "group": "max"}, {"levels": 1}]
)
def test_the_selection_judged_is_the_one_made(family, options):
    """In the first layer the queries do not depend on what was dropped before."""
    context = build(family)
    for sparsity in (0.5, 0.8):
        squeeze = Squeeze(sparsity=sparsity, **options)
        (answer,) = context.ask(QUESTIONS[1], squeeze=squeeze, max_new_tokens=1)
        first = diagnose(context, [QUESTIONS[1]], [sparsity], squeeze)[0]
        assert first.layer == context.squeezed_layers[0]
        assert first.kept == pytest.approx(float(answer.kept_prefill[0].mean()), abs=1e-5)


def test_numbers_are_those_of_plain_softmax():
    context = build("llama_mha", levels=1)
    squeeze = Squeeze(sparsity=0.7)
    (row, *_) = diagnose(context, [QUESTIONS[0]], [0.7], squeeze)
    heard = []
    layer = context.model.model.layers[0].self_attn
    hook = layer.q_proj.register_forward_hook(lambda module, args, out: heard.append(out))
    keys = layer.k_proj.register_forward_hook(lambda module, args, out: heard.append(out))
    own = context.tokenizer(context.parts.question(QUESTIONS[0]), add_special_tokens=False)
    prompt = torch.cat([context.ids, torch.tensor(own.input_ids)])
    with torch.no_grad():
        context.model(prompt[None])
        places = torch.arange(len(prompt))[None]
        cos, sin = context.model.model.rotary_emb(heard[0], places)
    hook.remove()
    keys.remove()

    def rotated(x):
        x = x.view(1, len(prompt), 4, 16).transpose(1, 2)
        half = torch.cat([-x[..., 8:], x[..., :8]], -1)
        return (x * cos + half * sin)[0].double()

    query, key = rotated(heard[0]), rotated(heard[1])
    S, N = context.length, context.layers[0].fixed.clustered
    logits = query[:, S:] @ key.transpose(1, 2) / 4
    logits.masked_fill_(~torch.ones(logits.shape[1:], dtype=torch.bool).tril(S), -torch.inf)
    total = logits.softmax(-1)
    document = logits[..., :S].softmax(-1)
    among = logits[..., 4 : 4 + N].softmax(-1).mean(1)
    rule = squeeze.rules([one.sketch for one in context.layers])[0]
    fixed, positions = context.layers[0].fixed, context.layers[0].positions
    a = query[:, S:].float() @ fixed.levels[0].centroids.transpose(1, 2) / 4
    sizes = fixed.levels[0].sizes
    score = (a.exp() / (sizes[:, None] * a.exp()).sum(-1, keepdim=True)).mean(1)
    recalls, masses, totals, best = [], [], [], []
    for h in range(4):
        clusters = (score[h] > rule.thresholds[0, h]).nonzero()[:, 0].tolist()
        edges = fixed.levels[0].offsets[h].tolist()
        kept = {int(positions[h, i]) for c in clusters for i in range(edges[c], edges[c + 1])}
        ideal = {4 + int(i) for i in among[h].topk(len(kept)).indices}
        recalls.append(len(kept & ideal) / len(kept))
        for weights, chosen, into in (
            (document, kept, masses), (total, kept, totals), (document, ideal, best),
        ):  # fmt: skip
            dropped = [i for i in range(4, 4 + N) if i not in chosen]
            into.append(1 - float(weights[h, :, dropped].sum(-1).mean()))
    for got, want in ((row.recall, recalls), (row.mass, masses), (row.total_mass, totals),
                      (row.oracle_mass, best)):  # fmt: skip
        assert got == pytest.approx(sum(want) / 4, abs=2e-3)


def test_nothing_dropped_recovers_everything_and_the_oracle_is_the_bound():
    context = build()
    rows = diagnose(context, QUESTIONS, [0.0, 0.6, 0.9], Squeeze(query_block=1))
    assert [(row.sparsity, row.layer) for row in rows[:4]] == [
        (0.0, 0),
        (0.0, 1),
        (0.0, 2),
        (0.6, 0),
    ]
    for row in rows:
        if row.sparsity == 0:
            assert (row.kept, row.recall) == (1, 1) and row.mass == pytest.approx(1)
        assert row.clustered_mass <= row.mass + 1e-6 <= row.oracle_mass + 2e-6
        assert row.mass <= row.total_mass + 1e-6


def test_bad_questions_and_sparsities():
    context = build()
    for bad in ([], "Why?", [" "]):
        with pytest.raises(DataError):
            diagnose(context, bad)
    with pytest.raises(ConfigError, match="sparsity=1"):
        diagnose(context, ["Why?"], [1])
