"""Teacher-forced comparison of methods, against plain forward passes and single decoding steps."""

from dataclasses import replace

import pytest
import torch
from tiny_decoders import DOCUMENT, byte_tokenizer, tiny_model

from lcframework.data.generation import GenerationItem
from lcframework.data.split_prompt import split_prompts
from lcframework.models.llm.prompts import PromptParts
from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.forced import forced_logits
from lcframework.models.squeezed.methods import BASELINES, Method
from lcframework.scoring.paired import compare_logits
from lcframework.tasks.paired_answers import MethodRun, PairedReader

QUESTIONS = ["What costs 3 coins?", "Where is item 7 from, and why?"]
PLAIN = PromptParts("", "", "")


def item(number=0, question=QUESTIONS[0], **options):
    given = {
        "suite": "prefix_qa", "task": "free", "key": f"d/{number}", "number": number,
        "document": "d", "fixed": f"Read this.\n\n{DOCUMENT}\n\n",
        "question": f"Question: {question}\nAnswer:", "references": ("Rome", "the town"),
        "max_new_tokens": 6, "chat": False,
    }  # fmt: skip
    return GenerationItem(**(given | options))


ITEMS = [item(number, question) for number, question in enumerate(QUESTIONS)]


def build(family="llama"):
    model, tokenizer = tiny_model(family), byte_tokenizer()
    prompts = split_prompts(tokenizer, ITEMS, "never")
    context = SqueezedContext.build(model, tokenizer, prompts[0].fixed, prompt=PLAIN, window=32)
    return model, tokenizer, prompts, context


@pytest.mark.parametrize("family", ["llama", "qwen3_mixed"])
def test_dense_logits_are_those_of_a_plain_forward(family):
    _, _, prompts, context = build(family)
    plain = tiny_model(family, attention="sdpa")
    answers = [[40, 41, 42, 43], [50]]
    questions = [one.question for one in prompts]
    found, _ = forced_logits(context, Squeeze(sparsity=0.0), questions, answers)
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([[*prompt.fixed, *prompt.question, *answer[:-1]]])
        with torch.no_grad():
            rows.append(plain(ids).logits[0, -len(answer) :])
    torch.testing.assert_close(found, torch.cat(rows), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["squeezed", "grouped by none", *sorted(BASELINES)])
def test_logits_of_an_answer_read_at_once_are_those_of_decoding(name):
    model, _, prompts, context = build("gemma3" if name == "oracle" else "llama")
    squeeze = {
        "squeezed": Squeeze(sparsity=0.8),
        "grouped by none": Squeeze(sparsity=0.8, group="none", levels=1),
    }.get(name) or Method(method=name, share=0.3)
    questions = [one.question for one in prompts]
    answers = [[40, 41, 42, 43], [50, 51]]
    found, cache = forced_logits(context, squeeze, questions, answers)
    start = 0
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        alone = context.cache(squeeze)  # one question, one token at a time, the segments' path
        done, want = context.length, []
        for part in (prompt.question, *([token] for token in answer[:-1])):
            with torch.no_grad():
                logits = model(
                    input_ids=torch.tensor([list(part)]),
                    attention_mask=torch.ones(1, done + len(part), dtype=torch.long),
                    position_ids=torch.arange(done, done + len(part))[None],
                    past_key_values=alone,
                    use_cache=True,
                ).logits
            want.append(logits[0, -1])
            done += len(part)
        torch.testing.assert_close(
            found[start : start + len(answer)], torch.stack(want), rtol=1e-3, atol=1e-3
        )
        start += len(answer)
        for layer, other in zip(cache.squeezed.values(), alone.squeezed.values(), strict=True):
            torch.testing.assert_close(layer.kept[0][row].float(), other.kept[0][0].float())
            steps = torch.stack(other.kept[1:]).float().mean(0)[0]
            torch.testing.assert_close(layer.kept[1][row].float(), steps)


def test_readings():
    model, tokenizer, prompts, context = build()
    reader = PairedReader(model, tokenizer, gold_tokens=3)
    runs = [
        MethodRun("same", Method(method="dense")),
        MethodRun("sq", Squeeze(sparsity=0.8)),
        MethodRun("recent", Method(method="recent"), like="sq", writes=False),
    ]
    found = reader.read(context, prompts, runs)
    assert [list(one) for one in found] == [["dense", "same", "sq", "recent"]] * 2
    texts = [list(context.ask([list(one.question)], sparsity=0.0, max_new_tokens=6)[0].tokens)
             for one in prompts]  # fmt: skip
    share = sum(one["sq"].budget for one in found) / 2
    questions = [one.question for one in prompts]
    for name, squeeze in (
        ("sq", Squeeze(sparsity=0.8)), ("recent", Method(method="recent", share=share)),
    ):  # fmt: skip
        for row in range(2):
            for kind, text in (("own", texts[row]), ("gold", tokenizer(" Rome").input_ids[:3])):
                dense, _ = forced_logits(context, Squeeze(sparsity=0.0), [questions[row]], [text])
                other, _ = forced_logits(context, squeeze, [questions[row]], [text])
                want = compare_logits(dense, other, torch.tensor(text))
                got = getattr(found[row][name], kind)
                assert got.tokens == len(text) and got.agree == want.agree_T.sum()
                assert got.kl == pytest.approx(want.kl_T.sum(), rel=1e-3, abs=1e-6)
                assert got.gold == pytest.approx(want.gold_T.sum(), rel=1e-3, abs=1e-5)
    for row in found:
        assert row["same"].own.kl < 1e-6 and row["same"].own.agree == row["same"].own.tokens
        assert row["recent"].text is None and row["sq"].text is not None
        assert row["dense"].text == row["same"].text and row["dense"].budget == 1
        assert row["sq"].budget == pytest.approx(row["sq"].kept + 0.5 * context.centroid_fraction)
    assert found[0]["recent"].budget == pytest.approx(share, abs=0.01)


def test_answers_end_where_the_model_ends_them():
    model, tokenizer, prompts, context = build()
    free = PairedReader(model, tokenizer).read(context, prompts, [])[0]["dense"]
    (answer,) = context.ask([list(prompts[0].question)], sparsity=0.0, max_new_tokens=6)
    ids = answer.tokens
    model.generation_config.eos_token_id = int(ids[2])
    cut = PairedReader(model, tokenizer).read(context, prompts, [])[0]["dense"]
    assert free.new_tokens == 6 and cut.new_tokens == ids.index(ids[2]) + 1
    capped = PairedReader(model, tokenizer, max_new_tokens=2).read(context, prompts, [])
    assert all(one["dense"].new_tokens <= 2 for one in capped)


def test_split_prompts_are_the_whole_prompts_and_share_the_document():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<s>user {{ m.content }}</s>{% endfor %}<s>assistant "
    )
    for template, chat in (("never", False), ("always", True)):
        found = split_prompts(tokenizer, ITEMS, template)
        for one in found:
            text = one.item.prompt
            if chat:
                text = f"<s>user {text}</s><s>assistant "
            assert tokenizer.decode([*one.fixed, *one.question]) == text
            assert tokenizer.decode(one.fixed).endswith(f"{DOCUMENT}\n\n")
            assert one.chat == chat and not one.truncated
        assert found[0].fixed == found[1].fixed


def test_prompts_that_are_cut():
    tokenizer = byte_tokenizer()
    (cut,) = split_prompts(tokenizer, ITEMS[:1], "never", max_length=200)
    whole = tokenizer(ITEMS[0].prompt).input_ids
    assert [*cut.fixed, *cut.question] == whole[:100] + whole[-100:]
    assert cut.truncated == len(whole) - 200
    (short,) = split_prompts(tokenizer, ITEMS[:1], "never", max_length=20)
    assert "into the question" in short.wrong and not short.fixed
    (none,) = split_prompts(tokenizer, [replace(ITEMS[0], question=" ")], "never")
    assert "no question" in none.wrong


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_every_method_on_a_gpu(family):
    model, tokenizer = tiny_model(family).cuda(), byte_tokenizer()
    prompts = split_prompts(tokenizer, ITEMS, "never")
    context = SqueezedContext.build(model, tokenizer, prompts[0].fixed, prompt=PLAIN, window=32)
    runs = [MethodRun("squeezed", Squeeze(sparsity=0.8))]
    runs += [
        MethodRun(name, Method(method=name), like="squeezed")
        for name in BASELINES
        if name != "dense"
    ]
    found = PairedReader(model, tokenizer).read(context, prompts, runs)
    _, _, _, on_cpu = build(family)
    want = PairedReader(on_cpu.model, tokenizer).read(on_cpu, prompts, [])
    for one, other in zip(found, want, strict=True):
        assert one["dense"].text == other["dense"].text
        assert one["oracle"].budget == pytest.approx(one["squeezed"].budget, abs=0.1)
        assert all(reading.text is not None for reading in one.values())
