"""The small world of `make demo-focused`: facts, questions about them, and a model that reads a few
facts well and is distracted by many.

A document says who has what, one word a fact: "Document [1](Title: page7) anna:lamp". The question
is a name, the answer the thing. The base model, of less than half a million parameters, is trained
here on one to three documents, from facts drawn anew for every step, so that it can read; ten
documents are more than it has seen. Fine-tuning for those is what the demonstration compares.

Run: python scripts/demo_focused.py FOLDER
Writes FOLDER/questions.jsonl, passages.jsonl, prompt.jinja and base/ (model and tokenizer).
"""

# ruff: noqa: T201
import argparse
import json
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

NAMES = [f"{first}{last}" for first in ("an", "be", "co", "di", "el")
         for last in ("ba", "ce", "do", "la", "mi")]  # fmt: skip
THINGS = ["lamp", "boat", "drum", "coin", "rope", "kite", "bell", "harp", "sled", "vase", "fork",
          "gong", "jug", "key", "map", "net"]  # fmt: skip
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
MOST = 30  # documents
STEPS, BATCH, SEEN = 500, 128, 3


def tokenizer_of() -> PreTrainedTokenizerFast:
    """One token a word; titles are unknown words."""
    facts = [f"{name}:{thing}" for name in NAMES for thing in THINGS]
    places = [f"[{n}](Title:" for n in range(1, MOST + 1)]
    words = [*SPECIAL, "Document", "?", "=", *places, *NAMES, *THINGS, *facts]
    found = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip


def write_world(folder: Path) -> None:
    """Questions with their gold page, and the pages that distractors are drawn from."""
    pages = [(name, thing) for name in NAMES for thing in THINGS]
    random.Random(0).shuffle(pages)
    with (
        (folder / "questions.jsonl").open("w") as questions,
        (folder / "passages.jsonl").open("w") as passages,
    ):
        for number, (name, thing) in enumerate(pages):
            page = {"title": f"page{number}", "text": f"{name}:{thing}"}
            # A page with an answer is no distractor. That the name counts as one keeps pages that
            # give the same name another thing, so that there would be two answers, away.
            row = {"id": f"q{number}", "question": name, "answers": [thing, name],
                   "ctxs": [{**page, "isgold": True}]}  # fmt: skip
            questions.write(json.dumps(row) + "\n")
            passages.write(json.dumps(page) + "\n")
    (folder / "prompt.jinja").write_text("{{ document }}\n? {{ question }} =")


def batch(
    tokenizer: PreTrainedTokenizerFast, documents: int, draw: torch.Generator
) -> torch.Tensor:
    """Token ids of `BATCH` prompts with their answers, laid out as NQd's."""
    of = tokenizer.convert_tokens_to_ids
    things = len(THINGS)
    names = torch.stack([
        torch.randperm(len(NAMES), generator=draw)[:documents] for _ in range(BATCH)
    ])  # fmt: skip
    owned = torch.randint(things, (BATCH, documents), generator=draw)
    gold = torch.randint(documents, (BATCH,), generator=draw)
    rows = torch.arange(BATCH)

    def same(word: str) -> torch.Tensor:
        return torch.full((BATCH, 1), of(word))

    columns = []
    for n in range(documents):
        fact = of(f"{NAMES[0]}:{THINGS[0]}") + names[:, n : n + 1] * things + owned[:, n : n + 1]
        columns += [same("Document"), same(f"[{n + 1}](Title:"), same("<unk>"), fact]
    columns += [same("?"), of(NAMES[0]) + names[rows, gold][:, None], same("=")]
    columns += [of(THINGS[0]) + owned[rows, gold][:, None], same("</s>")]
    return torch.cat(columns, 1)


def base_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of two layers that answers from up to `SEEN` documents."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512,
        initializer_range=0.05, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    draw, started = torch.Generator().manual_seed(1), time.time()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min((step + 1) / 50, max(0.05, 1 - step / STEPS))
        ids = batch(tokenizer, 1 + step % SEEN, draw)
        logits = model(ids).logits[:, -3:-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, ids[:, -2:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {STEPS}: answer loss {loss.item():.3f} nats per token, "
                  f"{time.time() - started:.0f} s", flush=True)  # fmt: skip
    return model.eval()


def main() -> None:
    """Write the files, train the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_world(folder)
    tokenizer = tokenizer_of()
    model = base_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    with torch.no_grad():
        for documents in (1, 3, 10, 20):
            ids = batch(tokenizer, documents, torch.Generator().manual_seed(2))
            right = model(ids).logits[:, -3].argmax(-1) == ids[:, -2]
            print(f"{documents:3} documents: {100 * float(right.float().mean()):.0f} % right")
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")


if __name__ == "__main__":
    main()
