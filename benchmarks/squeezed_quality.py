"""What squeezed attention and its baselines lose, on small real models: LongBench items, documents
with many questions, key-value retrieval, needles.

SmolLM2 (8k tokens) and Gemma-3-270M (32k), dense against Squeeze 70, 80, 90, hierarchical 90, and
at the measured budgets of Squeeze 90 (answers and tokens) and 70 (tokens only) Quest, SnapKV in two
versions, recent window and sinks, an oracle, random tokens.

Run: python benchmarks/squeezed_quality.py --data FOLDER [--models smollm2] [--minutes 8]
FOLDER holds longbench/, qa/prefixqa.jsonl.xz and kv_retrieval/kv_75.jsonl.xz; the models are
fetched before (`lcf models get NAME`, or $LCF_MODELS). Plans and answers are kept in --work: the
same command goes on where an earlier one stopped. Writes results/squeezed/: results.json,
config.json, and per model the tables as CSV and pictures.

Stages, each a process of its own: the plan of each model; alone on the device what preparing and
answering cost; workers that share the documents; the tables, which count what time did not allow.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import RESULTS
from squeezed_items import SETUPS, Unit, key_of, plan, read_plan, write_plan

from lcframework.callbacks.answer_store import AnswerStore
from lcframework.errors import LCFrameworkError, RunDirError
from lcframework.files import write_json

OUT, WORK = RESULTS / "squeezed", Path("runs/squeezed_quality")
LAST_STAGE, GRACE = 40.0, 25.0
"""Seconds kept for the tables; of these a worker may use some to finish its document."""
COST_SHARE = 0.2
"""Of the time left, for measuring each model's costs; a slower device does without."""
SETTINGS = (
    "longbench", "documents", "questions", "kv_rows", "kv_keys", "needles", "lengths",
    "gold_tokens", "max_new", "dtype", "seed",
)  # fmt: skip
"""Options that an answer depends on."""


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(SETUPS), choices=list(SETUPS))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, default=WORK, help="plans and answers")
    parser.add_argument("--minutes", type=float, default=8.0, help="all stages together")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[8, 4], help="processes, per model or for each"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--longbench", type=int, default=3, help="items per task; 0: none")
    parser.add_argument("--documents", type=int, default=4, help="of each PrefixQA source")
    parser.add_argument("--questions", type=int, default=12, help="per document at most")
    parser.add_argument("--kv-rows", type=int, default=8)
    parser.add_argument("--kv-keys", type=int, default=12, help="asked of each row")
    parser.add_argument("--needles", type=int, default=3, help="of each kind and length")
    parser.add_argument("--lengths", type=int, nargs="+", help="of needle prompts, in tokens")
    parser.add_argument("--gold-tokens", type=int, default=40)
    parser.add_argument("--max-new", type=int, default=40, help="answers are cut there")
    parser.add_argument("--batch", type=int, default=16, help="questions at a time")
    parser.add_argument("--seed", type=int, default=0, help="of clustering and random tokens")
    parser.add_argument("--stage", choices=("plan", "work", "cost", "tables"), help="for itself")
    parser.add_argument("--part", default="0/1", help="for itself")
    parser.add_argument("--deadline", type=float, help="for itself")
    return parser.parse_args(arguments)


def load(name: str, given: argparse.Namespace) -> tuple[Any, Any]:
    from lcframework.models.llm.load import load_llm

    return load_llm(name, dtype=given.dtype, device=given.device, attn_implementation="squeezed")


def method_runs(seed: int) -> list[Any]:
    """Everything compared, in the order of the tables."""
    from lcframework.models.squeezed.methods import Method
    from lcframework.tasks.paired_answers import MethodRun

    runs = [MethodRun("dense, text order", Method(method="dense"), writes=False)]
    for percent in (70, 80, 90):
        runs.append(MethodRun(f"squeeze {percent}", Method(sparsity=percent / 100, levels=1)))
    runs.append(MethodRun("hierarchical 90", Method(sparsity=0.9)))
    names = ("quest", "snapkv", "snapkv_question", "recent", "oracle", "random")
    for percent, writes in ((90, True), (70, False)):
        for name in names:
            runs.append(
                MethodRun(
                    f"{name} @ squeeze {percent}",
                    Method(method=name, seed=seed),
                    like=f"squeeze {percent}",
                    writes=writes,
                )
            )
    return runs


def build(model: Any, tokenizer: Any, fixed: Any, seed: int) -> Any:
    from lcframework.models.llm.prompts import PromptParts
    from lcframework.models.squeezed import SqueezedContext

    return SqueezedContext.build(
        model, tokenizer, fixed, prompt=PromptParts("", "", ""), seed=seed, chunk=4096
    )


def plan_stage(given: argparse.Namespace) -> None:
    """Write the plan of one model."""

    (name,) = given.models
    _, tokenizer = load(name, argparse.Namespace(**vars(given) | {"device": "cpu"}))
    units, refused = plan(tokenizer, SETUPS[name], given)
    write_plan(given.work / name / "plan.json", units, refused)
    questions = sum(len(unit.prompts) for unit in units)
    print(f"{name}: {questions} questions about {len(units)} documents, {len(refused)} refused")


def work_stage(given: argparse.Namespace) -> None:
    """Answer and compare every n-th document of one model, until the deadline."""
    import torch

    from lcframework.scoring.suites import score_answer
    from lcframework.tasks.paired_answers import PairedReader

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    (name,) = given.models
    part, parts = map(int, given.part.split("/"))
    units, _ = read_plan(given.work / name / "plan.json")
    digests = {key_of(p.item): p.item.digest for unit in units for p in unit.prompts}
    store = AnswerStore(given.work / name / "answers", part)
    done = store.read(digests)
    model, tokenizer = load(name, given)
    reader = PairedReader(model, tokenizer, given.gold_tokens, given.max_new, given.batch, "masked")
    runs, longest = method_runs(given.seed), 0.0
    for unit in units[part::parts]:
        if all(key_of(one.item) in done for one in unit.prompts):
            continue
        start = time.time()
        if start + longest > given.deadline:
            break
        context = build(model, tokenizer, unit.prompts[0].fixed, given.seed)
        found = reader.read(context, unit.prompts, runs)
        seconds = time.time() - start
        for prompt, readings in zip(unit.prompts, found, strict=True):
            store.append(_record(prompt, readings, context, seconds, score_answer))
        del context
        longest = max(longest, seconds)


def _record(
    prompt: Any, readings: dict[str, Any], context: Any, seconds: float, score: Any
) -> dict[str, Any]:
    item = prompt.item
    rows = {}
    for method, reading in readings.items():
        rows[method] = reading.as_dict()
        rows[method]["score"] = None
        if reading.text is not None:
            rows[method]["score"] = score(
                item.suite, item.task, reading.text, item.references, item.all_classes
            )
    return {
        "key": key_of(item),
        "digest": item.digest,
        "suite": item.suite,
        "task": item.task,
        "document": item.document,
        "references": list(item.references),
        "prompt_tokens": prompt.tokens,
        "context_tokens": context.length,
        "truncated": prompt.truncated,
        "layers": context.squeezed_layers,
        "build": context.facts,
        "document_s": seconds,
        "readings": rows,
    }


def cost_stage(given: argparse.Namespace) -> None:
    """What preparing a document and answering about it cost, for the longest planned document."""
    from lcframework.models.squeezed.methods import Method
    from lcframework.tasks.method_cost import cost_record

    (name,) = given.models
    units, _ = read_plan(given.work / name / "plan.json")
    unit: Unit = max(units, key=lambda one: len(one.prompts[0].fixed))
    model, tokenizer = load(name, given)
    build(model, tokenizer, unit.prompts[0].fixed[:2000], given.seed)  # libraries warm up
    context = build(model, tokenizer, unit.prompts[0].fixed, given.seed)
    squeezes = {
        **{f"squeeze {p}": Method(sparsity=p / 100, levels=1) for p in (70, 80, 90)},
        "hierarchical 90": Method(sparsity=0.9),
    }
    record = cost_record(context, unit.prompts[0].question, squeezes, new=16)
    write_json(given.work / name / "cost.json", record)


def command(name: str, stage: str, given: argparse.Namespace, *more: str) -> list[str]:
    own = ["--stage", stage, "--models", name, *more]
    return [sys.executable, __file__, *_passed_on(given), *own]


def _passed_on(given: argparse.Namespace) -> list[str]:
    words = []
    for key, value in vars(given).items():
        if value is None or key in ("models", "stage", "part", "deadline"):
            continue
        words.append(f"--{key.replace('_', '-')}")
        words += [str(one) for one in (value if isinstance(value, list) else [value])]
    return words


def run_all(commands: list[list[str]], until: float, threads: int) -> bool:
    """Run processes side by side; those still there at `until` are ended. Whether all succeeded."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    running = [subprocess.Popen(one, env=environment) for one in commands]
    good = True
    for process in running:
        try:
            good &= process.wait(max(1.0, until - time.time())) == 0
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            good = False
            print(f"Ended after the time limit: {' '.join(process.args[-4:])}")  # type: ignore[index]
    return good


def main() -> None:
    given = options()
    try:
        run(given)
    except RunDirError as error:
        raise SystemExit(f"{error} A run_id is here the folder --work.") from error
    except LCFrameworkError as error:
        raise SystemExit(str(error)) from error


def answer_all(given: argparse.Namespace, end: float) -> None:
    """Plan, costs and answers of all models, as far as there is time."""
    settings = {name: getattr(given, name) for name in SETTINGS}
    for name in given.models:
        AnswerStore(given.work / name / "answers").claim(json.loads(json.dumps(settings)))
    workers = dict(zip(given.models, given.workers * len(given.models), strict=False))
    threads = max(1, (os.cpu_count() or 1) // sum(workers.values()))
    new = [one for one in given.models if not (given.work / one / "plan.json").is_file()]
    if not run_all([command(one, "plan", given) for one in new], end, threads):
        raise SystemExit("A plan could not be made; nothing was run.")
    deadline = end - LAST_STAGE
    for name in given.models:
        if not (given.work / name / "cost.json").is_file():
            until = time.time() + COST_SHARE * (deadline - time.time())
            run_all([command(name, "cost", given)], until, os.cpu_count() or 1)
    works = [
        command(name, "work", given, "--part", f"{k}/{count}", "--deadline", str(deadline))
        for name, count in workers.items()
        for k in range(count)
    ]
    if not run_all(works, deadline + GRACE, threads):
        print("A worker did not finish: see above. What it had answered is kept.")


def run(given: argparse.Namespace) -> None:
    """One stage, or all."""
    stages = {"plan": plan_stage, "work": work_stage, "cost": cost_stage}
    if given.stage in stages:
        stages[given.stage](given)
        return
    from squeezed_tables import write_tables

    if given.stage is None:
        answer_all(given, time.time() + 60 * given.minutes)
    write_tables(given)


if __name__ == "__main__":
    main()
