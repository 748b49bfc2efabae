"""Joining chunk files to one netCDF-4 file in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr

from geomadv.errors import InputError
from geomadv.files.writing import OutputFile
from geomadv.results.files import write_netcdf
from geomadv.results.provenance import storable

Schema = Mapping[str, tuple[Sequence[str], Mapping[str, Any]]]


@dataclass(frozen=True)
class Layout:
    """Shape and type of a variable; the rows of the chunks add up along the first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size of the variable's data, in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def joined(self, other: Layout, where: str) -> Layout:
        """This layout with the rows of another below."""
        if (self.shape[1:], self.dtype) != (other.shape[1:], other.dtype):
            raise InputError(
                f"{where} has shape {other.shape} and type {other.dtype}, the chunks before it "
                f"{self.shape} and {self.dtype}: all but the first axis must agree."
            )
        return Layout((self.shape[0] + other.shape[0], *self.shape[1:]), self.dtype)


def open_chunk(file: Path) -> h5py.File:
    """The file of a finished chunk, for reading; raises `InputError` if it is damaged."""
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise InputError(
            f"the chunk {file} is damaged ({error}): delete it and run the same command again; "
            "only this chunk is computed anew."
        ) from error


def join_layouts(files: Sequence[Path], schema: Schema) -> dict[str, Layout]:
    """Layout of every variable of the final file, from the headers of the chunks alone."""
    joined: dict[str, Layout] = {}
    for file in files:
        with open_chunk(file) as chunk:
            if set(chunk) != set(schema):
                raise InputError(
                    f"{file} holds {sorted(chunk)}, the schema names {sorted(schema)}: they must "
                    "name the same variables."
                )
            for name, data in chunk.items():
                found = Layout(data.shape, data.dtype)
                before = joined.get(name)
                joined[name] = before.joined(found, f"{name!r} of {file}") if before else found
    return joined


def join_sizes(schema: Schema, layouts: Mapping[str, Layout], rest: xr.Dataset) -> dict[str, int]:
    """Length of every dimension, where schema, chunks and constant variables agree."""
    sizes = {str(name): length for name, length in rest.sizes.items()}
    leading = {dims[0] for dims, _ in schema.values() if dims}
    if len(leading) != 1 or not all(dims for dims, _ in schema.values()):
        raise InputError(f"the schema's variables must share their first dimension, not {leading}.")
    for name, (dims, _) in schema.items():
        shape = layouts[name].shape
        if name in rest.variables or len(dims) != len(shape):
            raise InputError(
                f"variable {name!r} has dimensions {tuple(dims)} in the schema and shape {shape} "
                "in the chunks, and must not be among the constants: correct the schema."
            )
        for dim, length in zip(dims, shape, strict=True):
            if sizes.setdefault(dim, length) != length:
                raise InputError(
                    f"dimension {dim!r} has length {length} in variable {name!r} and {sizes[dim]} "
                    "elsewhere: give different dimensions different names."
                )
    return sizes


def join(
    files: Sequence[Path],
    output: OutputFile,
    schema: Schema,
    layouts: Mapping[str, Layout],
    rest: xr.Dataset,
) -> None:
    """Writes the constant variables and attributes of `rest`, then the chunks row by row."""
    sizes = join_sizes(schema, layouts, rest)
    with h5netcdf.File(output, "w") as file:
        write_netcdf(rest, file)
        for dim in [name for name in sizes if name not in file.dimensions]:
            file.dimensions[dim] = sizes[dim]
        for name, (dims, labels) in schema.items():
            dtype = layouts[name].dtype
            variable = file.create_variable(name, tuple(dims), _stored(dtype))
            # netCDF has no boolean type; by this mark xarray knows one again.
            marks = {"dtype": "bool"} if dtype.kind == "b" else {}
            for key, value in (storable(labels) | marks).items():
                variable.attrs[key] = value
        start = 0
        for path in files:
            start += _copy_rows(file, path, start)
            output.check()


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.int8) if dtype.kind == "b" else dtype


def _copy_rows(file: h5netcdf.File, path: Path, start: int) -> int:
    """Copies a chunk to the rows from `start` on and returns how many there were."""
    count = 0
    with open_chunk(path) as chunk:
        for name, data in chunk.items():
            count = data.shape[0]
            if count:
                file[name][start : start + count] = data[...].astype(
                    _stored(data.dtype), copy=False
                )
    return count
