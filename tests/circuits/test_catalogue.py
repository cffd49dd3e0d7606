"""Every named circuit: its depth, its bound on gates, and what is refused before building."""

import pytest

from lcframework.circuits.threshold.catalogue import CIRCUITS, NAMES, Size, build, gate_bound
from lcframework.errors import CircuitError

SIZES = [Size(2), Size(3), Size(3, n=4), Size(4, exponent_bits=3, n=3), Size(3, n=7)]


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_depth_is_the_stated_one_and_gates_stay_below_the_bound(name, size):
    circuit = build(name, size)
    assert circuit.depth == CIRCUITS[name].depth
    bound = gate_bound(name, size)
    assert circuit.size <= bound
    # Not so far below that buildable circuits are refused.
    assert bound <= 8 * circuit.size + 40


def test_attention_stays_below_its_bound():
    size = Size(2, n=2, dim=2)
    circuit = build("attention", size)
    assert circuit.size <= gate_bound("attention", size) <= 2 * circuit.size


def test_a_bfloat16_adder_and_multiplier_are_small():
    size = Size(8, exponent_bits=8)
    for name in ("float-add", "float-multiply", "float-divide"):
        assert build(name, size).size <= gate_bound(name, size) < 3000


@pytest.mark.parametrize(
    ("name", "size", "number"),
    [
        ("float-exp", Size(24, exponent_bits=8), "4,294,967,329"),
        ("float-divide", Size(24, exponent_bits=8), "16,777,578"),
        ("iterated-multiply", Size(32, n=64), "gates, more than"),
        ("attention", Size(8, exponent_bits=8, n=128, dim=64), "gates, more than"),
    ],
)
def test_too_large_is_refused_with_the_number(name, size, number):
    with pytest.raises(CircuitError, match=f"up to .*{number}"):
        build(name, size)


def test_the_limit_can_be_raised():
    with pytest.raises(CircuitError, match="max-gates"):
        build("float-add", Size(4), max_gates=100)
    assert build("float-add", Size(4), max_gates=2000).size > 100


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("float-root", Size(3), "float-sqrt"),
        ("float-add", Size(0), "at least 1"),
        ("float-add", Size(1), "at least 2 significand bits"),
        ("float-add", Size(3, exponent_bits=0), "1 exponent bit"),
        ("iterated-add", Size(3, n=0), "at least 1"),
        ("attention", Size(2, dim=3), "even width"),
    ],
)
def test_impossible_circuits_are_refused(name, size, says):
    with pytest.raises(CircuitError, match=says):
        build(name, size)


def test_names_of_inputs_and_outputs():
    circuit = build("float-add", Size(2))
    assert circuit.inputs[:5] == ("x.sign", "x.e0", "x.e1", "x.e2", "x.m0")
    assert [name for name, _ in circuit.outputs] == ["sign", "e0", "e1", "e2", "m0", "m1"]
    assert build("iterated-add", Size(2, n=2)).inputs == ("x0.0", "x0.1", "x1.0", "x1.1")
    assert len(set(NAMES)) == len(NAMES)
