"""A W&B logger whose id lives in the run directory, so that a requeued run continues its own
dashboard."""

import secrets
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

ID_FILE = "wandb_id"


def wandb_logger(
    folder: str, project: str, group: str | None = None, **options: Any
) -> WandbLogger:
    """Make the logger.

    Args:
        folder: the run directory; its `wandb/` holds the offline files, its `wandb_id` the id.
        project: W&B project.
        group: runs shown together, for example the seeds of one experiment.
        **options: passed to `WandbLogger`.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    id_file = path / ID_FILE
    if id_file.is_file():
        run = id_file.read_text().strip()
    else:
        run = secrets.token_hex(4)
        id_file.write_text(run + "\n")
    return WandbLogger(
        save_dir=folder,
        project=project,
        group=group,
        id=run,
        name=path.name,
        resume="allow",
        **options,
    )
