"""Read TAPE's pickled records without running anything a file asks for.

A pickle is a program: `pickle.loads` calls whatever functions it names. TAPE's LMDB records hold
dicts of plain values and numpy arrays only. Plain values need no function at all; for arrays,
numpy scalars and the bytes of old protocols a few names are admitted, and even these lead to the
stand-ins of this module, which check what they are given and copy bytes. Any other name is refused.
"""

import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from lcframework.errors import DataError

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_NUMPY = ("numpy.core", "numpy._core")


class _Dtype:
    """A numeric dtype in the making."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"the byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """A numeric array in the making."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _numbers(data, dtype).reshape(shape, order="F" if fortran else "C").copy()


def _numbers(data: Any, dtype: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("an array of something else than numbers")
    return np.frombuffer(data, dtype.dtype)


def _dtype(text: Any, *_: Any) -> _Dtype:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise pickle.UnpicklingError(f"an array of dtype {text!r}")
    return _Dtype(np.dtype(text))


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if not isinstance(kind, _Admitted) or shape != (0,):
        raise pickle.UnpicklingError("an array of another make than TAPE's")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.__setstate__((1, shape, dtype, order == "F", data))
    return made


def _ndarray(*_: Any) -> Any:
    raise pickle.UnpicklingError("a call of numpy.ndarray")


def _scalar(dtype: Any, data: Any) -> Any:
    (value,) = _numbers(data, dtype)
    return value.item()


def _encode(text: Any, codec: Any) -> bytes:
    if codec != "latin1" or not isinstance(text, str):  # how old protocols write bytes
        raise pickle.UnpicklingError(f"the codec {codec!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""  # how old protocols write b""


class _Admitted:
    """A function that a pickle may call but, unlike a function, not alter."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a change of an admitted function")


_ADMITTED = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"{home}.multiarray", "_reconstruct"): _reconstruct for home in _NUMPY},
    **{(f"{home}.multiarray", "scalar"): _scalar for home in _NUMPY},
    **{(f"{home}.numeric", "_frombuffer"): _from_buffer for home in _NUMPY},
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        function = _ADMITTED.get((module, name))
        if function is None:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return _Admitted(function)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"the persistent id {pid!r}")


def loads(data: bytes, where: str) -> Any:
    """The plain value a pickle holds: dicts, lists, tuples, text, numbers, numeric numpy arrays.

    Args:
        data: the pickle, any protocol.
        where: what it is, for the error.

    Raises:
        DataError: it is damaged, or asks for anything beyond that.
    """
    try:
        return _resolved(_Restricted(io.BytesIO(data)).load())
    except Exception as error:
        # A damaged or hostile pickle can raise nearly anything; none of it is ours.
        raise DataError(
            f"{where}: not a record of plain values and numeric arrays, as TAPE's are: it holds "
            f"{error}. Nothing of it was run. Take the file from TAPE, or convert it to JSON lines."
        ) from error


def _resolved(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_resolved(key): _resolved(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_resolved(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_resolved(one) for one in value)
    if isinstance(value, bool | int | float | str | bytes) or value is None:
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__}")
