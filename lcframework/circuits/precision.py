"""The precision of the arithmetic: names of machine formats, or the paper's p bits."""

import re

from lcframework.circuits.threshold.floats import FloatFormat
from lcframework.errors import ConfigError

FORMATS = {
    "fp64": (53, 11),
    "fp32": (24, 8),
    "tf32": (11, 8),
    "fp16": (11, 5),
    "bf16": (8, 8),
    "fp8_e4m3": (4, 4),
    "fp8_e5m2": (3, 5),
    "fp4_e2m1": (2, 2),
}
"""Significand bits (the leading one counted) and exponent bits."""
ALIASES = {
    "float64": "fp64",
    "double": "fp64",
    "float32": "fp32",
    "float": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
}


def parse_precision(text: str) -> FloatFormat:
    """A format from its name, from "p=16" (the paper's p-bit floats) or from "8,8" (significand,
    exponent bits).

    Raises:
        ConfigError: something else, or a precision of too few bits.
    """
    name = text.strip().lower()
    name = ALIASES.get(name, name)
    if name in FORMATS:
        return FloatFormat.like_ieee(*FORMATS[name])
    if match := re.fullmatch(r"(?:p=)?(\d+)", name):
        p = int(match.group(1))
        _check(text, p, p + 1)
        return FloatFormat.paper(p)
    if match := re.fullmatch(r"(\d+),(\d+)", name):
        _check(text, *map(int, match.groups()))
        return FloatFormat.like_ieee(*map(int, match.groups()))
    hint = " Quantised weights are constants; name the format the activations are computed in."
    raise ConfigError(
        f"precision {text!r} is not known. Give one of {', '.join(FORMATS)}, p=BITS for the "
        f"paper's floats, or SIGNIFICAND,EXPONENT bits." + (hint if name.startswith("int") else "")
    )


def describe(fmt: FloatFormat) -> str:
    """For people: name if it has one, and the bits."""
    name = next(
        (n for n, bits in FORMATS.items() if FloatFormat.like_ieee(*bits) == fmt), "p-bit floats"
    )
    return f"{name}: {fmt.sig_bits} significand bits, {fmt.exp_bits} exponent bits"


def _check(text: str, sig_bits: int, exp_bits: int) -> None:
    if sig_bits < 2 or exp_bits < 1:
        raise ConfigError(
            f"precision {text!r} has {sig_bits} significand and {exp_bits} exponent bits; rounding "
            "to nearest with ties to even needs at least 2 and 1. Give p=2 or more, or bf16."
        )
