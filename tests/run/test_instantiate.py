"""The allow-list: a config may build what it should and nothing else."""

import pytest
from omegaconf import OmegaConf

from lcframework.errors import ConfigError
from lcframework.run.instantiate import EXTRA_VARIABLE, instantiate, instantiate_all

RECIPE = "lcframework.tasks.optimizers.WarmupCosineAdamW"


def test_builds_an_allowed_target_with_plain_values():
    node = OmegaConf.create({"_target_": RECIPE, "lr": 0.5, "betas": [0.1, 0.2]})
    built = instantiate(node)
    assert built.lr == 0.5
    assert type(built.betas) is list


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "lcframework.run.identity.os.system",  # reachable through an allowed module
        "lcframework.run.identity.socket.socket",
        "lightning.pytorch.trainer.trainer.torch.hub.load",
    ],
)
def test_refuses_what_is_defined_elsewhere(target):
    with pytest.raises(ConfigError, match="Allowed are"):
        instantiate({"_target_": target})


def test_refuses_a_nested_target():
    with pytest.raises(ConfigError, match="os.system"):
        instantiate({"_target_": RECIPE, "lr": {"_target_": "os.system", "command": "true"}})


def test_names_a_misspelt_target():
    with pytest.raises(ConfigError, match="WarmupCosineAdam'"):
        instantiate({"_target_": RECIPE[:-1]})


def test_a_trusted_package_can_be_added(monkeypatch):
    monkeypatch.setenv(EXTRA_VARIABLE, "fractions")
    assert instantiate({"_target_": "fractions.Fraction", "numerator": 3}) == 3


@pytest.mark.parametrize(
    ("node", "given", "words"),
    [
        ({"_target_": RECIPE, "lr": -1}, {}, "WarmupCosineAdamW refuses its settings: lr must be"),
        ({"_target_": RECIPE, "width": 3}, {}, "refuses its settings:.*'width'"),
        ({"_target_": RECIPE, "width": 3}, {"lr": 1.0}, "refuses its settings:.*'width'"),
    ],
)
def test_what_a_constructor_refuses_is_one_paragraph(node, given, words):
    with pytest.raises(ConfigError, match=words):
        instantiate(node, **given)


def test_group_leaves_out_null_children():
    nodes = OmegaConf.create({"a": {"_target_": RECIPE}, "b": None})
    assert len(instantiate_all(nodes)) == 1
