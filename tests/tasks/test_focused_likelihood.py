"""What options cost, from one reading of the prompt, against whole passes."""

from dataclasses import replace

import pytest
import torch
from focused_examples import item, llm

from lcframework.tasks.focused_generation import FocusedGeneration
from lcframework.tasks.focused_likelihood import continuation_losses, option_losses

OPTIONS = ("Oslo, of course", "Rome", "x", "the town by the sea")


def reference(task, view, ids):
    """Mean loss of a continuation from one pass over everything."""
    length = len(ids)
    inputs = view.inputs("cpu")
    steps = torch.arange(1, length + 1)
    with torch.no_grad():
        logits = task.model(
            input_ids=torch.cat([inputs["input_ids"], torch.tensor([ids])], 1),
            position_ids=torch.cat(
                [inputs["position_ids"], inputs["position_ids"][:, -1:] + steps], 1
            ),
            attention_mask=torch.cat(
                [inputs["attention_mask"], torch.ones(1, length, dtype=torch.long)], 1
            ),
            use_cache=False,
        ).logits[0]
    logp = logits[-length - 1 : -1].log_softmax(-1)
    return -float(logp.gather(1, torch.tensor(ids)[:, None]).mean())


@pytest.mark.parametrize("family", ["llama", "qwen3_mixed", "gemma3"])
@pytest.mark.parametrize("view", [None, "mask", "hole"])
def test_options_cost_what_whole_passes_say(family, view):
    more = {} if view is None else {"view": view, "answer_from": "focused"}
    task = FocusedGeneration(llm(family), "never", **more)
    one = item(0, (1,), options=OPTIONS)
    found = option_losses(task, one)
    assert set(found) == {"option_nats"}  # letters are answers of QuALITY alone
    shown = task.shown(task.tokens(one, None))
    for text, loss in zip(OPTIONS, found["option_nats"], strict=True):
        ids = task.tokenizer(f" {text}", add_special_tokens=False).input_ids
        assert loss == pytest.approx(reference(task, shown, ids), abs=2e-4)
    assert found == option_losses(task, one)  # the cache was not changed by reading on


def test_all_options_of_a_cut_prompt_are_read_behind_the_same_prompt():
    task, one = FocusedGeneration(llm(), "never", max_length=190), item(0, (1,), options=OPTIONS)
    longest = max(len(f" {text}") for text in OPTIONS)
    shown = task.shown(task.tokens(one, None, longest))
    assert len(shown.ids_N) == 190 - longest
    ids = task.tokenizer(" Rome", add_special_tokens=False).input_ids
    (rome,) = continuation_losses(task.model, shown, [ids], task.device)
    assert option_losses(task, one)["option_nats"][1] == pytest.approx(rome)


def test_letters_are_measured_where_they_are_the_answers():
    task, one = FocusedGeneration(llm(), "never"), item(0, (1,), options=OPTIONS)
    found = option_losses(task, replace(one, suite="quality"))
    shown = task.shown(task.tokens(one, None))
    for letter, loss in zip("ABCD", found["letter_nats"], strict=True):
        ids = task.tokenizer(f" {letter}", add_special_tokens=False).input_ids
        assert loss == pytest.approx(reference(task, shown, ids), abs=2e-4)
