"""Pickles of plain data, read without running them.

A pickle is a program. Here it may build texts, numbers, lists and dicts, and of NumPy plain arrays
of numbers, whose making is replaced by our own; whatever else it asks for is refused.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


class _Type:
    """Stands for numpy.dtype."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: Sequence[Any]) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.code = order.replace("|", "") + self.code


class _Array:
    """Stands for numpy.ndarray."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        dtype = np.dtype(kind.code)
        if dtype.kind not in "iuf":
            raise pickle.UnpicklingError(f"an array of {dtype}, where numbers are expected")
        order: Any = "F" if fortran else "C"
        self.array = np.frombuffer(bytearray(content), dtype).reshape(shape, order=order)


def _blank(*_: Any) -> _Array:
    """Stands for NumPy's function that makes arrays, which get their content afterwards."""
    return _Array()


def _encoded(text: str, coding: str) -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes for Python 2."""
    del coding
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _blank,
    ("numpy._core.multiarray", "_reconstruct"): _blank,
    ("_codecs", "encode"): _encoded,
}


class _Plain(pickle._Unpickler):
    """In Python: the one in C fills the memory where an instruction numbers its memo high."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not run")
        return _ALLOWED[module, name]


def read_pickled(path: Path) -> dict[str, Any]:
    """A pickled dict with its keys as texts; arrays among its values or in lists of these.

    Texts of Python 2 are given as bytes.

    Raises:
        Exception: of any kind, that of the first instruction of a damaged pickle that fails;
            `pickle.UnpicklingError` for one that asks for more than plain data.
    """
    with path.open("rb") as file:
        found = _Plain(file, encoding="bytes").load()
    return {k.decode() if isinstance(k, bytes) else k: _plain(v) for k, v in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.array if isinstance(value, _Array) else value
