"""Small items, pairs and models for the tests of Focused Learning."""

import json

from tiny_decoders import byte_tokenizer, tiny_model

from lcframework.data.focused.example import QAExample
from lcframework.data.focused.item import PromptTemplate, make_item
from lcframework.data.retrieval.rule import Kept

TEXTS = ["Oslo is cold.", "Rome is warm, and old.", "Lima lies by the sea.", "Kyoto has temples."]


def example(number=0, question="Which city is old?", answers=("Rome",), **changes):
    document = "\n\n".join(TEXTS)
    chunks, at = [], 0
    for text in TEXTS:
        chunks.append((at, at + len(text)))
        at += len(text) + 2
    given = {
        "key": str(number), "task": "custom", "question_id": f"q{number}",
        "document_id": f"d{number}", "question": question, "answers": answers,
        "document": document, "chunks": tuple(chunks), "evidence": (1,),
    }  # fmt: skip
    return QAExample(**given | changes)


def item(number=0, kept=(1,), contrast=True, chat=False, **changes):
    template = PromptTemplate("custom")
    return make_item(
        example(number, **changes), Kept(kept, contrast), template, "custom", number, chat=chat
    )


def llm(family="llama", attention="sdpa", **options):
    tokenizer = byte_tokenizer()
    return tiny_model(family, attention=attention, **options), tokenizer


def custom_rows(path, n=8):
    rows = [
        {
            "question": f"What costs {number}?",
            "answers": [f"thing {number}"],
            "documents": [*TEXTS, f"The thing {number} costs {number} coins."],
            "evidence": [f"The thing {number} costs {number} coins."],
        }
        for number in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def nq_files(folder, questions=14):
    places = ["Oslo", "Rome", "Lima", "Kyoto", "Cairo", "Quito"]
    pages = [(f"Page {n}", f"The town {places[n % 6]} number {n} has {n + 100} bridges.")
             for n in range(questions)]  # fmt: skip
    rows = [
        {
            "id": f"n{n}", "question": f"how many bridges has town number {n}",
            "answers": [str(n + 100)],
            "ctxs": [{"title": title, "text": text, "isgold": True}],
        }
        for n, (title, text) in enumerate(pages)
    ]  # fmt: skip
    pool = [{"title": title, "text": text} for title, text in pages]
    paths = folder / "nq.jsonl", folder / "passages.jsonl"
    for path, content in zip(paths, (rows, pool), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return paths
