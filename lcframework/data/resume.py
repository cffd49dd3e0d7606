"""Where a Lightning training run stands in its data, and how to continue exactly there.

Lightning 2.6 counts epochs and batches itself, but five of its habits matter for data order:

1. `batch_progress.current` keeps the counts of the finished epoch until the next one has begun.
2. A run that stops inside an epoch (`max_steps`, `max_time`, `should_stop`) counts that epoch as
   processed, so a checkpoint written from then on calls a partial epoch complete. Resumed, it
   either skips the rest or runs it under the next epoch's number.
3. A checkpoint written at a true epoch end and resumed by a trainer with `max_steps` trains one
   batch of the next epoch under the old epoch's counters and calls that epoch complete as well.
4. A checkpoint from on_train_epoch_start, or from within a batch (an exception), miscounts on
   resume: the first skips the epoch, the second shifts the logged steps by one.
5. A loader with workers asks for its first batches before `set_epoch` is called.

`position` turns Lightning's counts into the honest pair (epoch, batches done); `realign` cures
habits 2 to 4. The fifth is cured by `EpochBatchSampler.resume_at`, which sets the epoch at once.
What Lightning itself does not make up for stays as it is: a validation due at the very batch after
which the checkpoint was written is not run again.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lightning import Trainer

from lcframework.data.batching import EpochBatchSampler
from lcframework.errors import DataError


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
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    done = batches.processed
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
    """Correct a restored trainer's counters where Lightning would not continue at `place`.

    To be called when the train loader is asked for, which is after the counters were restored and
    before the loop reads them. A checkpoint from between two batches needs no correction.

    Args:
        trainer: a trainer about to fit.
        place: what `position` said when the checkpoint was written.
    """
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress
    batches: Any = loop.epoch_loop.batch_progress
    if not loop._loaded_from_state_dict:
        return
    for counts in (epochs.current, epochs.total):
        counts.ready = counts.started
    epoch_ended = epochs.current.processed >= epochs.current.ready
    in_flight = batches.current.ready > batches.current.processed
    if epoch_ended and place.batches_done == 0:
        # The next epoch is a fresh one. The loop's own setter would overrule this under max_steps,
        # so its field is set, and the inner loops' through their setter.
        loop._restarting = False
        loop.epoch_loop.restarting = False
        return
    if epoch_ended:
        for counts in (epochs.current, epochs.total):
            counts.processed = counts.completed = counts.ready - 1
    if epoch_ended or in_flight:
        _rewind_to_batch_end(loop.epoch_loop)
        loop.restarting = True


def _rewind_to_batch_end(loop: Any) -> None:
    """The counters of a checkpoint from on_train_batch_end, which Lightning resumes exactly.

    The last batch is then processed but not completed, and not yet counted as a logged step.
    """
    progress = loop.batch_progress
    for counts in (progress.current, progress.total):
        counts.ready = counts.started = counts.processed
        counts.completed = counts.processed - 1
    progress.is_last_batch = False
    if not loop._should_accumulate():
        loop._batches_that_stepped -= 1


class ResumesInTheData:
    """Mixin of a LightningDataModule: a checkpoint holds the position in the training data, and a
    resumed run continues with the next batch.

    The class says by `plan_settings` what the order of the batches depends on, and calls
    `resume_sampler` when it builds the train loader.
    """

    _restored: Mapping[str, Any] = {}

    def plan_settings(self) -> dict[str, Any]:
        """What the batches of an epoch depend on; empty before there are training data."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Position in the training data; empty without a trainer that has trained."""
        trainer = getattr(self, "trainer", None)
        plan = {} if trainer is None else self.plan_settings()
        return {**asdict(position(trainer)), "plan": plan} if trainer is not None and plan else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Remember a position; the next train loader continues there."""
        self._restored = dict(state_dict)

    def resume_sampler(self, sampler: EpochBatchSampler) -> None:
        """Move a new sampler to the remembered position, if there is one.

        Raises:
            DataError: the checkpoint stopped inside an epoch of other batches.
        """
        if not self._restored:
            return
        place = Position(self._restored["epoch"], self._restored["batches_done"])
        before, now = self._restored["plan"], self.plan_settings()
        differing = [name for name in now if now[name] != before[name]]
        if place.batches_done and differing:
            changes = ", ".join(f"{name} {before[name]} (now {now[name]})" for name in differing)
            raise DataError(
                f"The checkpoint stopped inside epoch {place.epoch} of other training batches: "
                f"{changes}. Resume with the old values, or start a new run from its weights alone."
            )
        sampler.resume_at(place.epoch, place.batches_done)
        trainer = getattr(self, "trainer", None)
        if trainer is not None:
            realign(trainer, place)
            # Lightning looks for a state in the loader; here the sampler's position does the work.
            warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
