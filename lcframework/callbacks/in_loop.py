"""What every scoring protocol in the training loop shares: when it runs, and that it leaves no
trace.

Random generators, modes and gradients are as before afterwards, so the loss trace is that of the
same run without the callback.
"""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lcframework.callbacks.exact_resume import capture_random_state, restore_random_state
from lcframework.callbacks.length_report import SHARDED
from lcframework.callbacks.logged_media import log_picture, log_table
from lcframework.errors import ConfigError
from lcframework.files import write_csv
from lcframework.tasks.variant_effects.inference import Inference

log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]
Metrics = dict[str, dict[str, Any]]


class InLoop(Callback):
    """Runs a protocol every N optimizer steps and at the end of training.

    A subclass reads its data in `prepare`, scores in `look` and writes in `report`. Each time, the
    values go to the loggers and to `figures/<name>_steps.csv`, the tables and the picture to
    `figures/` and to the loggers that take them (see `logged_media`). Works with any task that
    keeps its network as `model`.

    Args:
        name: of the callback in the config and of its files.
        folder: the run directory.
        every_n_steps: optimizer steps between two looks; None: only at the end of training.
        max_tokens: of a pack.

    Attributes:
        steps: one row per look.
        results: `{"metrics", "tables"}` of the last look; the table `<name>_steps` is of all.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self, name: str, folder: str | Path, every_n_steps: int | None, max_tokens: int
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"callbacks.{name}.every_n_steps={every_n_steps}: at least 1.")
        self.name = name
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.max_tokens = max_tokens
        self.steps: Rows = []
        self.results: dict[str, Any] = {}

    def prepare(self) -> None:
        """Read the data; called before the first step, so that a bad file costs no training."""
        raise NotImplementedError

    def look(self, trainer: pl.Trainer, pl_module: Any, inference: Inference) -> Metrics:
        """Score the network as it is; every rank calls it and returns the same values."""
        raise NotImplementedError

    def report(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Rows]:
        """After each look: on rank 0 write the tables, and the picture as `figures/<name>.png`;
        returns the tables by name."""
        raise NotImplementedError

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the data and refuse a strategy under which ranks would wait for each other.

        Raises:
            ConfigError: the strategy shards the weights.
            DataError: a file is bad.
        """
        if stage != "fit":
            return
        strategy = type(trainer.strategy).__name__
        if strategy in SHARDED:
            raise ConfigError(
                f"{strategy} shards the network, and ranks with unequal numbers of proteins would "
                f"wait for each other for ever. Leave out callbacks.{self.name} and score the "
                "run's checkpoints afterwards."
            )
        self.prepare()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look, if it is time."""
        step = trainer.global_step
        due = self.every_n_steps is not None and step and step % self.every_n_steps == 0
        if due and not self._seen(step):
            self._look(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the trained network."""
        self._look(trainer, pl_module)

    def _seen(self, step: int) -> bool:
        return bool(self.steps) and self.steps[-1]["step"] == step

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        precision = trainer.strategy.precision_plugin.forward_context
        network: Any = pl_module.model
        before = capture_random_state()
        try:
            metrics = self.look(trainer, pl_module, Inference(network, self.max_tokens, precision))
            tables = self.report(trainer, pl_module)
            if not self._seen(trainer.global_step):
                self._keep(trainer, {key: one["value"] for key, one in metrics.items()}, tables)
        finally:
            restore_random_state(before)
        steps = {f"{self.name}_steps": list(self.steps)}
        self.results = {"metrics": metrics, "tables": tables | steps}
        if hasattr(pl_module, "forget_step_time"):
            pl_module.forget_step_time()  # type: ignore[operator]

    def _keep(
        self, trainer: pl.Trainer, values: dict[str, float | None], tables: dict[str, Rows]
    ) -> None:
        """Add the look to `steps` and to the loggers."""
        self.steps.append({"step": trainer.global_step, **values})
        known = {key: one for key, one in values.items() if one is not None}
        # The step that has just been done, as Lightning counts it for training scalars.
        step = trainer.global_step - 1
        for logger in trainer.loggers:
            logger.log_metrics(known, step=step)
        if not trainer.is_global_zero:
            return
        figures = self.folder / "figures"
        for name, rows in tables.items():
            log_table(trainer, f"{self.name}/tables/{name}", rows, step)
        log_picture(trainer, f"{self.name}/picture", figures / f"{self.name}.png", step)
        write_csv(figures / f"{self.name}_steps.csv", self.steps, "undefined")
        shown = ", ".join(f"{key.partition('/')[2]} {one:.3f}" for key, one in known.items())
        log.info("%s at step %s: %s", self.name, f"{trainer.global_step:,}", shown)

    def state_dict(self) -> dict[str, Any]:
        """The looks so far, so that a resumed run keeps them."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the looks of the run being resumed."""
        self.steps = list(state_dict["steps"])
