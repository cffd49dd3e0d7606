"""ProteinGym's files: what is read, and every kind of bad file with its place."""

import numpy as np
import pytest
from gym_files import HEADER, ROWS, TARGET, reference, reference_row, write

from lcframework.data.proteingym.assays import assay_file, read_assay
from lcframework.data.proteingym.published import published_file, read_published
from lcframework.data.proteingym.reference import AssayInfo, read_reference, reference_file
from lcframework.errors import DataError

INFO = AssayInfo("A_1", "A_1.csv", "A", TARGET, "Activity")


def assay(tmp_path, rows=ROWS, header=HEADER, **options):
    return read_assay(write(tmp_path / "A_1.csv", rows, header), INFO, **options)


@pytest.mark.parametrize("compress", [False, True])
def test_an_assay(tmp_path, compress):
    path = write(tmp_path / ("A_1.csv" + ".gz" * compress), ROWS, compress=compress)
    assert assay_file(tmp_path, INFO) == path
    found = read_assay(path, INFO)
    assert found.mutants is not None
    assert found.mutants.names == [row[0] for row in ROWS]
    assert found.mutants.owner.tolist() == [0, 1, 2, 2, 3]
    assert found.mutants.positions.tolist() == [1, 2, 1, 9, 4]
    assert found.mutants.wild.tobytes() == b"KTKRY"
    assert found.mutants.mutant.tobytes() == b"ACAKF"
    assert found.mutants.sequences(TARGET) == found.sequences == [row[1] for row in ROWS]
    np.testing.assert_array_equal(found.scores, [1.0, -0.5, 0.25, -2.0])
    assert found.binary.tolist() == [1, 0, 1, 0]
    assert found.dropped == {}


BAD = [
    (("K3A", TARGET, 0, 0), "wrong wild type.*line 6, K3A: the target has T there"),
    (("R11A", TARGET, 0, 0), "position out of range.*the target has 10 residues"),
    (("K0A", TARGET, 0, 0), "position out of range"),
    (("K2A", TARGET, 0, 0), "mutated_sequence is not .*K at position 2, expected A"),
    (("K2A", TARGET[:-1], 0, 0), "9 residues, the target 10"),
    (("K2*", TARGET, 0, 0), "none of the 20 standard residues"),
    (("K2X", TARGET, 0, 0), "none of the 20 standard residues"),
    (("K2A:K2C", TARGET, 0, 0), "one position mutated twice"),
    (("2A", TARGET, 0, 0), "not written as A24C"),
    (("", TARGET, 0, 0), "not written as A24C"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_mutants_that_do_not_fit_are_refused_or_dropped(tmp_path, row, message, caplog):
    rows = [*ROWS, row]
    with pytest.raises(DataError, match=rf"A_1\.csv.*1 of 5 mutants do not fit.*{message}"):
        assay(tmp_path, rows)
    found = assay(tmp_path, rows, bad_mutants="drop")
    assert len(found) == 4
    assert list(found.dropped.values()) == [1]
    assert "Left out" in caplog.text


def test_each_kind_is_counted(tmp_path):
    rows = [*ROWS, *(row for row, _ in BAD)]
    with pytest.raises(DataError) as caught:
        assay(tmp_path, rows)
    for part in ("10 of 14", "1 wrong wild type", "2 position out of range", "2 mutated_sequence"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="no variant is left"):
        assay(tmp_path, [BAD[0][0]], bad_mutants="drop")


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, ["mutants", *HEADER[1:]], None),  # then these are indels
        (ROWS, [*HEADER[:2], "score", HEADER[3]], "line 1: the column DMS_score is missing"),
        ([(*ROWS[0][:2], "", 1)], HEADER, "line 2: DMS_score is '', which is no finite"),
        ([(*ROWS[0][:2], "nan", 1)], HEADER, "no finite number"),
        ([(*ROWS[0][:2], "inf", 1)], HEADER, "no finite number"),
        ([(*ROWS[0][:3], 2)], HEADER, "line 2: DMS_score_bin is 2"),
        ([ROWS[0][:3]], HEADER, "line 2: 3 fields where the header has 4"),
        ([], HEADER, "has no rows"),
        (ROWS, [*HEADER[:3], "DMS_score"], "DMS_score_bin is missing"),
    ],
)
def test_bad_tables(tmp_path, rows, header, message):
    if message is None:
        assert assay(tmp_path, rows, header).mutants is None
        return
    with pytest.raises(DataError, match=message):
        assay(tmp_path, rows, header)


def test_indels_need_no_mutant_column(tmp_path):
    rows = [("MKTAYIAKQRA", 1, 1), ("MKTAY", 0, 0)]
    found = assay(tmp_path, rows, HEADER[1:])
    assert found.mutants is None
    assert found.sequences == ["MKTAYIAKQRA", "MKTAY"]
    with pytest.raises(DataError, match="no amino-acid letter"):
        assay(tmp_path, [*rows, ("MK1", 0, 0)], HEADER[1:])


def test_bytes_that_are_no_text_and_damaged_archives(tmp_path):
    path = tmp_path / "A_1.csv"
    path.write_bytes(b"mutant,mutated_sequence,DMS_score,DMS_score_bin\n\xff\xfe,a,1,1\n")
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        read_assay(path, INFO)
    path.write_text('mutant,mutated_sequence,DMS_score,DMS_score_bin\n"K2A,a,1,1\n')
    with pytest.raises(DataError, match="not readable as CSV"):
        read_assay(path, INFO)
    whole = write(tmp_path / "whole.gz", ROWS, compress=True).read_bytes()
    path.write_bytes(whole[:-6])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_assay(path, INFO)
    with pytest.raises(DataError, match="no such file"):
        read_assay(tmp_path / "absent.csv", INFO)
    path.write_text("")
    with pytest.raises(DataError, match="no header"):
        read_assay(path, INFO)


def test_the_reference_file(tmp_path):
    rows = [reference_row("A_1"), reference_row("B_1", "mktay", kind="Stability")]
    path = reference(tmp_path, rows)
    assert reference_file(tmp_path) == path
    first, second = read_reference(path)
    assert first == INFO
    assert (second.target, second.selection_type) == ("MKTAY", "Stability")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (reference_row("A_1"), "line 3: DMS_id A_1 stands on line 2 already"),
        (reference_row("B_1", "MK1"), "line 3: target_seq of B_1"),
        (reference_row("B_1", ""), "target_seq of B_1 is empty"),
        (reference_row("B_1", kind="activity"), "coarse_selection_type of B_1 is 'activity'"),
        (("B_1", "../B.csv", "B", TARGET, "Activity"), "is a path"),
        (("", "B.csv", "B", TARGET, "Activity"), "is empty"),
    ],
)
def test_bad_reference_rows(tmp_path, row, message):
    path = reference(tmp_path, [reference_row("A_1"), row])
    with pytest.raises(DataError, match=message):
        read_reference(path)


def test_folders_without_one_reference_file(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        reference_file(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no reference file"):
        reference_file(tmp_path)
    for name in ("DMS_substitutions.csv", "DMS_indels.csv"):
        reference(tmp_path, [reference_row("A_1")], name)
    with pytest.raises(DataError, match="DMS_substitutions.csv and DMS_indels.csv"):
        reference_file(tmp_path)


def test_published_scores(tmp_path):
    assert published_file(tmp_path) is None
    header = ["DMS ID", "ESM2 (8M)", "GEMME", "Number of Mutants", "Taxon"]
    path = write(tmp_path / "baseline_spearman.csv", [("A_1", 0.4, "", 9, "Human")], header)
    assert published_file(tmp_path) == path
    assert read_published(path) == {"ESM2 (8M)": {"A_1": 0.4}, "GEMME": {}}
    write(path, [("A_1", "x", 0.1, 9, "")], header)
    with pytest.raises(DataError, match="line 2: 'x' under"):
        read_published(path)
    write(path, [("A_1", 0.4)], ["assay", "ESM2 (8M)"])
    with pytest.raises(DataError, match="no column is called DMS ID"):
        read_published(path)


@pytest.mark.realdata
def test_the_shared_assays(real_data):
    folder = real_data / "proteingym"
    counts = {}
    for info in read_reference(reference_file(folder)):
        path = assay_file(folder, info)
        assert path is not None
        counts[info.dms_id] = len(read_assay(path, info))
    assert counts == {
        "GFP_AEQVI_Sarkisyan_2016": 30000,
        "PABP_YEAST_Melamed_2013": 30000,
        "BLAT_ECOLX_Stiffler_2015": 4996,
        "SPG1_STRSG_Wu_2016": 20000,
        "DLG4_RAT_McLaughlin_2012": 1577,
        "SPIKE_SARS2_Starr_2020_expression": 3798,
    }
