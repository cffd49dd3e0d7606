"""Tables and pictures into the run's loggers, as far as each takes them; scalars are not here.

W&B gets a `wandb.Table` and a `wandb.Image`, TensorBoard a Markdown table and an image. A CSV log
holds scalars only: for it, as for every other logger, the files in `figures/` are the record.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

Rows = Sequence[Mapping[str, Any]]
UNDEFINED = "undefined"


def log_table(trainer: pl.Trainer, key: str, rows: Rows, step: int) -> None:
    """Log rows as a table, on rank 0.

    Args:
        trainer: whose loggers.
        key: the table's name there, such as "proteingym/summary".
        rows: at least one, all with the same keys; None is an undefined number.
        step: as for scalars.
    """
    if not trainer.is_global_zero:
        return
    columns = list(rows[0])
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            data = [[row[name] for name in columns] for row in rows]
            logger.log_table(key, columns=columns, data=data, step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(key, markdown(rows), step)


def log_picture(trainer: pl.Trainer, key: str, path: Path, step: int) -> None:
    """Log a PNG file as an image, on rank 0; arguments as `log_table`."""
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(path)], step=step)
        elif isinstance(logger, TensorBoardLogger):
            from matplotlib.image import imread

            logger.experiment.add_image(key, imread(path), step, dataformats="HWC")


def markdown(rows: Rows) -> str:
    """Rows as a Markdown table, floats to four digits."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row[k]) for k in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return UNDEFINED
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|").replace("\n", " ")
