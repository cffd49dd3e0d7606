"""Where a Lightning training run stands in its data, and how to continue exactly there.

Lightning 2.6 counts epochs and batches itself, but four of its habits matter for data order:

1. `batch_progress.current` keeps the counts of the finished epoch until the next one has begun.
2. A run that stops inside an epoch (`max_steps`, `max_time`, `should_stop`) counts that epoch as
   processed, so a checkpoint written afterwards calls a partial epoch complete.
3. Such a checkpoint, and one written at a true epoch end, is resumed differently depending on
   whether the new trainer has `max_steps`.
4. A loader with workers asks for its first batches before `set_epoch` is called.

`position` turns Lightning's counts into the honest pair (epoch, batches done). `realign` undoes the
second and third habit when a run is resumed, by putting the counters into one of the two states
that Lightning itself handles well: between two epochs, or between two batches.
"""

from dataclasses import dataclass
from typing import Any

from lightning import Trainer


@dataclass(frozen=True)
class Position:
    """A place between two batches.

    Attributes:
        epoch: epoch to continue in.
        batches_done: batches of it that have been trained on, per rank; less than the epoch has.
    """

    epoch: int
    batches_done: int


def position(trainer: Trainer) -> Position:
    """Where training stands, whichever hook asks."""
    epochs = trainer.fit_loop.epoch_progress.current
    done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    finished = done >= trainer.num_training_batches
    if epochs.started < epochs.ready:
        # on_train_epoch_start: the batch counts are still the last epoch's.
        return Position(epochs.processed, 0)
    if epochs.processed < epochs.ready:
        return Position(epochs.processed + 1, 0) if finished else Position(epochs.processed, done)
    if done == 0 or finished:
        return Position(epochs.processed, 0)
    return Position(epochs.processed - 1, done)


def realign(trainer: Trainer, place: Position) -> None:
    """Make a restored trainer's counters say `place`.

    To be called when the train loader is asked for, which is after the counters were restored and
    before the loop reads them.

    Args:
        trainer: a trainer about to fit from a checkpoint.
        place: what `position` said when the checkpoint was written.
    """
    loop = trainer.fit_loop
    if not loop.restarting and not loop._loaded_from_state_dict:
        return
    progress, batches = loop.epoch_progress, loop.epoch_loop.batch_progress
    in_epoch = place.batches_done > 0
    started = place.epoch + in_epoch
    _shift(progress, ready=started, started=started, processed=place.epoch, completed=place.epoch)
    done = place.batches_done
    _shift(batches, ready=done, started=done, processed=done, completed=done)
    batches.is_last_batch = False
    loop.restarting = in_epoch


def _shift(progress: Any, **counts: int) -> None:
    """Set the current counts, and change the totals by as much."""
    for name, value in counts.items():
        change = value - getattr(progress.current, name)
        setattr(progress.current, name, value)
        setattr(progress.total, name, getattr(progress.total, name) + change)
