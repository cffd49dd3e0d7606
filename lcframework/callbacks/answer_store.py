"""Answers on disk while they are made: a JSON-lines file per rank that only grows, and the settings
that they were made with. An evaluation that is stopped goes on where it was."""

import json
from pathlib import Path
from typing import Any

from lcframework.errors import RunDirError
from lcframework.files import write_json

SETTINGS = "settings.json"


class AnswerStore:
    """The answers of one run directory.

    Args:
        folder: where the files are.
        rank: of this process; it appends to its own file and reads all.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.file = folder / f"rank{rank}.jsonl"

    def claim(self, settings: dict[str, Any]) -> None:
        """Bind the folder to settings, or compare them with those it is bound to; cut off half a
        line that an interrupted process left. For one rank, before the others read.

        Raises:
            RunDirError: it was begun with other settings; the message lists what differs.
        """
        path = self.folder / SETTINGS
        if path.is_file():
            old = json.loads(path.read_text())
            changed = [
                f"{key}: {old.get(key)!r} -> {settings.get(key)!r}"
                for key in sorted(old.keys() | settings.keys())
                if old.get(key) != settings.get(key)
            ]
            if changed:
                raise RunDirError(
                    f"{self.folder} holds answers made with other settings "
                    f"({'; '.join(changed)}). Restore these to go on, or evaluate under another "
                    "run_id=NAME."
                )
        else:
            write_json(path, settings)
        for file in sorted(self.folder.glob("rank*.jsonl")):
            content = file.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with file.open("r+b") as stream:
                    stream.truncate(whole)

    def read(self, digests: dict[str, str]) -> dict[str, dict[str, Any]]:
        """The answers there are, by item, each once.

        Args:
            digests: of all items of this evaluation, by key; answers to other items are left alone.

        Raises:
            RunDirError: a line is damaged, or an item has changed since it was answered.
        """
        found: dict[str, dict[str, Any]] = {}
        for file in sorted(self.folder.glob("rank*.jsonl")):
            for number, line in enumerate(file.read_text().split("\n"), 1):
                if not line:
                    continue
                try:
                    row = json.loads(line)
                    key, digest = row["key"], row["digest"]
                except (ValueError, KeyError, TypeError) as error:
                    raise RunDirError(
                        f"{file}, line {number}: no answer of ours ({error}). Delete the line; the "
                        "item is answered again."
                    ) from error
                if key not in digests:
                    continue
                if digests[key] != digest:
                    raise RunDirError(
                        f"{file}, line {number}: the item {key!r} has changed since it was "
                        "answered. Restore the data, or evaluate under another run_id=NAME."
                    )
                found.setdefault(key, row)
        return found

    def append(self, row: dict[str, Any]) -> None:
        """Add one answer; it is in the file when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
