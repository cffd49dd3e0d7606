"""Elementary functions for the CPU kernels, without branches, so that LLVM vectorises their loops.

Each is a name for numba's type inference; float32 and float64 have their own constants. Every
operation keeps its operands' type: a bare literal would widen float32 to float64.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

STRICT: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
"""Adding and subtracting the rounding constant must not be simplified away."""

F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64
LOG2_E = math.log2(math.e)
LN_2 = math.log(2.0)
THRESHOLD = 20.0
"""Above it softplus is the identity, as in torch and in mamba-ssm."""

# 2**f - 1 over f on [-1/2, 1/2], minimax: relative error 4e-9 and 2e-17.
E1, E2, E3 = F32(0.6931472253950111), F32(0.24022651084117294), F32(0.055502973141993248)
E4, E5, E6 = F32(0.0096180307825051538), F32(0.0013410000966100157), F32(0.00015469731977475549)
EXP2_64 = (
    4.077993856246354e-10, 7.072570445469294e-09, 1.0180648196555812e-07, 1.3215442675115585e-06,
    1.5252727383872463e-05, 0.000154035304415726, 0.0013333558153441335, 0.009618129107607002,
    0.05550410866479039, 0.24022650695910098, 0.6931471805599457,
)  # fmt: skip

# atanh(s) / s - 1 over z = s**2 on [0, 1/9]: minimax, relative error 1e-10; and its series.
L1, L2, L3 = F32(0.3333333775024851), F32(0.19999444172641326), F32(0.1430829848640539)
L4, L5 = F32(0.10715369226225916), F32(0.12144783033195966)
ATANH_64 = tuple(1.0 / (2 * k + 1) for k in range(17, -1, -1))

ONE, TWO = F32(1.0), F32(2.0)
ROUND_32, ROUND_64 = F32(1.5 * 2.0**23), 1.5 * 2.0**52
"""Added to v, they leave the nearest integer of v in the lowest bits."""


def exp2(v: Any) -> Any:
    """2**v of v < 128 (float64: 1024), NaN for NaN; above that meaningless. Kernels give it v <= 0.

    Cody-Waite reduction to [-1/2, 1/2], a polynomial, and the integer part added to the exponent's
    bits. Normal results are within 1.1 units in the last place; below them come 0 and wrong
    digits of subnormal size.
    """
    raise NotImplementedError


@overload(exp2, jit_options=STRICT)
def _exp2(v):
    if v == types.float32:

        def single(v):
            v = F32(-127.0) if v < F32(-127.0) else v
            shifted = v + ROUND_32
            f = v - (shifted - ROUND_32)
            p = ONE + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * E6)))))
            bits = F32(p).view(I32) + (F32(shifted).view(I32) << I32(23))
            return I32(bits).view(F32)

        return single

    def double(v):
        v = -1023.0 if v < -1023.0 else v
        shifted = v + ROUND_64
        f = v - (shifted - ROUND_64)
        p = 0.0
        for c in EXP2_64:
            p = f * (p + c)
        p += 1.0
        bits = F64(p).view(I64) + (F64(shifted).view(I64) << I64(52))
        return I64(bits).view(F64)

    return double


def log1p_unit(w: Any) -> Any:
    """log(1 + w) for w in [0, 1]: 2 atanh(w / (2 + w)) as a series."""
    raise NotImplementedError


@overload(log1p_unit, jit_options=STRICT)
def _log1p_unit(w):
    if w == types.float32:

        def single(w):
            s = w / (TWO + w)
            z = s * s
            return TWO * s * (ONE + z * (L1 + z * (L2 + z * (L3 + z * (L4 + z * L5)))))

        return single

    def double(w):
        s = w / (2.0 + w)
        z = s * s
        p = 0.0
        for c in ATANH_64:
            p = z * p + c
        return 2.0 * s * p

    return double


def softplus(v: Any) -> Any:
    """(log(1 + exp(v)), its derivative)."""
    raise NotImplementedError


@overload(softplus, jit_options=STRICT)
def _softplus(v):
    real = F32 if v == types.float32 else F64

    def both(v):
        low = exp2(-abs(v) * real(LOG2_E))
        above = v if v > real(0.0) else real(0.0)
        value = above + log1p_unit(low)
        slope = (real(1.0) if v > real(0.0) else low) / (real(1.0) + low)
        past = v > real(THRESHOLD)
        return (v if past else value), (real(1.0) if past else slope)

    return both


def sigmoid(v: Any) -> Any:
    """1 / (1 + exp(-v))."""
    raise NotImplementedError


@overload(sigmoid, jit_options=STRICT)
def _sigmoid(v):
    real = F32 if v == types.float32 else F64

    def logistic(v):
        low = exp2(-abs(v) * real(LOG2_E))
        return (real(1.0) if v > real(0.0) else low) / (real(1.0) + low)

    return logistic


def wide(value: Any) -> Any:
    """The value a kernel computes with: float32 of bfloat16 bits (uint16), else itself."""
    raise NotImplementedError


@overload(wide, jit_options=STRICT)
def _wide(value):
    if value == types.uint16:
        return lambda value: I32(I32(value) << I32(16)).view(F32)
    return lambda value: value


def put(row: Any, i: Any, value: Any) -> Any:
    """row[i] = value; in an array of bfloat16 bits rounded to nearest, ties to even."""
    raise NotImplementedError


@overload(put, jit_options=STRICT)
def _put(row, i, value):
    if row.dtype != types.uint16:

        def plain(row, i, value):
            row[i] = value

        return plain

    def rounded(row, i, value):
        bits = F32(value).view(np.uint32)
        bits = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        row[i] = np.uint16(bits >> np.uint32(16)) if value == value else np.uint16(0x7FC0)

    return rounded
