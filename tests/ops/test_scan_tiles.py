"""The tables of measured choices: which row serves, and what `lcf tune` derives from its times."""

import json

import pytest
import torch

from lcframework.cli.main import main
from lcframework.cli.tune import keep
from lcframework.ops.bidirectional_scan import tiles, tune
from lcframework.ops.bidirectional_scan.tiles import Costs, Tiles
from lcframework.ops.bidirectional_scan.work_items import lengths_for

SOME = Tiles((168, 128), (232,), Costs(1, 2, 0.5), Costs(1, 2, 0.25))
CPU = torch.device("cpu")


@pytest.fixture
def table(tmp_path, monkeypatch):
    path = tmp_path / "tiles.json"
    monkeypatch.setenv("LCF_TILES", str(path))
    tiles.forget()
    yield path
    tiles.forget()


def test_a_load_beyond_the_table_takes_its_last_choice():
    assert [tiles.at_load(SOME.forward, warps, 10) for warps in (0, 10, 11, 99)] == [
        168, 168, 128, 128,
    ]  # fmt: skip


def test_the_users_table_comes_before_the_shipped_one(table):
    assert tiles.tiles_for(CPU, torch.bfloat16, 16) != SOME
    keep(table, {tiles.FALLBACK: SOME})
    assert tiles.tiles_for(CPU, torch.bfloat16, 16) != SOME  # read once per process
    tiles.forget()
    assert tiles.tiles_for(CPU, torch.bfloat16, 16) == SOME
    assert tiles.read_table(table) == {tiles.FALLBACK: SOME}


def test_rows_are_found_by_capability_then_precision(table, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    other = Tiles(SOME.forward, SOME.backward, Costs(3, 3, 3), SOME.training_costs)
    keep(table, {("8.0", "bfloat16", 16): SOME, ("8.0", "float32", 8): other})
    gpu = torch.device("cuda", 0)
    assert tiles.tiles_for(gpu, torch.float32, 8) == other
    assert tiles.tiles_for(gpu, torch.float16, 32) == SOME
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (12, 0))
    tiles.forget()
    shipped = tiles.read_table(tiles.SHIPPED)
    assert tiles.tiles_for(gpu, torch.bfloat16, 16) == shipped[tiles.FALLBACK]


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{"capability": "9.0"}]}'])
def test_a_damaged_table_is_named_with_its_cure(table, text):
    table.write_text(text)
    with pytest.raises(ValueError, match=r"tiles\.json is not a table.*Delete it.*lcf tune"):
        tiles.tiles_for(CPU, torch.bfloat16, 16)


def test_forced_choices_serve_until_they_end():
    before = tiles.current_tiles(CPU, torch.bfloat16, 16)
    with tiles.forced(SOME):
        assert tiles.current_tiles(CPU, torch.bfloat16, 16) == SOME
    assert tiles.current_tiles(CPU, torch.bfloat16, 16) == before


def test_tune_takes_the_fastest_choice_and_derives_the_costs():
    """A GPU on which a step takes 1 us where quarters are full, 2 us for a warp alone, more
    registers pay up to two warps a quarter, and the pass over the borders costs half a step."""

    def seconds(choice, load, tokens, training):
        registers = tiles.at_load(choice.backward if training else choice.forward, load, 1)
        cut = choice.training_costs == tune.CUT if training else choice.forward_costs == tune.CUT
        more = registers == (232 if training else 168)
        good = more == (load <= 2)
        step = 1.5 * load if cut else max(2.0, load)
        return tokens * step * (1.0 if good or cut else 1.1) / 1e6

    found = tune.tune(seconds)
    assert found.forward == (168, 168, 128, 128)
    assert found.backward == (232, 232, 168)
    assert found.forward_costs == found.training_costs == Costs(2.0, 2.0, 0.5)


def test_what_cutting_costs_decides_whether_equal_segments_are_cut():
    whole = lengths_for(8192, 8192, 1, 64, 2, Costs(1.0, 1.0, 0.5))
    assert whole[0] == 8192
    assert lengths_for(8192, 8192, 1, 64, 2, Costs(2.0, 1.0, 0.5))[0] < 8192


def test_tune_without_a_gpu_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        main(["tune"])
    assert stop.value.code == 2
    assert "nothing to tune here" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.gpu
def test_tune_on_this_gpu_writes_a_row(tmp_path, capsys):
    path = tmp_path / "own.json"
    main(["tune", "--to", str(path)])
    (key,) = tiles.read_table(path)
    assert key[1:] == ("bfloat16", 16)
    assert "Written" in capsys.readouterr().out
    assert json.loads(path.read_text())["rows"][0]["forward"]
