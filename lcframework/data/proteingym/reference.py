"""ProteinGym's reference file: one row per assay."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcframework.data.alphabet import ENCODE_TABLE, UNKNOWN_BYTE
from lcframework.data.proteingym.csv_table import CsvTable, read_csv_table
from lcframework.errors import DataError

REFERENCE_FILES = ("DMS_substitutions.csv", "DMS_indels.csv")
REQUIRED = ("DMS_id", "DMS_filename", "UniProt_ID", "target_seq", "coarse_selection_type")
SELECTION_TYPES = ("Activity", "Binding", "Expression", "OrganismalFitness", "Stability")


@dataclass(frozen=True)
class AssayInfo:
    """What the reference file says of one assay.

    Attributes:
        dms_id: its name, unique.
        filename: of its CSV file.
        uniprot_id: the protein; several assays may share it.
        target: the sequence that mutant strings count on, upper case.
        selection_type: one of `SELECTION_TYPES` ("coarse_selection_type").
        taxon: may be empty.
        msa_depth: "Low", "Medium", "High" or empty ("MSA_Neff_L_category").
    """

    dms_id: str
    filename: str
    uniprot_id: str
    target: str
    selection_type: str
    taxon: str = ""
    msa_depth: str = ""


def reference_file(folder: Path) -> Path:
    """The reference file in a ProteinGym folder.

    Raises:
        DataError: the folder is missing, holds none, or holds several.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder. Name the folder that holds ProteinGym's "
            f"{REFERENCE_FILES[0]} and the assays' CSV files."
        )
    found = [folder / name for name in REFERENCE_FILES if (folder / name).is_file()]
    if len(found) != 1:
        raise DataError(
            f"{folder} holds {'both' if found else 'neither'} of {' and '.join(REFERENCE_FILES)}: "
            "one is needed. Put it beside the assays' CSV files, or name it with data.reference."
        )
    return found[0]


def read_reference(path: Path) -> list[AssayInfo]:
    """Read a reference file.

    Args:
        path: `DMS_substitutions.csv` or `DMS_indels.csv`, or rows of it.

    Raises:
        DataError: columns are missing, an id is repeated or empty, a target is no protein, or a
            selection type is unknown; names the line.
    """
    table = read_csv_table(path, REQUIRED)
    found: list[AssayInfo] = []
    seen: dict[str, int] = {}
    optional = {
        name: table.column(name) if name in table.header else [""] * len(table.rows)
        for name in ("taxon", "MSA_Neff_L_category")
    }
    columns = zip(*(table.column(name) for name in REQUIRED), *optional.values(), strict=True)
    for line, values in zip(table.lines, columns, strict=True):
        info = AssayInfo(values[0], values[1], values[2], values[3].upper(), *values[4:])
        _check(table, line, info)
        if info.dms_id in seen:
            raise DataError(
                f"{path}, line {line}: DMS_id {info.dms_id} stands on line {seen[info.dms_id]} "
                "already. Remove one of the two rows."
            )
        seen[info.dms_id] = line
        found.append(info)
    return found


def _check(table: CsvTable, line: int, info: AssayInfo) -> None:
    where = f"{table.path}, line {line}"
    if not info.dms_id or not info.filename or not info.uniprot_id:
        raise DataError(f"{where}: DMS_id, DMS_filename or UniProt_ID is empty. Fill it in.")
    if Path(info.filename).name != info.filename:
        raise DataError(
            f"{where}: DMS_filename {info.filename!r} is a path. It must be a file's name in the "
            "same folder."
        )
    codes = ENCODE_TABLE[np.frombuffer(info.target.encode(), dtype=np.uint8)]
    if not len(codes) or (codes == UNKNOWN_BYTE).any():
        raise DataError(
            f"{where}: target_seq of {info.dms_id} is empty or holds a character that is no "
            "amino-acid letter."
        )
    if info.selection_type not in SELECTION_TYPES:
        raise DataError(
            f"{where}: coarse_selection_type of {info.dms_id} is {info.selection_type!r}, not one "
            f"of {', '.join(SELECTION_TYPES)}; the official average needs it."
        )
