"""The store: what it holds, when it is reused, refused, and that no half store is ever seen."""

import functools
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import threading

import numpy as np
import pytest
from fake_proteins import fasta_text, random_proteins, write_fasta

from lcframework.data import duplicates, store_build
from lcframework.data.alphabet import decode
from lcframework.data.store_build import default_stores_root, ensure_store
from lcframework.data.token_store import TokenStore
from lcframework.errors import DataError, StoreError


@pytest.fixture
def proteins():
    return random_proteins(50)


@pytest.fixture
def fasta(tmp_path, proteins):
    return write_fasta(tmp_path / "a.fasta", proteins)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_store_holds_the_proteins(tmp_path, fasta, proteins):
    store = TokenStore.build(fasta, tmp_path / "store")
    assert len(store) == 50
    assert [decode(store.residues(i)) for i in range(50)] == proteins
    assert [store.name(i) for i in (0, 7, 49)] == ["p0", "p7", "p49"]
    lengths = [len(protein) for protein in proteins]
    assert store.lengths.tolist() == lengths
    meta = store.meta
    assert (meta.min_length, meta.max_length) == (min(lengths), max(lengths))
    assert meta.median_length == np.median(lengths)
    assert meta.num_residues == sum(lengths) == meta.counts["residues"]
    assert names_in(tmp_path) == ["a.fasta", "store"]


def test_a_store_travels_to_another_process(tmp_path, fasta, proteins):
    store = pickle.loads(pickle.dumps(TokenStore.build(fasta, tmp_path / "store")))
    assert decode(store.residues(3)) == proteins[3]
    assert not store.tokens.flags.writeable


def test_several_files_in_blocks(tmp_path, monkeypatch, proteins):
    small_blocks = functools.partial(duplicates.read_fasta, block_bytes=100)
    monkeypatch.setattr(store_build, "read_fasta", small_blocks)
    (tmp_path / "a.fasta").write_text("\n\n" + fasta_text(proteins[:20], prefix="a"))
    write_fasta(tmp_path / "b.fasta", proteins[20:], prefix="b")
    store = TokenStore.build(f"{tmp_path}/*.fasta", tmp_path / "store")
    assert [decode(store.residues(i)) for i in range(50)] == proteins
    assert (store.name(19), store.name(20), store.name(49)) == ("a19", "b0", "b29")


def test_an_equal_store_is_reused_without_hashing(tmp_path, fasta, monkeypatch):
    store = ensure_store(fasta, stores_root=tmp_path / "root")
    before = (store.folder / "tokens.bin").stat()
    monkeypatch.setattr(store_build, "describe_inputs", lambda paths: pytest.fail("hashed"))
    again = ensure_store(fasta, stores_root=tmp_path / "root")
    assert again.folder == store.folder
    assert (again.folder / "tokens.bin").stat().st_mtime_ns == before.st_mtime_ns
    assert store.folder.name.startswith("a-")


def test_a_touched_or_moved_input_is_hashed_once_and_reused(tmp_path, fasta, monkeypatch):
    folder = TokenStore.build(fasta, tmp_path / "store").folder
    built = (folder / "tokens.bin").stat().st_ino
    moved = tmp_path / "elsewhere.fasta"
    shutil.copy(fasta, moved)
    store = TokenStore.build(moved, folder)
    assert (folder / "tokens.bin").stat().st_ino == built
    assert store.meta.inputs[0]["path"] == str(moved)
    monkeypatch.setattr(store_build, "describe_inputs", lambda paths: pytest.fail("hashed"))
    TokenStore.build(moved, folder)


def test_a_store_of_other_inputs_is_refused(tmp_path, fasta, proteins):
    folder = TokenStore.build(fasta, tmp_path / "store").folder
    other = write_fasta(tmp_path / "b.fasta", proteins[1:])
    message = r"other settings: inputs a\.fasta \(.*now b\.fasta .*Delete the folder"
    with pytest.raises(StoreError, match=message):
        TokenStore.build(other, folder)
    assert ensure_store(other, stores_root=tmp_path).folder != folder


def test_a_store_of_other_rules_is_refused(tmp_path, fasta, monkeypatch):
    folder = TokenStore.build(fasta, tmp_path / "store").folder
    monkeypatch.setattr(store_build, "RULES_VERSION", 99)
    monkeypatch.setattr("lcframework.data.fingerprints.RULES_VERSION", 99)
    with pytest.raises(StoreError, match=r"FASTA rules version 1 \(now 99\)"):
        TokenStore.build(fasta, folder)


def test_a_folder_that_is_no_store_is_refused(tmp_path, fasta):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(StoreError, match="no token store"):
        TokenStore.build(fasta, tmp_path / "mine")
    assert names_in(tmp_path / "mine") == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert len(TokenStore.build(fasta, tmp_path / "empty")) == 50


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "ids.bin", "id_offsets.bin"])
def test_a_damaged_store_is_refused(tmp_path, fasta, name):
    folder = TokenStore.build(fasta, tmp_path / "store").folder
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=f"damaged: {name} is .* bytes long instead of"):
        TokenStore.open(folder)
    path.unlink()
    with pytest.raises(StoreError, match=f"damaged: {name} is missing"):
        TokenStore.open(folder)


@pytest.mark.parametrize("text", ["", "{}", '{"format_version": 1}', "[1]", "{nonsense"])
def test_a_damaged_description_is_refused(tmp_path, fasta, text):
    folder = TokenStore.build(fasta, tmp_path / "store").folder
    (folder / "meta.json").write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        TokenStore.open(folder)


def test_another_format_is_refused(tmp_path, fasta):
    folder = TokenStore.build(fasta, tmp_path / "store").folder
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"format_version": 0}))
    with pytest.raises(StoreError, match="has format 0"):
        TokenStore.open(folder)
    with pytest.raises(StoreError, match="no token store at"):
        TokenStore.open(tmp_path / "nowhere")


def test_files_of_one_name_get_stores_of_their_own(tmp_path, proteins):
    stores = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        path = write_fasta(tmp_path / str(number) / "a.fasta", proteins[number:])
        stores.append(ensure_store(path, stores_root=tmp_path / "root"))
    assert [len(store) for store in stores] == [50, 49]
    assert stores[0].fingerprint != stores[1].fingerprint


def test_a_root_that_cannot_be_written_is_refused(tmp_path, fasta):
    with pytest.raises(StoreError, match="cannot be written"):
        ensure_store(fasta, stores_root=fasta / "below-a-file")


def test_an_unreadable_store_in_the_root_is_passed_over(tmp_path, fasta, caplog):
    (tmp_path / "root" / "a-old").mkdir(parents=True)
    assert len(ensure_store(fasta, stores_root=tmp_path / "root")) == 50
    assert "Passing over" in caplog.text


@pytest.mark.parametrize("bad", ["\n>p0\nMKV\n", "\n>x\nM1K\n", "\n>x\n"])
def test_a_bad_input_leaves_nothing_behind(tmp_path, fasta, bad):
    with fasta.open("a") as file:
        file.write(bad)
    with pytest.raises(DataError):
        TokenStore.build(fasta, tmp_path / "store")
    assert names_in(tmp_path) == ["a.fasta"]


def test_duplicate_identifiers_are_named_with_both_places(tmp_path, proteins):
    first = write_fasta(tmp_path / "a.fasta", proteins)
    second = tmp_path / "b.fasta"
    second.write_text(f">new\n{proteins[0]}\n>sp|p7|OTHER\n{proteins[1]}\n")
    with pytest.raises(DataError, match=rf"p7 occurs twice, at {first}:15 and at {second}:3"):
        TokenStore.build([first, second], tmp_path / "store")


def test_a_hash_collision_is_no_duplicate(tmp_path, fasta, monkeypatch):
    collide = lambda id_bytes, id_lengths: np.full(len(id_lengths), 7, np.uint64)  # noqa: E731
    monkeypatch.setattr(duplicates, "hash_names", collide)
    assert len(TokenStore.build(fasta, tmp_path / "store")) == 50


def test_name_hashes_depend_on_every_byte_and_place():
    names = ["ab", "ba", "a", "b", "aa", "abc", "abd", "ab", "UniRef50_A0A", "UniRef50_A1A"]
    raw = np.frombuffer("".join(names).encode(), dtype=np.uint8)
    hashes = duplicates.hash_names(raw, np.array([len(name) for name in names]))
    assert hashes[0] == hashes[7]
    assert len(set(hashes.tolist())) == len(names) - 1


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path):
    fasta = write_fasta(tmp_path / "a.fasta", random_proteins(3000, 50, 60))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"disk is full: .* needs about 0\.2 MB"):
            TokenStore.build(fasta, tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names_in(tmp_path) == ["a.fasta"]


def _build_and_die(fasta, folder):
    store_build._publish = lambda temporary, final: os._exit(9)
    store_build.build_store(fasta, folder)


def test_a_killed_build_leaves_no_store_and_the_next_one_clears_up(tmp_path, fasta):
    process = multiprocessing.get_context("fork").Process(
        target=_build_and_die, args=(fasta, tmp_path / "store")
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert any(".tmp-" in name for name in names_in(tmp_path))
    assert not (tmp_path / "store").exists()
    assert len(TokenStore.build(fasta, tmp_path / "store")) == 50
    assert names_in(tmp_path) == ["a.fasta", "store"]


def test_concurrent_builders_build_once(tmp_path, fasta, monkeypatch):
    built = []
    original = store_build._build
    monkeypatch.setattr(store_build, "_build", lambda *a: (built.append(1), original(*a)))
    stores = []
    build = lambda: stores.append(TokenStore.build(fasta, tmp_path / "store"))  # noqa: E731
    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(store) for store in stores] == [50] * 4
    assert built == [1]


def test_losing_a_race_without_locks_uses_the_winner(tmp_path, fasta, monkeypatch):
    original = store_build._publish

    def lose(temporary, folder):
        shutil.copytree(temporary, folder)
        original(temporary, folder)

    monkeypatch.setattr(store_build, "_publish", lose)
    assert len(TokenStore.build(fasta, tmp_path / "store")) == 50
    assert names_in(tmp_path) == ["a.fasta", "store"]


def test_an_input_that_changes_while_read_is_refused(tmp_path, fasta, monkeypatch):
    def read_and_change(paths, counts):
        yield from duplicates.read_fasta(paths, counts)
        fasta.write_text(fasta_text(random_proteins(3)))

    monkeypatch.setattr(store_build, "read_fasta", read_and_change)
    with pytest.raises(StoreError, match="changed while it was read"):
        TokenStore.build(fasta, tmp_path / "store")
    assert names_in(tmp_path) == ["a.fasta"]


def test_the_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("LCF_STORES", str(tmp_path))
    assert default_stores_root() == tmp_path
    monkeypatch.delenv("LCF_STORES")
    assert default_stores_root().parts[-3:] == (".cache", "lcframework", "stores")
