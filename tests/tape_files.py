"""Writes small files in TAPE's formats."""

import json
import lzma
import pickle


def write_json(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def write_jsonl(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".xz":
        path.write_bytes(lzma.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def write_lmdb(path, rows, protocol=3, count=None, raw=None):
    """As TAPE's `tfrecord_to_lmdb.py`: a folder, pickled dicts by number, `num_examples`."""
    import lmdb

    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as t:
        for index, row in enumerate(rows):
            t.put(str(index).encode(), pickle.dumps(row, protocol=protocol))
        for index, data in (raw or {}).items():
            t.put(str(index).encode(), data)
        total = len(rows) + len(raw or {}) if count is None else count
        t.put(b"num_examples", pickle.dumps(total, protocol=protocol))
    return path
