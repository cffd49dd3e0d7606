"""The data module: in a plain loop, under Lightning, on real proteins, and when misused."""

import gzip
import multiprocessing
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_proteins import random_proteins, write_fasta
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import RunningStage
from torch.utils.data import DistributedSampler

from lcframework.data.alphabet import CLS_ID, EOS_ID
from lcframework.data.batch import PackedProteins
from lcframework.data.uniref50 import UniRef50DataModule
from lcframework.errors import DataError

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def sample(stores):
    return UniRef50DataModule(
        train=str(SAMPLE / "train.fasta.gz"),
        valid=[str(SAMPLE / "valid.fasta.gz")],
        test=str(SAMPLE / "valid*.gz"),
        store_dir=stores,
    )


def epoch_of(loader) -> list[PackedProteins]:
    return list(loader)


def ids_of(batches) -> list[int]:
    return torch.cat([batch.sequence_ids for batch in batches]).tolist()


def equal(a: PackedProteins, b: PackedProteins) -> bool:
    tensors = ("tokens", "labels", "cu_seqlens", "sequence_ids")
    return a.max_len == b.max_len and all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in tensors
    )


def test_a_plain_loop_over_the_sample(sample):
    sample.prepare_data()
    sample.setup()
    loader = sample.train_dataloader()
    first = epoch_of(loader)
    assert sorted(ids_of(first)) == list(range(2000))
    assert len(first) == len(loader)
    assert max(batch.num_tokens for batch in first) <= 8192
    fill = sum(batch.num_tokens for batch in first) / (8192 * len(first))
    assert fill >= 0.97
    loader.sampler.set_epoch(1)
    second = epoch_of(loader)
    assert sorted(ids_of(second)) == list(range(2000))
    assert ids_of(second) != ids_of(first)
    assert sample.state_dict() == {}


def test_evaluation_is_ordered_and_fixed(sample, stores):
    other = UniRef50DataModule(
        valid=sample.inputs["valid"],
        test=sample.inputs["test"],
        store_dir=stores,
        seed=9,
        max_length=50,
        max_tokens=1000,
        eval_max_tokens=8192,
    )
    other.setup("validate")
    batches = epoch_of(sample.val_dataloader())
    assert ids_of(batches) == list(range(300))
    again = epoch_of(other.val_dataloader())
    assert all(equal(a, b) for a, b in zip(batches, again, strict=True))
    tests = epoch_of(other.test_dataloader())
    assert not any(torch.equal(a.labels, b.labels) for a, b in zip(batches, tests, strict=True))


def test_workers_give_the_same_batches_and_no_global_randomness_is_used(sample):
    random.seed(0)
    torch.manual_seed(0)
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    alone = epoch_of(sample.train_dataloader())
    sample.num_workers = 2
    shared = epoch_of(sample.train_dataloader())
    assert len(alone) == len(shared)
    assert all(equal(a, b) for a, b in zip(alone, shared, strict=True))
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


def test_a_giant_protein_is_served_whole(tmp_path):
    giant = "".join(random_proteins(1, 35_000, 35_001))
    path = tmp_path / "giant.fasta.gz"
    path.write_bytes(gzip.compress(f">titin\n{giant}\n>small\nMKVLW\n".encode()))
    data = UniRef50DataModule(train=path, store_dir=tmp_path, max_tokens=1024)
    batches = epoch_of(data.train_dataloader())
    sizes = sorted(batch.num_tokens for batch in batches)
    assert sizes == [7, 35_002]
    big = max(batches, key=lambda batch: batch.num_tokens)
    assert big.max_len == 35_002
    assert (int(big.tokens[0]), int(big.tokens[-1])) == (CLS_ID, EOS_ID)
    data = UniRef50DataModule(train=path, store_dir=tmp_path, max_tokens=1024, max_length=100)
    assert [batch.num_tokens for batch in epoch_of(data.train_dataloader())] == [107]


def test_what_results_and_errors_quote(sample):
    record = sample.fingerprint("valid")
    assert (record["n"], record["residues"]) == (300, 146_338)
    assert len(record["fingerprint"]) == 64
    assert record["path"] == [str((SAMPLE / "valid.fasta.gz").resolve())]
    names = sample.sequence_names("train", torch.tensor([1, 0]))
    assert names == ["Q94AY1", "P36317"]


def test_missing_data_are_named(tmp_path):
    data = UniRef50DataModule(valid=tmp_path / "none.fasta", store_dir=tmp_path)
    with pytest.raises(DataError, match=r"There are no train data: set data\.train"):
        data.setup("fit")
    with pytest.raises(DataError, match=r"There are no test data"):
        data.setup("test")
    with pytest.raises(DataError, match=r"No FASTA file at .*none\.fasta"):
        data.prepare_data()
    with pytest.raises(ValueError, match="unknown split"):
        data.store("validation")
    with pytest.raises(ValueError, match="max_tokens must be positive"):
        UniRef50DataModule(max_tokens=0)


def test_a_pack_moves_as_one(sample):
    batch = sample.dataset("valid")[0, np.arange(3)]
    moved = batch.to("meta")
    assert moved.tokens.is_meta
    assert moved.sequence_ids.is_meta
    assert (moved.max_len, moved.num_sequences) == (batch.max_len, 3)
    assert equal(pickle.loads(pickle.dumps(batch)), batch)


class Counter(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[int]] = {"train": [], "valid": [], "test": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"] += batch.sequence_ids.tolist()
        return self.weight * batch.num_tokens

    def validation_step(self, batch, batch_idx):
        self.seen["valid"] += batch.sequence_ids.tolist()

    def test_step(self, batch, batch_idx):
        self.seen["test"] += batch.sequence_ids.tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
QUIET |= {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def test_a_trainer_alone_fits_and_tests(sample):
    module, trainer = Counter(), Trainer(max_epochs=2, **QUIET)
    trainer.fit(module, datamodule=sample)
    trainer.test(module, datamodule=sample, verbose=False)
    assert sorted(module.seen["train"][:2000]) == sorted(module.seen["train"][2000:])
    assert sorted(module.seen["train"][:2000]) == list(range(2000))
    assert module.seen["valid"] == list(range(300)) * 2
    assert module.seen["test"] == list(range(300))
    assert module.seen["train"][:2000] != module.seen["train"][2000:]


def test_fit_without_validation_data(tmp_path):
    path = write_fasta(tmp_path / "a.fasta", random_proteins(20))
    module, trainer = Counter(), Trainer(max_epochs=1, **QUIET)
    trainer.fit(module, datamodule=UniRef50DataModule(train=path, store_dir=tmp_path))
    assert len(module.seen["train"]) == 20


def test_lightning_keeps_the_sampler_on_several_ranks(sample):
    loader = sample.train_dataloader()
    assert isinstance(loader.sampler, DistributedSampler)
    connector = Trainer(**QUIET)._data_connector
    connector.trainer._accelerator_connector._is_distributed = True
    prepared = connector._prepare_dataloader(loader, shuffle=True, mode=RunningStage.TRAINING)
    assert prepared is loader


def _rank(rank, world_size, address, stores, queue):
    torch.distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=world_size
    )
    data = UniRef50DataModule(train=str(SAMPLE / "valid.fasta.gz"), store_dir=stores)
    loader = data.train_dataloader()
    queue.put((len(loader), ids_of(loader)))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_ranks_share_an_epoch_without_overlap_or_loss(stores, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    address = f"file://{tmp_path}/rendezvous"
    ranks = [
        context.Process(target=_rank, args=(rank, 2, address, stores, queue)) for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    (count_a, ids_a), (count_b, ids_b) = queue.get(timeout=60), queue.get(timeout=60)
    for process in ranks:
        process.join()
    assert count_a == count_b
    assert sorted(ids_a + ids_b) == list(range(300))
