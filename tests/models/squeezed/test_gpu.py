"""On a GPU: the same clusters' quality, the same answers as on the CPU."""

import pytest
import torch
from test_clustering import topic_keys
from test_generate import QUESTIONS
from tiny_decoders import DOCUMENT, FAMILIES, byte_tokenizer, tiny_model

from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.clustering import cluster_keys

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_clusters_are_as_good_and_repeatable():
    keys = topic_keys(H=3)
    want = cluster_keys(keys, 100).loss.mean()
    first, second = (cluster_keys(keys.cuda(), 100) for _ in range(2))
    assert float(first.loss.mean()) < 1.01 * float(want)
    assert torch.equal(first.labels, second.labels)
    assert bool((first.sizes > 0).all())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_answers_equal_the_cpus(family, tmp_path):
    model, tokenizer = tiny_model(family), byte_tokenizer()
    context = SqueezedContext.build(model, tokenizer, DOCUMENT, window=32, value_centroids=True)
    path = context.save(tmp_path / "a.ctx")
    squeeze = Squeeze(sparsity=0.7, correct_values=True)
    want = context.ask(QUESTIONS, squeeze=squeeze, max_new_tokens=4)
    loaded = SqueezedContext.load(path, tiny_model(family).cuda(), tokenizer)
    assert loaded.layers[loaded.squeezed_layers[0]].fixed.keys.is_cuda
    for one, other in zip(
        loaded.ask(QUESTIONS, squeeze=squeeze, max_new_tokens=4), want, strict=True
    ):
        assert one.tokens == other.tokens
        torch.testing.assert_close(one.kept_prefill, other.kept_prefill, rtol=0, atol=0.02)
    built = SqueezedContext.build(model.cuda(), tokenizer, DOCUMENT, window=32)
    (alone,) = built.ask(QUESTIONS[0], sparsity=0.0, max_new_tokens=4)
    assert alone.tokens == context_dense(context, QUESTIONS[0])


def context_dense(context, question):
    """The dense answer, on whichever device the model now is."""
    model, text = context.model, context.parts.question(question)
    own = torch.tensor(context.tokenizer(text, add_special_tokens=False).input_ids)
    ids = torch.cat([context.ids, own])[None].to(model.device)
    model.set_attn_implementation("sdpa")
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4,
                         do_sample=False, pad_token_id=256)  # fmt: skip
    model.set_attn_implementation("squeezed")
    return tuple(out[0, ids.shape[1] :].tolist())
