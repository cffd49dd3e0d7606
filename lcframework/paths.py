"""Where the shipped configuration and the embedded sample lie, in a checkout and in an installed
wheel alike."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parent


def conf_dir() -> Path:
    """The folder of shipped Hydra configs: inside the package in a wheel, at the top level in a
    checkout."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _CHECKOUT / "conf"


def sample_dir() -> Path:
    """The folder of the embedded protein sample (`train.fasta.gz`, `valid.fasta.gz`)."""
    packaged = _PACKAGE / "sample"
    return packaged if packaged.is_dir() else _CHECKOUT / "data" / "sample"
