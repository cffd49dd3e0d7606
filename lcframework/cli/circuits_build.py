"""`lcf circuits draw | build | grow | simulate | references`: the executable circuits."""

import argparse
import sys
from pathlib import Path
from typing import Any

# Repeated here so that help needs no import; a test compares them with the originals.
CIRCUIT_NAMES = (
    "compare add iterated-add multiply iterated-multiply float-compare float-add float-multiply "
    "float-divide float-sum float-product float-exp float-sin float-cos float-sqrt float-log "
    "attention"
)  # fmt: skip


def register(actions: Any) -> None:
    """Add the actions to `lcf circuits`."""
    draw = actions.add_parser("draw", help="build a circuit and draw it")
    draw.add_argument("circuit", help=f"one of: {', '.join(CIRCUIT_NAMES.split())}")
    _size_options(draw)
    draw.add_argument("-o", "--output", required=True, help="PNG file to write")
    draw.set_defaults(work=_draw)

    build = actions.add_parser("build", help="build a circuit: depth, gates, wires, weights")
    build.add_argument("circuit", help="as for draw")
    _size_options(build)
    build.add_argument("--json", action="store_true", help="print one JSON object")
    build.set_defaults(work=_build)

    grow = actions.add_parser("grow", help="depth and gates over n and over precision, plotted")
    grow.add_argument("-o", "--output", required=True, help="folder for growth.csv and growth.png")
    grow.set_defaults(work=_grow)

    simulate = actions.add_parser(
        "simulate", help="one attention step as a circuit against exact float arithmetic"
    )
    simulate.add_argument(
        "--bits", type=int, default=2, help="p of the paper's floats (default: 2)"
    )
    simulate.add_argument("--n", type=int, default=2, help="tokens (default: 2)")
    simulate.add_argument("--dim", type=int, default=2, help="width, even (default: 2)")
    simulate.add_argument("--samples", type=int, default=1000, help="inputs (default: 1000)")
    simulate.add_argument("--seed", type=int, default=0, help="of weights and inputs (default: 0)")
    simulate.set_defaults(work=_simulate)

    references = actions.add_parser("references", help="what is cited, and how much could be read")
    references.set_defaults(work=_references)


def _size_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bits", type=int, default=3, help="of a number, p of a float (default: 3)"
    )
    parser.add_argument(
        "--exponent-bits", type=int, help="of a float (default: p + 1, the paper's p-bit floats)"
    )
    parser.add_argument("--n", type=int, default=2, help="how many numbers or tokens (default: 2)")
    parser.add_argument("--dim", type=int, default=2, help="width of attention (default: 2)")
    parser.add_argument("--max-gates", type=int, help="largest circuit that is built")


def _built(arguments: argparse.Namespace) -> tuple[Any, Any]:
    from lcframework.circuits.threshold.builder import MAX_GATES
    from lcframework.circuits.threshold.catalogue import Size, build

    size = Size(arguments.bits, arguments.exponent_bits, arguments.n, arguments.dim)
    limit = MAX_GATES if arguments.max_gates is None else arguments.max_gates
    return size, build(arguments.circuit, size, limit)


def _draw(arguments: argparse.Namespace) -> None:
    from lcframework.circuits.threshold.catalogue import describe
    from lcframework.circuits.threshold.draw import check_drawable, draw

    check_drawable(Path(arguments.output))
    size, circuit = _built(arguments)
    path = draw(circuit, Path(arguments.output), describe(arguments.circuit, size))
    sys.stdout.write(f"{path}: depth {circuit.depth}, {circuit.size:,} gates\n")


def _build(arguments: argparse.Namespace) -> None:
    import json

    from lcframework.circuits.threshold.catalogue import describe, gate_bound

    size, circuit = _built(arguments)
    record = {
        "circuit": arguments.circuit,
        "what": describe(arguments.circuit, size),
        "inputs": len(circuit.inputs),
        "outputs": len(circuit.outputs),
        "depth": circuit.depth,
        "gates": circuit.size,
        "gate_bound": gate_bound(arguments.circuit, size),
        "wires": circuit.wire_count,
        "weight_bits": circuit.weight_bits,
    }
    if arguments.json:
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{key:12} {value}\n" for key, value in record.items()))


def _grow(arguments: argparse.Namespace) -> None:
    from lcframework.circuits.threshold.growth import measure, save

    for path in save(measure(), Path(arguments.output)):
        sys.stdout.write(f"{path}\n")


def _simulate(arguments: argparse.Namespace) -> None:
    from lcframework.circuits.threshold.simulate import simulate_attention

    found = simulate_attention(
        arguments.bits, arguments.n, arguments.dim, arguments.samples, arguments.seed
    )
    sys.stdout.write(found.text() + "\n")
    if found.different:
        raise SystemExit(1)


def _references(arguments: argparse.Namespace) -> None:
    from lcframework.circuits.references import REFERENCES

    for key, one in REFERENCES.items():
        sys.stdout.write(f"{key}\n  {one.who}. {one.title}. {one.where}.\n")
        sys.stdout.write(f"  states: {one.states} [{one.read}]\n")
