"""What Lightning does for a notebook and a command line must not: advertise, and exit on Ctrl-C."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

UNWANTED = ("Tip:", "TPU available", "HPU available", "💡", "`weights_only` was not set")
SPEAKERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
)


def _is_wanted(record: logging.LogRecord) -> bool:
    return not any(word in record.getMessage() for word in UNWANTED)


def quiet_lightning() -> None:
    """Drop Lightning's advertising tips and hints that do not apply to our loaders; its warnings
    stay."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # Hydra's handlers print the same lines
    for name in SPEAKERS:
        logging.getLogger(name).addFilter(_is_wanted)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*srun. command is available.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* is not empty.*")
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
    # A task that optimises by hand is saved after its step, which is what a resume needs.
    warnings.filterwarnings("ignore", message=".*ModelCheckpoint with manual optimization.*")
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C inside the block arrive as `KeyboardInterrupt`; Lightning turns it into a silent
    exit with code 1."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise
