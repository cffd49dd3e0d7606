"""The runs of `focused_table.py`: what each is, and how they share one device.

Runs are independent processes' work: a small model leaves most of a GPU idle between its kernels,
so several train at the same time. A run that is complete is passed over, one that was stopped goes
on from its checkpoint and its answers.
"""

import json
import multiprocessing
import os
import queue
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VANILLA, LONG, RETRIEVAL = "vanilla", "vanilla_equal_compute", "vanilla_retrieval"
THREE_SEEDS = (VANILLA, "full", "augmentation", LONG, RETRIEVAL)
ONE_SEED = ("consistency", "contrast", "full_oracle", "full_random", "raft")
CONTRASTIVE = ("full", "contrast", "full_oracle", "full_random")
EQUAL_COMPUTE = 3
"""Passes of a cached step with two views of one length over those of vanilla training. With frozen
weights a backward pass costs about one forward pass (the gradient of the activations, not of the
weights): 2 x (1 + 1 + 1) against 1 + 1."""
SLACK = 20.0
"""Seconds before the end in which no run is begun."""


@dataclass(frozen=True)
class Run:
    """One training with its test, or a grid point of the tuning.

    Attributes:
        variant: of conf/variant, or `LONG`.
        seed: of the run.
        lr: peak learning rate.
        steps: of training.
        tuning: validation alone, no test.
    """

    variant: str
    seed: int
    lr: float
    steps: int
    tuning: bool = False

    @property
    def name(self) -> str:
        """Of the run's folder."""
        if self.tuning:
            return f"tune/{self.variant}_lr{self.lr:g}_steps{self.steps}"
        return f"{self.variant}_seed{self.seed}"

    @property
    def needs(self) -> str | None:
        """Name of the run that must be complete before."""
        return f"{VANILLA}_seed{self.seed}" if self.variant == RETRIEVAL else None

    def folder(self, root: Path) -> Path:
        """Where it is kept."""
        return root / self.name

    def done(self, root: Path) -> bool:
        """Whether it is complete."""
        return (self.folder(root) / "results.json").is_file()


def planned(given: Any, rates: dict[str, float]) -> list[Run]:
    """All runs, the most wanted first."""
    found = []
    for seed in (1, 2, 3)[: given.seeds]:
        for variant in (*THREE_SEEDS, *(ONE_SEED if seed == 1 else ())):
            if variant in given.variants:
                steps = round(given.steps * (given.equal_compute if variant == LONG else 1))
                rate = rates["full" if variant in CONTRASTIVE else VANILLA]
                found.append(Run(variant, seed, rate, steps))
    # All seeds of the four compared in earnest before the variants of one seed.
    return sorted(found, key=lambda run: run.variant in ONE_SEED)


def grid(given: Any) -> list[Run]:
    """The points of the tuning."""
    return [
        Run(variant, 1, rate, given.tune_steps, tuning=True)
        for rate in given.rates
        for variant in (VANILLA, "full")
    ]


def overrides(run: Run, given: Any) -> list[str]:
    """Of the training command."""
    variant = VANILLA if run.variant == LONG else run.variant
    found = [
        "experiment=focused/ablation", f"variant={variant}", f"seed={run.seed}",
        f"data.questions={given.questions}", f"data.passages={given.passages}",
        f"model.path={given.model}", f"trainer.max_steps={run.steps}", f"optimizer.lr={run.lr}",
        f"task.max_written={given.written}", f"paths.run_dir={run.folder(given.to)}",
        "~callbacks.progress", *given.overrides,
    ]  # fmt: skip
    if run.variant == RETRIEVAL:  # the weights of the vanilla run, another view of the test
        last = sorted((given.to / str(run.needs) / "checkpoints").glob("*.ckpt"))[-1]
        found += ["fit=false", f"ckpt_path={last}"]
    if run.tuning:
        found += [
            "test=false", f"trainer.val_check_interval={run.steps}",
            "trainer.check_val_every_n_epoch=null",
        ]  # fmt: skip
    return found


def carry_out(run: Run, given: Any) -> None:
    """Train and test one run in this process."""
    from hydra import compose

    from lcframework.files import write_json
    from lcframework.run.config import forget_run_id
    from lcframework.run.fit import train

    cfg = compose("train", overrides=overrides(run, given))
    forget_run_id()
    _, objects = train(cfg)
    if run.tuning:
        losses = {
            name: float(value)
            for name, value in objects["trainer"].callback_metrics.items()
            if name.startswith("val/")
        }
        about = {"variant": run.variant, "lr": run.lr, "steps": run.steps, **losses}
        write_json(run.folder(given.to) / "tune.json", about)


def _work(number: int, tasks: Any, done: Any, given: Any) -> None:
    """A worker: one run after the other, all in one process, since starting costs seconds."""
    log = (given.to / f"worker{number}.log").open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    import torch
    from hydra import initialize_config_dir

    from lcframework.paths import conf_dir
    from lcframework.run.app import register

    torch.set_num_threads(given.threads)
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for run in iter(tasks.get, None):
            done.put((run, number, "begun"))
            try:
                carry_out(run, given)
                done.put((run, number, ""))
            except Exception:
                traceback.print_exc()
                done.put((run, number, traceback.format_exc(limit=-1)))


def run_all(runs: Sequence[Run], given: Any, deadline: float) -> dict[str, str]:
    """Carry out what is not complete, on `given.workers` processes, until all is done or time is
    up.

    Args:
        runs: the most wanted first.
        given: options of the command.
        deadline: of `time.time()`.

    Returns:
        By name of a run that failed: its error.
    """
    given.to.mkdir(parents=True, exist_ok=True)
    waiting = [run for run in runs if not run.done(given.to)]
    if not waiting:
        return {}
    context = multiprocessing.get_context("spawn")
    tasks, done = context.Queue(), context.Queue()
    count = min(given.workers, len(waiting))
    workers = [
        context.Process(target=_work, args=(n, tasks, done, given), daemon=True)
        for n in range(count)
    ]
    for worker in workers:
        worker.start()
    running: set[str] = set()
    failed: dict[str, str] = {}
    begun: dict[str, float] = {}
    while time.time() < deadline and (waiting or running):
        _hand_out(waiting, running, failed, count, tasks, given, deadline)
        if not running or not any(worker.is_alive() for worker in workers):
            break
        try:
            run, number, error = done.get(timeout=1.0)
        except queue.Empty:
            continue
        if error == "begun":
            begun[run.name] = time.time()
            continue
        running.discard(run.name)
        if error:
            failed[run.name] = error
        left, took = deadline - time.time(), time.time() - begun[run.name]
        what = f"FAILED: {error}" if error else "done"
        print(f"worker {number}: {run.name} {what} in {took:.0f} s, {left:.0f} s left", flush=True)
    _stop(workers, tasks)
    return failed


def _hand_out(
    waiting: list[Run], running: set[str], failed: dict[str, str], count: int, tasks: Any,
    given: Any, deadline: float,
) -> None:  # fmt: skip
    """Give free workers their next run."""
    while len(running) < count and time.time() < deadline - SLACK:
        ready = [
            run for run in waiting
            if run.needs is None or (given.to / run.needs / "results.json").is_file()
        ]  # fmt: skip
        if not ready:
            if not running:  # what they need will not come
                waiting.clear()
            return
        waiting.remove(ready[0])
        running.add(ready[0].name)
        tasks.put(ready[0])


def _stop(workers: Sequence[Any], tasks: Any) -> None:
    for _ in workers:
        tasks.put(None)
    until = time.time() + 2.0
    for worker in workers:
        worker.join(max(0.0, until - time.time()))
    for worker in workers:
        if worker.is_alive():
            worker.kill()  # it goes on from its last checkpoint and answer next time
            worker.join()


def best_rates(given: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The learning rate of vanilla and of full training with the smallest validation loss of the
    answer, and the whole grid; `given.lr` where nothing was tuned."""
    found = [
        json.loads(path.read_text()) for path in sorted((given.to / "tune").glob("*/tune.json"))
    ]
    rates = {VANILLA: given.lr, "full": given.lr}
    for variant in rates:
        own = [row for row in found if row["variant"] == variant]
        if own:
            rates[variant] = min(own, key=lambda row: row["val/loss"])["lr"]
    return rates, found
