"""Key-value retrieval of "Lost in the Middle" (Liu et al., arXiv 2307.03172): its rows, its prompt,
and any number of keys asked of the same records."""

import json
import random
from pathlib import Path
from typing import Any

from lcframework.data.generation import GenerationDataModule, GenerationItem
from lcframework.data.jsonl import read_jsonl
from lcframework.errors import DataError

SUITE = "kv_retrieval"
MAX_NEW_TOKENS = 100  # as in the original's run script; a UUID is about 25 to 36 tokens


def read_kv_retrieval(
    path: str | Path, questions: int = 1, seed: int = 0, chat: bool = True
) -> list[GenerationItem]:
    """Read JSON lines of `ordered_kv_records` (pairs), `key` and `value`.

    Args:
        path: the file, plain or .gz, .xz, .zst.
        questions: keys asked of each row: the row's own first, then others, drawn without
            replacement; at most the row's records.
        seed: of the drawn keys.
        chat: whether a chat template is wanted.

    Raises:
        DataError: no such file, another schema, a key twice, a key that has another value.
    """
    items: list[GenerationItem] = []
    for row_number, (where, row) in enumerate(read_jsonl(path)):
        records = _records(row, where)
        others = [key for key in records if key != row["key"]]
        drawn = random.Random(f"{seed}/{row_number}").sample(others, len(others))
        for number, key in enumerate([row["key"], *drawn][:questions]):
            items.append(
                GenerationItem(
                    suite=SUITE,
                    task=f"{len(records)} keys",
                    key=f"{row_number}/{number}",
                    number=len(items),
                    document=str(row_number),
                    fixed=kv_prompt(records),
                    question=f'Key: "{key}"\nCorresponding value:',
                    references=(records[key],),
                    max_new_tokens=MAX_NEW_TOKENS,
                    chat=chat,
                )
            )
    return items


def kv_prompt(records: dict[str, str]) -> str:
    """The original's prompt up to the key: one record per line."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in records.items()]
    shown = ",\n ".join(lines)
    return (
        "Extract the value corresponding to the specified key in the JSON object below.\n\n"
        f"JSON data:\n{{{shown}}}\n\n"
    )


def _records(row: dict[str, Any], where: str) -> dict[str, str]:
    pairs = row.get("ordered_kv_records")
    try:
        records: dict[str, str] = dict(pairs or ())
        texts = [*records, *records.values(), row["key"], row["value"]]
        if len(records) != len(pairs or ()) or not all(isinstance(one, str) for one in texts):
            raise ValueError("a key occurs twice, or is no text")
        if records[row["key"]] != row["value"]:
            raise ValueError("its key has another value among the records")
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(
            f"{where}: no key-value row ({error}). A row has ordered_kv_records, a list of pairs "
            "of texts, and key and value, one of them."
        ) from error
    return records


class KVRetrievalDataModule(GenerationDataModule):
    """Key-value records, one key per batch.

    Args:
        path: a file of `read_kv_retrieval`.
        questions: keys asked of each row.
        seed: of the keys drawn beside the row's own.
        max_items: only the first so many questions; None: all.

    Raises:
        ValueError: less than one question.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        questions: int = 1,
        seed: int = 0,
        max_items: int | None = None,
    ) -> None:
        super().__init__(path, max_items)
        if questions < 1:
            raise ValueError(f"questions must be at least 1, got {questions}")
        self.questions, self.seed = questions, seed

    def read(self) -> list[GenerationItem]:
        """The questions, row by row.

        Raises:
            DataError: no path, no such file, another schema.
        """
        if self.path is None:
            raise DataError("There are no records: set data.path to a JSON-lines file.")
        return read_kv_retrieval(self.path, self.questions, self.seed)
