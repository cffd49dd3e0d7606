"""ProteinGym's reference file: one row per assay, or per protein of the clinical sets."""

from dataclasses import dataclass
from pathlib import Path

from lcframework.data.alphabet import is_protein
from lcframework.data.proteingym.csv_table import CsvTable, read_csv_table
from lcframework.errors import DataError

CLINICAL_PREFIX = "clinical_"
REFERENCE_FILES = (
    "DMS_substitutions.csv",
    "DMS_indels.csv",
    f"{CLINICAL_PREFIX}substitutions.csv",
    f"{CLINICAL_PREFIX}indels.csv",
)
COMMON = ("DMS_id", "DMS_filename", "target_seq")
REQUIRED = (*COMMON, "UniProt_ID", "coarse_selection_type")
SELECTION_TYPES = ("Activity", "Binding", "Expression", "OrganismalFitness", "Stability")
CLINICAL = "Clinical"
"""What stands for the selection type of the clinical sets, which have none."""


@dataclass(frozen=True)
class AssayInfo:
    """What the reference file says of one assay.

    Attributes:
        dms_id: its name, unique.
        filename: of its CSV file.
        uniprot_id: the protein; several assays may share it. Clinical sets have one file per
            protein, so this is `dms_id` there.
        target: the sequence that mutant strings count on, upper case.
        selection_type: one of `SELECTION_TYPES` ("coarse_selection_type"), or `CLINICAL`.
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

    @property
    def clinical(self) -> bool:
        """Whether the variants carry the labels Pathogenic and Benign instead of measurements."""
        return self.selection_type == CLINICAL


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
            f"{folder} holds {' and '.join(one.name for one in found) or 'no reference file'}: one "
            f"of {', '.join(REFERENCE_FILES)} is needed. Put it beside the assays' CSV files, or "
            "name it with data.reference."
        )
    return found[0]


def read_reference(path: Path) -> list[AssayInfo]:
    """Read a reference file.

    Args:
        path: one of `REFERENCE_FILES`, or rows of it. A name that starts with "clinical_" is
            read as ProteinGym's clinical reference, which has neither UniProt ids nor selection
            types.

    Raises:
        DataError: columns are missing, an id is repeated or empty, a target is no protein, or a
            selection type is unknown; names the line.
    """
    clinical = path.name.startswith(CLINICAL_PREFIX)
    required = COMMON if clinical else REQUIRED
    table = read_csv_table(path, required)
    found: list[AssayInfo] = []
    seen: dict[str, int] = {}
    optional = {
        name: table.column(name) if name in table.header else [""] * len(table.rows)
        for name in ("taxon", "MSA_Neff_L_category")
    }
    columns = {name: table.column(name) for name in required} | optional
    for row, line in enumerate(table.lines):
        value = {name: column[row] for name, column in columns.items()}
        info = AssayInfo(
            value["DMS_id"],
            value["DMS_filename"],
            value["DMS_id"] if clinical else value["UniProt_ID"],
            value["target_seq"].upper(),
            CLINICAL if clinical else value["coarse_selection_type"],
            value["taxon"],
            value["MSA_Neff_L_category"],
        )
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
    if not is_protein(info.target):
        raise DataError(
            f"{where}: target_seq of {info.dms_id} is empty or holds a character that is no "
            "amino-acid letter."
        )
    if not info.clinical and info.selection_type not in SELECTION_TYPES:
        raise DataError(
            f"{where}: coarse_selection_type of {info.dms_id} is {info.selection_type!r}, not one "
            f"of {', '.join(SELECTION_TYPES)}; the official average needs it."
        )
