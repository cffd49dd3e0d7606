"""Reader of Qasper (Dasigi et al., NAACL 2021)."""

import json
import tarfile
from pathlib import Path
from typing import Any

from lcframework.data.focused.example import QAExample, evidence_chunks
from lcframework.data.focused.readers import read_custom
from lcframework.data.focused.rows import checked, joined, objects_of, text_of
from lcframework.data.retrieval.chunkers import Chunker, Paragraphs
from lcframework.errors import DataError

UNANSWERABLE = "Unanswerable"
ARCHIVES = (".tgz", ".tar.gz")
SPLITS = {"train": "-train-", "valid": "-dev-", "test": "-test-"}
"""Part of the names of the official files."""


def read_qasper(
    path: str | Path, training: bool, chunker: Chunker | None = None, split: str | None = None
) -> list[QAExample]:
    """Qasper, the official JSON of one split.

    Chunks are the paper's paragraphs (its evidence units), the abstract first. References are made
    as in `qasper_evaluator.py` of allenai/qasper-led-baseline: text, type, evidence, of an
    unanswerable question none.

    Args:
        path: the split's JSON, or the official archive (.tgz) that holds it. JSON lines of
            documents with questions (`readers.read_custom`) are read, too; they have no types.
        training: one example per reference answer; otherwise one per question with all of them
            (the reader of the baseline does the same).
        chunker: cuts the joined paper instead.
        split: "train", "valid" or "test", which file of an archive is wanted (an archive without
            a test file is tested on its development file); None: as `training` says.

    Raises:
        DataError: another schema.
    """
    path = Path(path)
    if ".jsonl" in path.suffixes:
        return read_custom(path, chunker or Paragraphs(50, max_words=150), "qasper", training)
    examples: list[QAExample] = []
    papers = _papers(path, split or ("train" if training else "valid"))
    for paper, content in papers.items():
        where = f"{path}, paper {paper}"
        document, units = joined(_paragraphs(content, where))
        chunks = units if chunker is None else chunker(document)
        for given in objects_of(content, "qas", where):
            name = f"{paper}/{given.get('question_id', len(examples))}"
            place = f"{where}, question {given.get('question_id')}"
            references = [_answer(one.get("answer"), place)
                          for one in objects_of(given, "answers", place)]  # fmt: skip
            groups = [[one] for one in references] if training else [references]
            for number, group in enumerate(groups):
                texts = [one for _, _, evidence in group for one in evidence]
                examples.append(
                    checked(
                        place,
                        key=f"{name}/{number}" if training else name,
                        task="qasper",
                        question_id=name,
                        document_id=str(paper),
                        question=text_of(given, "question", place),
                        answers=tuple(text for text, _, _ in group),
                        document=document,
                        chunks=chunks,
                        evidence=evidence_chunks(document, chunks, texts),
                        types=tuple(kind for _, kind, _ in group),
                        answer_evidence=tuple(evidence for _, _, evidence in group),
                        units=units,
                    )
                )
    return examples


def _papers(path: Path, split: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Check the spelling of its path.")
    try:
        content = path.read_bytes()
        name = str(path)
        if path.name.endswith(ARCHIVES):
            name, content = _member(path, split)
        papers = json.loads(content.decode())
    except (ValueError, tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: damaged or not JSON ({error}): download it again.") from error
    if not isinstance(papers, dict):
        raise DataError(f"{name}: an object of papers by id is wanted, as published.")
    return papers


def _member(path: Path, split: str) -> tuple[str, bytes]:
    """One JSON of an official archive; nothing is unpacked to disk."""
    with tarfile.open(path, "r:gz") as archive:
        files = [one for one in archive.getmembers() if one.isfile() and ".json" in one.name]
        for part in (SPLITS[split], *([SPLITS["valid"]] if split == "test" else [])):
            for one in files:
                if part in one.name and (stream := archive.extractfile(one)) is not None:
                    return f"{path}, {one.name}", stream.read()
    held = ", ".join(one.name for one in files) or "no JSON file"
    raise DataError(f"{path} holds {held}, none of the {split} split: name another file.")


def _paragraphs(content: dict[str, Any], where: str) -> list[str]:
    paragraphs = [str(content.get("abstract") or "")]
    for section in objects_of(content, "full_text", where):
        paragraphs += [one for one in section.get("paragraphs") or () if isinstance(one, str)]
    return [one for one in paragraphs if one.strip()]


def _answer(answer: Any, where: str) -> tuple[str, str, tuple[str, ...]]:
    """Text, type and evidence of a reference."""
    if not isinstance(answer, dict):
        raise DataError(f"{where}: an answer is no object.")
    evidence = tuple(one for one in answer.get("evidence") or () if isinstance(one, str))
    if answer.get("unanswerable"):
        return UNANSWERABLE, "none", ()
    if answer.get("extractive_spans"):
        return ", ".join(answer["extractive_spans"]), "extractive", evidence
    if answer.get("free_form_answer"):
        return answer["free_form_answer"], "abstractive", evidence
    if answer.get("yes_no") is not None:
        return ("Yes" if answer["yes_no"] else "No"), "boolean", evidence
    raise DataError(
        f"{where}: the answer is neither text, yes or no, nor unanswerable. Remove it, or restore "
        "the official file."
    )
