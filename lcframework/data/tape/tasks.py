"""What the tasks are: files, labels, classes, metric (Rao et al. 2019, section 4, and TAPE's code).

`go_function` is ours: multiclass molecular function, where remote homology's sequences are not at
hand. It has the head and the metric of remote homology.
"""

from dataclasses import dataclass
from pathlib import Path

from lcframework.data.tape.records import SUFFIXES
from lcframework.errors import ConfigError, DataError

RESIDUE, CLASS, VALUE, CONTACT = "residue", "class", "value", "contact"
REBUILT = "rebuilt split, not comparable with TAPE's leaderboard"
OFFICIAL = "TAPE's split"


@dataclass(frozen=True)
class TapeTaskSpec:
    """One task.

    Attributes:
        name: as in TAPE's code.
        kind: a class per residue, a class or a value per protein, or contacts.
        stem: files are `<stem>_<split>` in the data folder or in a folder `<stem>` of it.
        labels: keys of a record that hold the label; the first that is there counts.
        tests: names of test splits; those that are there are tested.
        metric: name of the score, higher is better.
        classes: number of classes where the task fixes it; 0: as many as the data have.
        tape: whether TAPE has this task.
    """

    name: str
    kind: str
    stem: str
    labels: tuple[str, ...]
    tests: tuple[str, ...]
    metric: str
    classes: int = 0
    tape: bool = True


_HOLDOUTS = ("test_fold_holdout", "test_superfamily_holdout", "test_family_holdout")
TASKS = {
    spec.name: spec
    for spec in (
        TapeTaskSpec(
            "secondary_structure", RESIDUE, "secondary_structure", ("ss3",),
            ("cb513", "ts115", "casp12", "test"), "accuracy", 3,
        ),
        TapeTaskSpec(
            "remote_homology", CLASS, "remote_homology", ("fold_label",), _HOLDOUTS, "accuracy",
            1195,
        ),
        TapeTaskSpec(
            "fluorescence", VALUE, "fluorescence", ("log_fluorescence",), ("test",), "spearman"
        ),
        TapeTaskSpec(
            "stability", VALUE, "stability", ("stability_score", "ddG"), ("test",), "spearman"
        ),
        TapeTaskSpec(
            "contact_prediction", CONTACT, "proteinnet", ("tertiary",), ("test",),
            "precision_at_l5", 2,
        ),
        TapeTaskSpec(
            "go_function", CLASS, "go_function", ("label",), ("test",), "accuracy", tape=False
        ),
    )
}  # fmt: skip


def task_spec(name: str) -> TapeTaskSpec:
    """The task of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in TASKS:
        raise ConfigError(f"data.task={name}: choose one of {', '.join(TASKS)}.")
    return TASKS[name]


def split_note(spec: TapeTaskSpec, official: bool) -> str:
    """What every table says of where its numbers come from.

    Raises:
        ConfigError: an official split of a task that TAPE does not have.
    """
    if official and not spec.tape:
        raise ConfigError(f"data.official=true: TAPE has no task {spec.name}. Leave it out.")
    return OFFICIAL if official else REBUILT


def find_split(folder: Path, spec: TapeTaskSpec, split: str) -> Path | None:
    """The file of a split, in the folder itself or in TAPE's layout; None where there is none.

    Raises:
        DataError: the folder is missing, or there are several files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Name the one with TAPE's files.")
    name = f"{spec.stem}_{split}"
    found = [
        path
        for where in (folder, folder / spec.stem)
        for suffix in SUFFIXES
        if (path := where / (name + suffix)).exists()
    ]
    if len(found) > 1:
        shown = ", ".join(map(str, found))
        raise DataError(f"There are several files of {name}: {shown}. Keep one.")
    return found[0] if found else None
