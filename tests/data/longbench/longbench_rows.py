"""Rows in LongBench's schema, made up."""

import json


def row(task, number, **changes):
    classes = ["Date", "Person"] if task in ("trec", "lsht") else None
    return {
        "input": f"question {number}?", "context": f"{{context}} {{number}} of {task} " * 3,
        "answers": [f"answer {number}", "other"] if not classes else ["Date"],
        "length": 1000 * number, "dataset": task, "language": "en", "all_classes": classes,
        "_id": f"{task}-{number}", **changes,
    }  # fmt: skip


def write_task(folder, task, n=3, suffix="", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row(task, one, **changes), ensure_ascii=False) for one in range(n)]
    (folder / f"{task}{suffix}.jsonl").write_text("\n".join(lines) + "\n")
    return folder
