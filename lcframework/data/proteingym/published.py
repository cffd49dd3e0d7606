"""Published scores of other models, one row per assay, as ProteinGym ships them."""

from pathlib import Path

from lcframework.data.proteingym.csv_table import read_csv_table
from lcframework.errors import DataError

FILE_NAMES = ("baseline_spearman.csv", "DMS_substitutions_Spearman_DMS_level.csv")
ID_COLUMNS = ("DMS ID", "DMS_id")
NOT_MODELS = (
    "Number of Mutants",
    "number_mutants",
    "Selection Type",
    "UniProt ID",
    "UniProt_ID",
    "MSA_Neff_L_category",
    "Taxon",
)

Published = dict[str, dict[str, float]]
"""model -> DMS_id -> Spearman; an assay without a published value is absent."""


def published_file(folder: Path) -> Path | None:
    """The file of published Spearman correlations in a ProteinGym folder, if there is one."""
    return next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)


def read_published(path: Path) -> Published:
    """Read published Spearman correlations.

    Args:
        path: a file with a column of assay ids and one column per model.

    Raises:
        DataError: there is no column of ids or a value is no number.
    """
    table = read_csv_table(path)
    key = next((name for name in ID_COLUMNS if name in table.header), None)
    if key is None:
        raise DataError(f"{path}, line 1: no column is called {' or '.join(ID_COLUMNS)}.")
    ids = table.column(key)
    found: Published = {}
    for model in table.header:
        if model == key or model in NOT_MODELS or not model:
            continue
        values = zip(ids, table.column(model), table.lines, strict=True)
        found[model] = {
            name: _number(path, line, model, text) for name, text, line in values if text
        }
    return found


def _number(path: Path, line: int, model: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{path}, line {line}: {text!r} under {model!r} is no number. Remove it or leave the "
            "field empty."
        ) from error
