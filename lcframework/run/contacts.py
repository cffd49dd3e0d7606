"""`lcf contacts`: a protein's predicted contacts as numbers and a picture; precision where its
structure is known."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcframework.data.contact_map import contact_map
from lcframework.data.structure import require_biopython, residue_places
from lcframework.data.tape.proteins import protein_of
from lcframework.data.tape.records import SUFFIXES as TAPE_SUFFIXES
from lcframework.data.tape.records import read_records
from lcframework.data.tape.tasks import TASKS
from lcframework.errors import ConfigError, DataError
from lcframework.files import replace_file, save_figure, write_csv
from lcframework.run.variant_scores import inference_for, one_protein, refuse_existing
from lcframework.scoring.contacts import precision_table
from lcframework.tasks.contacts import predicted_contacts
from lcframework.tasks.variant_effects.inference import MAX_TOKENS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HowToPredict:
    """The options of the command.

    Attributes:
        structure: PDB or mmCIF file, or a file of TAPE's contact task that has the protein; None:
            precision is not measured.
        chain: of the structure; None for the one that fits.
        max_tokens: of a pack.
        device: "auto", "cpu" or "cuda".
        precision: "32" or "bf16".
    """

    structure: Path | None = None
    chain: str | None = None
    max_tokens: int = MAX_TOKENS
    device: str = "auto"
    precision: str = "32"


def contacts(fasta: Path, model: str, output: Path, how: HowToPredict) -> list[dict[str, Any]]:
    """Predict the contacts of a protein.

    Args:
        fasta: file with one record.
        model: run directory, *.ckpt file or Hugging Face folder.
        output: name of the files without a suffix: `.npz` with `scores` (L, L), `contacts` (L, L;
            1, 0, -1 unknown; only with a structure), `sequence` and `about`; `.png`; with a
            structure `.csv`, the precisions. None of them may exist.
        how: the options.

    Returns:
        The rows of the precision table; empty without a structure.

    Raises:
        LCFrameworkError: a bad file, model or setting; nothing is written then.
    """
    files = {kind: output.with_name(f"{output.name}.{kind}") for kind in ("npz", "png", "csv")}
    for path in files.values():
        refuse_existing(path)
    if how.chain is not None and how.structure is None:
        raise ConfigError("--chain has no effect without --structure. Leave it out, or give both.")
    name, sequence = one_protein(fasta)
    known, source = (None, "") if how.structure is None else _known(how, sequence)
    inference = inference_for(model, how.max_tokens, how.device, how.precision)
    started = time.perf_counter()
    scores = predicted_contacts(inference, sequence)
    seconds = time.perf_counter() - started
    rows = [] if known is None else precision_table(scores, known)
    arrays = {
        "scores": scores.astype(np.float32),
        "sequence": np.array(sequence),
        "about": np.array(["categorical Jacobian, APC", f"model {model}", f"structure {source}"]),
        **({} if known is None else {"contacts": known}),
    }
    replace_file(files["npz"], lambda temporary: np.savez(temporary, **arrays))  # type: ignore[arg-type]
    save_figure(contacts_figure(scores, known, name, rows), files["png"])
    if rows:
        write_csv(files["csv"], rows, "no pairs")
    log.info(
        "%s: %d residues in %.1f s on %s.", *(output, len(sequence), seconds, inference.device)
    )
    for row in rows:
        shown = ", ".join(f"{k} {_text(row[k])}" for k in ("P@L", "P@L/2", "P@L/5", "random"))
        log.info("separation >= %s: %s (%s)", row["separation"], shown, source)
    if known is None:
        log.info("Precision: not measured, no --structure was given.")
    return rows


def _text(value: Any) -> str:
    return "no pairs" if value is None else f"{value:.3f}"


def _known(how: HowToPredict, sequence: str) -> tuple[NDArray[np.int8], str]:
    """The contact map, and where it comes from in words."""
    path = how.structure
    assert path is not None
    if any(path.name.endswith(suffix) for suffix in TAPE_SUFFIXES):
        if how.chain is not None:
            raise ConfigError(f"--chain has no effect on {path}, a file of TAPE. Leave it out.")
        spec = TASKS["contact_prediction"]
        for index, (where, record) in enumerate(read_records(path)):
            if record.get("primary") == sequence:
                return contact_map(protein_of(where, record, spec, index).label), where
        raise DataError(f"{path}: no record's `primary` is the sequence of the FASTA file.")
    require_biopython(path)
    places, chain = residue_places(path, sequence, how.chain)
    resolved = int((~np.isnan(places[:, 0])).sum())
    return contact_map(places), f"{path}, chain {chain}, {resolved} of {len(sequence)} residues"


def contacts_figure(
    scores: NDArray[np.floating], known: NDArray[np.int8] | None, name: str, rows: list
) -> Any:
    """Scores above the diagonal; below it the L best pairs, right ones in another colour where the
    structure is known, on its contacts in grey."""
    from matplotlib.figure import Figure

    length = len(scores)
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    axes = figure.subplots()
    upper = np.where(np.tri(length, k=0, dtype=bool), np.nan, scores)
    image = axes.imshow(upper, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, label="score (Jacobian, APC)", shrink=0.8)
    if known is not None:
        below = np.tri(length, k=-1, dtype=bool) & (known > 0)
        axes.scatter(*np.nonzero(below)[::-1], s=4, color="0.8", label="contact, structure")
    first, second = np.triu_indices(length, 6)
    best = np.argsort(-scores[first, second], kind="stable")[:length]
    i, j = first[best], second[best]
    right = np.zeros(len(best), dtype=bool) if known is None else known[i, j] > 0
    for chosen, colour, label in ((right, "tab:blue", "right"), (~right, "tab:red", "not")):
        if known is None:
            colour, label = "tab:red", "L best"
        if chosen.any():
            axes.scatter(i[chosen], j[chosen], s=6, color=colour, label=label)
    title = f"{name}, {length} residues"
    if rows and rows[0]["P@L"] is not None:
        title += f"; P@L {rows[0]['P@L']:.2f} at separation >= 6, guessing {rows[0]['random']:.2f}"
    axes.set(title=title, xlabel="residue", ylabel="residue")
    axes.legend(fontsize=8, loc="lower left")
    return figure
