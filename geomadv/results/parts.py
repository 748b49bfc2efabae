"""Files of parts: a line that describes the variables, their bytes, and a checksum.

They come and go in the work area of a result, often by the hundred, and are made for speed:
HDF5 takes a hundred times as long. Arrays are mapped, and large ones never need to be in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.errors import decoding
from geomadv.files.writing import OutputFile
from geomadv.results.files import storable_dataset

_DIGEST_SIZE = 32


def readable(file: Path) -> AbstractContextManager[None]:
    """Names the part whose file cannot be read inside the block in an `InputError`."""
    remedy = "delete it and run the same command again; only this part is computed anew"
    return decoding(f"the part {file}", remedy)


def write_part(ds: xr.Dataset, output: OutputFile) -> None:
    """Writes a dataset; raises `InputError` for types that no result can hold."""
    ds = storable_dataset(ds)
    arrays = {str(name): _texts(v.to_numpy()) for name, v in ds.variables.items()}
    described = {
        name: [ds[name].dims, a.dtype.str, a.shape, _packed(ds[name].attrs)]
        for name, a in arrays.items()
    }
    head = [_packed(ds.attrs), [str(name) for name in ds.coords], described]
    checksum = hashlib.sha256()
    line = np.frombuffer(json.dumps(head).encode() + b"\n", np.uint8)
    for array in (line, *arrays.values()):
        content = np.ravel(array).view(np.uint8).data if array.size else b""
        checksum.update(content)
        output.write(content)
    output.write(checksum.digest())


def check_part(file: Path) -> None:
    """Raises an `InputError` for a part whose bytes are not those that were written."""
    with readable(file):
        content = np.memmap(file, mode="r")
        digest = hashlib.sha256(content[:-_DIGEST_SIZE].data).digest()
        if digest != content[-_DIGEST_SIZE:].tobytes():
            raise ValueError("its bytes are not those that were written")


def mapped_part(file: Path) -> xr.Dataset:
    """The dataset of a part; its variables are views of the file, which cannot be written to.

    Raises:
        InputError: the file is missing or too short.
    """
    variables, coords, attrs = _mapped(file)
    return xr.Dataset(variables, attrs=attrs).set_coords(coords)


def mapped_variables(file: Path) -> dict[str, xr.Variable]:
    """The variables of a part alone, for a tenth of the time."""
    return _mapped(file)[0]


def _mapped(file: Path) -> tuple[dict[str, xr.Variable], list[str], dict[str, Any]]:
    with readable(file):
        with file.open("rb") as opened:
            line = opened.readline()
        content, start = np.memmap(file, mode="r").view(np.ndarray), len(line)
        attrs, coords, described = json.loads(line)
        variables = {}
        for name, (dims, kind, shape, own) in described.items():
            dtype, end = np.dtype(kind), start + math.prod(shape) * np.dtype(kind).itemsize
            array = _array(content[start:end], dtype, shape)
            variables[name] = xr.Variable(dims, array, _unpacked(own))
            start = end
    return variables, coords, _unpacked(attrs)


def _array(content: NDArray[np.uint8], dtype: np.dtype[Any], shape: list[int]) -> NDArray[Any]:
    return np.ndarray(shape, dtype, content) if math.prod(shape) else np.empty(shape, dtype)


def _texts(array: NDArray[Any]) -> NDArray[Any]:
    """Texts of any length as texts of equal length."""
    return array.astype(str) if array.dtype == object else array


def _packed(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes in JSON terms: arrays, and numbers of NumPy, with their type."""
    return {
        str(name): value
        if isinstance(value, str | int | float | list)
        else {"type": value.dtype.str, "value": value.tolist()}
        for name, value in attrs.items()
    }


def _unpacked(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: np.array(value["value"], value["type"])[()] if isinstance(value, dict) else value
        for name, value in attrs.items()
    }
