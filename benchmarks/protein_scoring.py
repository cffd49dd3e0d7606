"""Every protein score of trained models in one go: ProteinGym, downstream tasks, contacts.

Run: python benchmarks/protein_scoring.py RUN [RUN ...] --data DIR [--structures DIR]
     [--seeds 1 2 3] [--proteins 800] [--tuned-tasks stability ...]
     [--out benchmarks/results/protein_scoring]

RUN is what `lcf score-variants --model` takes. DIR holds `proteingym` and `tape`; structures are
PDB or mmCIF files. A network of the first run's sizes with random weights is scored too, so that
the table shows what training adds. Written are CSV, JSON and PNG of each part, and `models.json`:
what the models are. Downstream: a linear probe in closed form on a fixed choice of proteins, and
TAPE's heads fine-tuned with several seeds on a smaller choice.

Several runs of one network are seeds of its pretraining: each has a row of its own, with its seed
in the name, and `proteingym_seeds` and `tape_probes_seeds` hold the means with Student's interval.
Fine-tuning starts from the first run of each network.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from seed_tables import SEED, seeds_figure, write_seeds

from lcframework.callbacks.best_weights import BestWeights
from lcframework.callbacks.proteingym_report import model_name, write_report
from lcframework.callbacks.proteingym_table import (
    ScoredAssay,
    assay_rows,
    score_assay,
    summary_rows,
    with_published,
)
from lcframework.callbacks.tape_report import TapeReport
from lcframework.callbacks.tape_table import table_rows, write_table
from lcframework.data.contact_map import contact_map
from lcframework.data.proteingym.datamodule import ProteinGymDataModule
from lcframework.data.proteingym.folder import SUBSET_SEED
from lcframework.data.structure import chain_sequences, residue_places
from lcframework.data.tape.datamodule import TRAIN, VALID, TapeDataModule
from lcframework.data.tape.tasks import RESIDUE
from lcframework.errors import LCFrameworkError
from lcframework.files import save_figure, write_csv, write_json
from lcframework.run.networks import find_checkpoint, load_network
from lcframework.run.results import FILE_NAME
from lcframework.scoring.contacts import precision_table
from lcframework.scoring.proteingym.aggregate import AssayKey, aggregate
from lcframework.scoring.seeds import mean_over_seeds
from lcframework.tasks.contacts import predicted_contacts
from lcframework.tasks.embeddings import embeddings_of
from lcframework.tasks.optimizers import WarmupCosineAdamW
from lcframework.tasks.tape.linear_probe import baselines, linear_probe
from lcframework.tasks.tape.task import TapeTask
from lcframework.tasks.variant_effects.inference import Inference
from lcframework.tasks.variant_effects.task import score_target

log = logging.getLogger("protein_scoring")
RESULTS = Path(__file__).parent / "results" / "protein_scoring"
PARTS = ("proteingym", "probes", "contacts", "fine_tuned")
TASKS = ("secondary_structure", "stability", "fluorescence", "go_function")
LONGEST = 130
"""Residues up to which structures are predicted; the work grows with the square."""
Networks = dict[str, Any]


def networks_of(runs: Sequence[str], device: str) -> tuple[Networks, list[dict[str, Any]]]:
    """The networks by name, random weights last, and what they are."""
    found: Networks = {}
    about = []
    read = [(run, *_network_of(run, device)) for run in runs]
    names = [name for _, name, *_ in read]
    for run, base, network, said in read:
        seed = said.get("run", {}).get("seed")
        name = base if names.count(base) == 1 else f"{base}{SEED}{seed}"
        if name in found:
            raise SystemExit(f"{run}: another run has the same sizes and seed ({name}).")
        found[name] = network
        about.append(
            {
                "name": name,
                **network.hparams,
                "seed": seed,
                "steps": said.get("run", {}).get("steps"),
                "tokens": said.get("run", {}).get("tokens"),
                "training_proteins": said.get("data", {}).get("train", {}).get("n"),
            }
        )
    torch.manual_seed(0)
    first = next(iter(found.values()))
    untrained = type(first)(**first.hparams).to(device).eval()
    found[f"{first.architecture}, random weights"] = untrained
    return found, about


def _network_of(run: str, device: str) -> tuple[str, Any, dict[str, Any]]:
    """(name, network, what its `results.json` says, if there is one)."""
    path = find_checkpoint(run)
    network: Any = load_network(path).to(device).eval()
    record = path.parent.parent / FILE_NAME
    said = json.loads(record.read_text()) if record.is_file() else {}
    return f"{network.architecture} {network.num_parameters() / 1e6:.2f}M", network, said


def first_of_each(runs: Sequence[str]) -> list[str]:
    """The first run of every network."""
    kept: dict[str, str] = {}
    for run in runs:
        kept.setdefault(_network_of(run, "cpu")[0], run)
    return list(kept.values())


def proteingym(networks: Networks, folder: Path, out: Path) -> None:
    """The official table of every network, one picture, and the published models' averages."""
    data = ProteinGymDataModule(folder)
    data.setup("test")
    scored: dict[str, ScoredAssay] = {}
    for name, network in networks.items():
        for target in data.test_dataloader():
            scores = score_target(Inference(network), target)
            for assay in target.assays:
                one = score_assay(assay, scores[assay.info.dms_id], name)
                kept = scored.setdefault(one.dms_id, one)
                kept.methods.update(one.methods)
        log.info("ProteinGym: %s done", name)
    every = list(scored.values())
    with_published(every, data.published())
    tables = {
        "proteingym_summary": summary_rows(every, 10_000, 0),
        "proteingym_assays": assay_rows(every),
    }
    note = f"{len(every)} of 217 assays"
    write_report(tables, every, next(iter(networks)), note, out)
    assays = tables["proteingym_assays"]
    whole = [{"DMS_id": "average", **row} for row in tables["proteingym_summary"]]
    write_seeds([*whole, *assays], ["DMS_id"], "spearman", out / "proteingym_seeds")
    infos = [info for info, _ in data.folder.found]
    keys = [AssayKey(info.uniprot_id, info.selection_type) for info in infos]
    rows = []
    for model, values in data.published().items():
        found = aggregate([values.get(info.dms_id, np.nan) for info in infos], keys)
        rows.append({"model": model, "spearman": round(found.average, 3), "assays": found.assays})
    rows.sort(key=lambda row: -row["spearman"])
    write_csv(out / "published_aggregates.csv", rows)


def probes(networks: Networks, folder: Path, out: Path, proteins: int) -> None:
    """Linear probes of every task, beside features of the sequence."""
    rows = []
    for task in TASKS:
        data = TapeDataModule(folder, task, max_proteins=proteins)
        tests = {split: data.proteins(split) for split in data.test_splits()}
        train, valid = data.proteins(TRAIN), data.proteins(VALID)
        every = list(
            {id(one): one for some in (train, valid, *tests.values()) for one in some}.values()
        )
        scores: dict[str, Any] = {}
        for name, network in networks.items():
            features = states_of(network, every, data.spec.kind == RESIDUE)
            scores[f"{name}, linear probe"] = linear_probe(data.spec, features, train, valid, tests)
        scores |= baselines(data.spec, train, valid, tests)
        rows += table_rows(data.spec, scores, data.note)
        log.info("Probe of %s done", task)
    write_table(rows, out, "tape_probes")
    write_seeds(rows, ["task", "test", "metric"], "value", out / "tape_probes_seeds")


def states_of(network: Any, proteins: Sequence[Any], per_residue: bool) -> Callable[..., Any]:
    """Features of proteins: the network's last states, computed once for all of `proteins`."""
    tokens = [protein.tokens for protein in proteins]
    found: dict[int, np.ndarray] = {}
    for first, last, states in embeddings_of(Inference(network), tokens, per_residue=per_residue):
        sizes = [len(one) if per_residue else 1 for one in tokens[first:last]]
        parts = np.split(states, np.cumsum(sizes)[:-1])
        found.update(zip(map(id, proteins[first:last]), parts, strict=True))
    return lambda some: (found[id(protein)] for protein in some)


def fine_tuned(
    runs: Sequence[str],
    folder: Path,
    out: Path,
    seeds: Sequence[int],
    proteins: int,
    epochs: int,
    tasks: Sequence[str] = TASKS,
) -> None:
    """TAPE's heads, the whole network trained, one run per seed; rows of other tasks in `out` are
    kept."""
    table = out / "tape_fine_tuned.json"
    before = json.loads(table.read_text()) if table.is_file() else []
    rows = [row for row in before if row["task"] not in tasks]
    for task in tasks:
        for run in runs:
            values = [fit(run, folder, task, seed, proteins, epochs) for seed in seeds]
            mean = mean_over_seeds([value for value, *_ in values])
            _, name, metric, note, n = values[0]
            rows.append(
                {
                    "task": task,
                    "method": name,
                    "metric": metric,
                    "mean": mean.value,
                    "low": mean.low if len(values) > 1 else None,
                    "high": mean.high if len(values) > 1 else None,
                    "seeds": len(values),
                    **{f"seed_{s}": value for s, (value, *_) in zip(seeds, values, strict=True)},
                    "training_proteins": proteins,
                    "epochs": epochs,
                    "n": n,
                    "note": note,
                }
            )
            log.info("Fine-tuned %s on %s: %.3f", name, task, mean.value)
            write_csv(out / "tape_fine_tuned.csv", rows, "one seed")
            write_json(table, rows)
            save_figure(seeds_figure(rows), out / "tape_fine_tuned.png")


def fit(run: str, folder: Path, task: str, seed: int, proteins: int, epochs: int) -> Any:
    """(score, name, metric, note, test proteins) of one seed."""
    pl.seed_everything(seed, verbose=False)
    data = TapeDataModule(folder, task, max_proteins=proteins, seed=seed, max_tokens=4096)
    module = TapeTask(load_network(find_checkpoint(run)), task, WarmupCosineAdamW(lr=1e-3))
    with tempfile.TemporaryDirectory() as temporary:
        report = TapeReport(temporary, with_baselines=False)
        trainer = pl.Trainer(
            max_epochs=epochs, logger=False, enable_checkpointing=False, devices=1,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            callbacks=[report, BestWeights()], gradient_clip_val=1.0, default_root_dir=temporary,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
        trainer.test(module, datamodule=data, verbose=False)
    row = report.results["tables"]["tape"][0]
    return row["value"], f"{model_name(module)}, fine-tuned", row["metric"], row["note"], row["n"]


def structures(networks: Networks, folder: Path, out: Path) -> None:
    """Precision of contacts on every readable structure with a chain of 40 to 130 residues."""
    rows: list[dict[str, Any]] = []
    seen = set()
    for path in sorted(folder.iterdir()):
        try:
            chains = chain_sequences(path)
        except LCFrameworkError:
            continue  # a file of another kind, or one made to be bad
        for chain, sequence in chains.items():
            if sequence in seen or not 40 <= len(sequence) <= LONGEST:
                continue
            seen.add(sequence)
            known = contact_map(residue_places(path, sequence, chain)[0])
            for name, network in networks.items():
                table = precision_table(predicted_contacts(Inference(network), sequence), known)
                label = f"{path.stem}_{chain}"
                rows += [
                    {"structure": label, "residues": len(sequence), "method": name, **row}
                    for row in table
                ]
            log.info("Contacts of %s %s (%d residues) done", path.name, chain, len(sequence))
    if rows:
        write_csv(out / "contacts.csv", rows, "no pairs")
        write_json(out / "contacts.json", rows)
        save_figure(contacts_figure(rows), out / "contacts.png")


def contacts_figure(rows: list[dict[str, Any]]) -> Any:
    """P@L at separation 6 per structure and network, with guessing as a line."""
    from matplotlib.figure import Figure

    near = [row for row in rows if row["separation"] == 6]
    labels = list(dict.fromkeys(row["structure"] for row in near))
    methods = list(dict.fromkeys(row["method"] for row in near))
    figure = Figure(figsize=(1.5 + 0.9 * len(labels), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(methods)
    for index, method in enumerate(methods):
        values = [row["P@L"] for row in near if row["method"] == method]
        axes.bar(np.arange(len(labels)) + index * width, values, width, label=method)
    chance = [row["random"] for row in near if row["method"] == methods[0]]
    for index, value in enumerate(chance):
        label = "guessing" if not index else None
        axes.plot([index - width, index + 0.8], [value, value], color="black", label=label)
    axes.set_xticks(np.arange(len(labels)) + 0.4 - width / 2, labels, rotation=60, fontsize=7)
    axes.set(ylabel="P@L, separation >= 6", title="Contacts from the categorical Jacobian")
    axes.legend(fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories, checkpoints or exports")
    parser.add_argument("--data", type=Path, required=True, help="with `proteingym` and `tape`")
    parser.add_argument("--structures", type=Path, help="folder of PDB and mmCIF files")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--proteins", type=int, default=800, help="of each split, for probes")
    parser.add_argument("--tuned-proteins", type=int, default=300, help="for fine-tuning")
    parser.add_argument("--tuned-tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--epochs", type=int, default=4, help="of fine-tuning")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks, about = networks_of(args.runs, device)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "models.json", {"models": about, "subset_seed": SUBSET_SEED})
    if "proteingym" in args.parts:
        proteingym(networks, args.data / "proteingym", args.out)
    if "probes" in args.parts:
        probes(networks, args.data / "tape", args.out, args.proteins)
    if "contacts" in args.parts and args.structures is not None:
        structures(networks, args.structures, args.out)
    if "fine_tuned" in args.parts:
        tuned, tape = args.tuned_proteins, args.data / "tape"
        fine_tuned(
            first_of_each(args.runs),
            tape,
            args.out,
            args.seeds,
            tuned,
            args.epochs,
            args.tuned_tasks,
        )


if __name__ == "__main__":
    main()
