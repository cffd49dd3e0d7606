"""TAPE's files: the three formats, labels, bad records, and pickles that would like to run."""

import os
import pickle

import numpy as np
import pytest
from tape_files import write_json, write_jsonl, write_lmdb

from lcframework.data.tape.proteins import contact_labels, read_split
from lcframework.data.tape.records import read_records
from lcframework.data.tape.restricted_pickle import loads
from lcframework.data.tape.tasks import TASKS, find_split, split_note
from lcframework.errors import ConfigError, DataError

SS3 = [
    {"id": "1abc-A", "primary": "MKTAY", "ss3": [-1, 0, 1, 2, 2], "protein_length": 5},
    {"id": "2xyz-B", "primary": "GG", "ss3": [2, 2], "protein_length": 2},
]
CONTACT = {
    "id": b"T1",
    "primary": "MKTAYIAK",
    "tertiary": np.arange(24, dtype=np.float32).reshape(8, 3),
    "valid_mask": np.array([1, 1, 1, 1, 1, 1, 1, 0], dtype=bool),
    "evolutionary": np.zeros((8, 21)),
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_plain_values_and_arrays(protocol):
    row = {
        **CONTACT,
        "big": np.arange(4, dtype=">i4"),
        "matrix": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.float32(1.5),
        "whole": np.int64(7),
        "empty": np.zeros((0, 3)),
        "nested": [(1, 2.5, None), {"a": True}],
    }
    found = loads(pickle.dumps(row, protocol=protocol), "here")
    assert found.keys() == row.keys()
    for key, value in row.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[key], value)
            assert found[key].dtype == value.dtype and found[key].shape == value.shape
        else:
            assert found[key] == value


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (os.system, ("touch {flag}",), "system"),
        (eval, ("open('{flag}', 'w')",), "eval"),
        (exec, ("open('{flag}', 'w')",), "exec"),
        (np.load, ("{flag}",), "load"),
        (np.ndarray, ((10**12,),), "a call of numpy.ndarray"),
        (np.dtype, ("O",), "dtype 'O'"),
    ],
)
def test_a_pickle_that_runs_something_is_refused(tmp_path, protocol, function, arguments, said):
    flag = tmp_path / "flag"
    filled = tuple(one.format(flag=flag) if isinstance(one, str) else one for one in arguments)
    data = pickle.dumps({"primary": "M", "x": Runs(function, filled)}, protocol=protocol)
    with pytest.raises(DataError, match=rf"here: not a record of plain values.*{said}"):
        loads(data, "here")
    assert not flag.exists()
    path = write_lmdb(tmp_path / "a.lmdb", SS3, raw={2: data})
    with pytest.raises(DataError, match="record 2: not a record of plain values"):
        list(read_records(path))
    assert not flag.exists()


def test_other_tricks_of_pickles(tmp_path):
    flag = tmp_path / "flag"
    dtype = b"cnumpy\ndtype\n"
    tricks = {
        "dtype 'O8'": pickle.dumps(np.array([Runs(os.system, (f"touch {flag}",))], dtype=object)),
        "the name numpy.core.multiarray._reconstruct": b"cnumpy\ncore.multiarray._reconstruct\n.",
        "persistent id 'name'": b"Pname\n.",
        "a change of an admitted function": dtype + b"(N(dS'__code__'\nS'x'\nstb.",
        "the codec 'bz2'": b"c_codecs\nencode\n(VA\nS'bz2'\ntR.",
        "a set": pickle.dumps({1, 2}),
        "a _Admitted": dtype + b".",
        "Ran out of input": b"",
    }
    for said, data in tricks.items():
        with pytest.raises(DataError, match=f"{said}.*Nothing of it was run"):
            loads(data, "here")
    assert not flag.exists()


@pytest.mark.parametrize("kind", ["lmdb", "json", "jsonl", "jsonl.xz"])
def test_the_formats_hold_the_same(tmp_path, kind):
    path = tmp_path / f"secondary_structure_train.{kind}"
    writer = {"lmdb": write_lmdb, "json": write_json}.get(kind, write_jsonl)
    writer(path, SS3)
    spec = TASKS["secondary_structure"]
    assert find_split(tmp_path, spec, "train") == path
    found = read_split(path, spec)
    assert [one.name for one in found] == ["1abc-A", "2xyz-B"]
    assert found[0].label.tolist() == [-1, 0, 1, 2, 2] and len(found[0].tokens) == 5


def test_tapes_own_layout_is_found(tmp_path):
    path = write_lmdb(tmp_path / "proteinnet" / "proteinnet_valid.lmdb", [CONTACT])
    spec = TASKS["contact_prediction"]
    assert find_split(tmp_path, spec, "valid") == path
    assert find_split(tmp_path, spec, "train") is None
    (protein,) = read_split(path, spec)
    assert np.isnan(protein.label[7]).all() and not np.isnan(protein.label[:7]).any()
    write_json(tmp_path / "proteinnet_valid.json", [])
    with pytest.raises(DataError, match="several files"):
        find_split(tmp_path, spec, "valid")


def test_contact_maps_by_hand():
    places = np.zeros((9, 3), dtype=np.float32)
    places[:, 0] = np.arange(9) * 1.3  # 6 apart: 7.8 A; 7 apart: 9.1 A
    places[8] = np.nan
    found = contact_labels(places)
    assert found[0, 6] == found[6, 0] == 1 and found[1, 7] == 1
    assert found[0, 7] == 0
    assert found[0, 5] == -1 and (found[8] == -1).all()  # too near in sequence; unresolved


@pytest.mark.parametrize(
    ("task", "record", "message"),
    [
        ("secondary_structure", {"primary": "MK", "ss3": [0]}, r"shape \(1,\), the sequence 2"),
        ("secondary_structure", {"primary": "MK", "ss3": [0, 3]}, "ss3 of residue 2 is 3"),
        ("secondary_structure", {"primary": "MK", "ss3": "HH"}, "no list of whole numbers"),
        ("secondary_structure", {"primary": "M1", "ss3": [0, 0]}, "no protein sequence"),
        ("secondary_structure", {"ss3": [0, 0]}, "no protein sequence"),
        ("fluorescence", {"primary": "MK", "ss3": [0, 1]}, "Is this the file of another task"),
        ("fluorescence", {"primary": "MK", "log_fluorescence": [1, 2]}, "one finite number"),
        ("stability", {"primary": "MK", "stability_score": [float("nan")]}, "one finite number"),
        ("remote_homology", {"primary": "MK", "fold_label": 1195}, "from 0 below 1195"),
        ("remote_homology", {"primary": "MK", "fold_label": True}, "whole number"),
        ("contact_prediction", {"primary": "MK", "tertiary": [[0, 0, 0]]}, r"shape \(1, 3\)"),
    ],
)
def test_bad_records(tmp_path, task, record, message):
    path = write_json(tmp_path / "x.json", [record])
    with pytest.raises(DataError, match=message):
        read_split(path, TASKS[task])


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(read_records(tmp_path / "a.lmdb"))
    with pytest.raises(DataError, match="must end in"):
        list(read_records(tmp_path / "a.csv"))
    (tmp_path / "b.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="hold a list, this holds dict"):
        list(read_records(tmp_path / "b.json"))
    (tmp_path / "c.json").write_text("[1")
    with pytest.raises(DataError, match="not JSON"):
        list(read_records(tmp_path / "c.json"))
    (tmp_path / "d.lmdb").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no readable LMDB"):
        list(read_records(tmp_path / "d.lmdb"))
    with pytest.raises(DataError, match="record 2 of 5 is missing"):
        list(read_records(write_lmdb(tmp_path / "e.lmdb", SS3, count=5)))
    with pytest.raises(DataError, match="holds no record"):
        read_split(write_json(tmp_path / "f.json", []), TASKS["stability"])


def test_what_tables_say_of_the_split():
    assert split_note(TASKS["stability"], False) == (
        "rebuilt split, not comparable with TAPE's leaderboard"
    )
    assert split_note(TASKS["stability"], True) == "TAPE's split"
    with pytest.raises(ConfigError, match="TAPE has no task go_function"):
        split_note(TASKS["go_function"], True)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("task", "split", "count"),
    [
        ("secondary_structure", "valid", 1080),
        ("fluorescence", "valid", 5239),
        ("stability", "test", 348),
        ("go_function", "valid", 470),
    ],
)
def test_shared_files(real_data, task, split, count):
    path = find_split(real_data / "tape", TASKS[task], split)
    assert len(read_split(path, TASKS[task])) == count
