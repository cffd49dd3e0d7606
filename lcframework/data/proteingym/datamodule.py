"""ProteinGym's assays as test data, one target at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lcframework.data.proteingym.assays import ON_BAD
from lcframework.data.proteingym.folder import Folder, TargetAssays, find_assays, read_targets
from lcframework.data.proteingym.published import Published, published_file, read_published
from lcframework.errors import ConfigError


class ProteinGymDataModule(LightningDataModule):
    """The assays of a folder in ProteinGym's format; a batch is a `TargetAssays`.

    Args:
        path: folder with the reference file and the assays' CSV files.
        reference: the reference file, if it lies elsewhere.
        assays: DMS ids to keep; None for every assay whose file is there.
        bad_mutants: "refuse" or "drop" variants that do not fit their target.
        max_variants: of an assay, for a quick look; None for all.

    Raises:
        ConfigError: no folder is given or a setting is out of range.
    """

    def __init__(
        self,
        path: str | Path | None,
        reference: str | Path | None = None,
        assays: Sequence[str] | None = None,
        bad_mutants: str = "refuse",
        max_variants: int | None = None,
    ) -> None:
        super().__init__()
        if path is None:
            raise ConfigError(
                "ProteinGym's folder is not given: add data.path=DIR, the folder that holds "
                "DMS_substitutions.csv and the assays' CSV files."
            )
        if bad_mutants not in ON_BAD:
            raise ConfigError(f"data.bad_mutants={bad_mutants}: choose one of {', '.join(ON_BAD)}.")
        if max_variants is not None and max_variants < 2:
            raise ConfigError(f"data.max_variants={max_variants}: it must be at least 2.")
        self.inputs = {"test": path}
        self.path = Path(path)
        self.reference = reference
        self.assays = None if assays is None else list(assays)
        self.bad_mutants = bad_mutants
        self.max_variants = max_variants
        self._folder: Folder | None = None
        self._targets: list[TargetAssays] = []

    @property
    def folder(self) -> Folder:
        """The assays that are there."""
        if self._folder is None:
            self._folder = find_assays(self.path, self.reference, self.assays)
        return self._folder

    def setup(self, stage: str | None = None) -> None:
        """Read and check the assays.

        Raises:
            DataError: a file is missing or bad.
        """
        if not self._targets:
            self._targets = read_targets(self.folder, self.bad_mutants, self.max_variants)

    def published(self) -> Published:
        """Published Spearman correlations that lie in the folder; empty where there are none."""
        file = published_file(self.path)
        return {} if file is None else read_published(file)

    def test_dataloader(self) -> DataLoader:
        """Loader of `TargetAssays`."""
        # A list is all that a map-style data set needs to be.
        return DataLoader(cast(Dataset[Any], self._targets), batch_size=None)

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What `results.json` records: `path`, `fingerprint`, `n` variants, `assays`, `listed`."""
        assays = [assay for target in self._targets for assay in target.assays]
        return {
            "path": [str(self.path)],
            "fingerprint": self.folder.fingerprint(),
            "n": sum(len(assay) for assay in assays),
            "assays": len(assays),
            "listed": self.folder.listed,
            "dropped": sum(sum(assay.dropped.values()) for assay in assays),
        }
