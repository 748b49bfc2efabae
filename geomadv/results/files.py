"""Writing and reading whole result files."""

from __future__ import annotations

import contextlib
import json
import math
import os
import traceback
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

from geomadv.errors import InputError, refusing
from geomadv.files.guard import check_texts
from geomadv.files.kinds import hdf5_refusal
from geomadv.files.seals import seal, seal_holds
from geomadv.files.writing import OutputFile, refusals, remove_strays, replacing, temporary
from geomadv.labels import derived, without_derived
from geomadv.results.provenance import complete_attrs, storable
from geomadv.results.reading import read_netcdf

_IN_MEMORY_BYTES = 256 * 2**20
_BLOCK_BYTES = 16 * 2**20
# Of a chunk: neither a few rows nor a few columns of a matrix need much more than themselves read.
_CHUNK_BYTES, _CHUNK_COLUMNS = 2**19, 2**12
# What gzip makes smaller than this share it makes worth its time: images, at 90 MB/s (3 to 10
# times smaller). Normals keep 0.87 at 40 MB/s, and would be read ten times as slowly.
_WORTH, _TINY_BYTES = 0.6, 2**16
# Says that the file ends with a seal (`geomadv.files.seals`): one without has lost it.
_SEALED = "checksum"


def save(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    attrs: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = True,
) -> Path:
    """Writes a result as HDF5 that is also netCDF-4; the file appears whole or not at all.

    Args:
        ds: the result, with named dimensions; every data variable has the attributes long_name
            and units (``"1"`` for pure numbers). A coordinate without them is taken for a plain
            label: its own name and ``"1"`` are written.
        path: the file; its folder is created.
        attrs: root attributes, added to those of `ds` (see `provenance`).
        overwrite: replace an existing file; otherwise refuse.

    Returns:
        The path.

    Raises:
        InputError: a data variable lacks long_name or units, the file exists and `overwrite` is
            off, or the disk refuses.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: pass overwrite=True or choose another path.")
    prepared = prepare(ds, attrs)
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_strays(path)
    with replacing(path, temporary(path)) as output:
        write_netcdf(prepared, output)
    return path


def write_netcdf(ds: xr.Dataset, output: OutputFile) -> None:
    """Writes a dataset as netCDF-4; of large variables one block of rows is in memory at a time."""
    large = [
        name
        for name, variable in ds.data_vars.items()
        if variable.ndim and variable.nbytes > _BLOCK_BYTES and variable.dtype.kind in "biuf"
    ]
    small = ds.drop_vars(large).assign_attrs({_SEALED: "SHA-256 of what is before the last bytes"})
    with h5netcdf.File(output, "w") as file:
        layouts = {
            name: {"chunksizes": chunk, **filters}
            for name, v in small.variables.items()
            if v.size and v.ndim and v.dtype.kind in "biuf"  # texts can have no checksum
            for chunk, filters in [_layout(v)]
        }
        small.dump_to_store(H5NetCDFStore(file, lock=False), encoding=layouts)
        for name in large:
            _write_blocks(str(name), ds[name].variable, file, output)
    seal(output)


def _layout(data: xr.Variable) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Shape of a variable's chunks; their checksum, and the filter where it is worth its time."""
    shape, itemsize = data.shape, data.dtype.itemsize
    rest = (*shape[1:-1], min(shape[-1], _CHUNK_COLUMNS)) if len(shape) > 1 else ()
    rows = max(1, min(shape[0], _CHUNK_BYTES // (itemsize * math.prod(rest))))
    filters: dict[str, Any] = {"fletcher32": True}
    sample = data[:rows].to_numpy().tobytes() if data.nbytes > _TINY_BYTES else b""
    if len(zlib.compress(sample, 1)) < _WORTH * len(sample):
        filters |= {"compression": "gzip", "compression_opts": 1}
    return (rows, *rest), filters


def _write_blocks(name: str, data: xr.Variable, file: h5netcdf.File, output: OutputFile) -> None:
    for dim, length in data.sizes.items():
        if dim not in file.dimensions:
            file.dimensions[dim] = length
    # netCDF has no boolean type; by this mark xarray knows one again.
    marks, dtype = ({"dtype": "bool"}, np.int8) if data.dtype == bool else ({}, data.dtype)
    chunk, filters = _layout(data)
    target = file.create_variable(name, data.dims, dtype, chunks=chunk, **filters)
    for key, value in (data.attrs | marks).items():
        target.attrs[key] = value
    # Whole chunks: HDF5 would read, change and write the others again.
    step = max(1, _BLOCK_BYTES * len(data) // data.nbytes // chunk[0]) * chunk[0]
    for start in range(0, len(data), step):
        rows = slice(start, start + step)
        target[rows] = data[rows].to_numpy().astype(dtype, copy=False)
        output.check()


def prepare(ds: xr.Dataset, attrs: Mapping[str, Any] | None = None) -> xr.Dataset:
    """A copy of the dataset with checked labels and the root attributes of the format."""
    check_labels((str(name), var.attrs) for name, var in ds.data_vars.items())
    prepared = storable_dataset(without_derived(ds))
    for name in prepared.coords:
        variable = prepared.variables[name]
        variable.attrs = {"long_name": str(name), "units": "1"} | variable.attrs
    prepared.attrs = complete_attrs({**ds.attrs, **(attrs or {})})
    return prepared


def storable_dataset(ds: xr.Dataset) -> xr.Dataset:
    """A copy of the dataset as netCDF-4 can hold it; raises `InputError` for types it lacks."""
    prepared = ds.compute() if ds.chunks else ds.copy(deep=False)
    prepared.encoding = {}  # of another file, perhaps with other shapes
    for name, variable in prepared.variables.items():
        if variable.dtype.kind == "c" or variable.dtype == np.float16:
            raise InputError(
                f"variable {str(name)!r} has type {variable.dtype}, which netCDF-4 lacks: store "
                "complex numbers as real and imaginary part, half precision as float32."
            )
        if variable.dtype == object and not all(isinstance(v, str) for v in variable.values.flat):
            raise InputError(
                f"variable {str(name)!r} holds objects: store texts or numbers, and an index of "
                "several levels by `ds.reset_index`."
            )
        variable.attrs, variable.encoding = storable(variable.attrs), {}
    prepared.attrs = storable(ds.attrs)
    return prepared


def check_labels(variables: Iterable[tuple[str, Mapping[Any, Any]]]) -> None:
    """Refuses variables (name, attributes) that do not say what they are and in which units."""
    for name, attrs in variables:
        missing = [key for key in ("long_name", "units") if not attrs.get(key)]
        if missing:
            raise InputError(
                f"variable {name!r} has no {' and no '.join(missing)}: set its attributes, for "
                f'example {{"long_name": "norm of the perturbation", "units": "image units"}}; '
                'pure numbers have units "1".'
            )


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Reads a result file.

    Args:
        path: a file written by geomadv.

    Returns:
        The dataset. Files below 256 MiB are in memory and closed; of larger ones variables are
        read when used, and ``close()`` closes the file.

    Raises:
        InputError: no such file, not HDF5, truncated or damaged, not written by geomadv, or
            incomplete.
    """
    path = Path(path)
    read_attrs(path)
    with _reading(path):
        if path.stat().st_size < _IN_MEMORY_BYTES:
            ds = read_netcdf(path)
        else:
            ds = xr.open_dataset(path, engine="h5netcdf", decode_times=False)
        ds.attrs.pop(_SEALED, None)
        return derived(ds)


def check_file(path: Path) -> bool:
    """Whether a result has a checksum; raises `InputError` as `load`, having read all of it."""
    with load(path) as ds, _reading(path):
        if sealed := bool(seal_holds(path)):
            return sealed
        for variable in ds.variables.values():
            variable.to_numpy()
    return False


def read_attrs(path: Path) -> dict[str, Any]:
    """Root attributes of a complete result file; raises `InputError` for any other file."""
    if not os.path.lexists(path):
        raise InputError(
            f"no result file {path}: `geomadv run {path.stem}` makes it; or check the folder."
        )
    with _reading(path):
        whole = seal_holds(path)
        if whole is False:
            raise ValueError("its bytes are not those that were written")
        with h5py.File(path, "r") as file:
            if whole is None:  # foreign, or of before there were seals
                check_texts(path)
            attrs = dict(file.attrs)
    if "geomadv_version" not in attrs:
        raise InputError(
            f"{path} is HDF5 but not a geomadv result (it has no attribute geomadv_version): "
            "choose another file; xarray.open_dataset may read this one."
        )
    if not np.array_equal(np.ravel(attrs.get("complete", 0)), [1]):
        raise _damaged(path, "its attribute complete is not 1")
    if attrs.pop(_SEALED, None) is not None and not whole:
        raise _damaged(path, "it was changed after it had been written")
    return attrs


def entries(path: Path, attrs: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What an attribute of a file holds as JSON; empty without it."""
    with _reading(path):
        return dict(json.loads(str(attrs.get(name, "{}"))))


@contextlib.contextmanager
def holding(path: Path, purpose: str) -> Iterator[None]:
    """Turns what a changed result raises inside the block into an `InputError` about the file.

    Whoever loads a result may store it with other numbers, dimensions or attributes, so that the
    code that reads it may raise anything; the message says where, lest a fault of that code is
    taken for one of the file.

    purpose: what is made of it, such as "the figure x".
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"{path} does not hold what {purpose} needs ({type(error).__name__} in {place}: "
            f"{reason}): if it was changed since it was computed, compute it again (--refresh)."
        ) from error


def _reading(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turns whatever reading a file raises inside the block into an `InputError` about it."""
    return refusing(partial(_damaged, path))


def _damaged(path: Path, reason: str) -> InputError:
    if "signature not found" in reason:
        reason = "it is not HDF5"
    return hdf5_refusal(path, reason, "the result file", ("empty",)) or InputError(
        f"{path} is damaged, or not a complete result file ({reason}): restore it from a copy, or "
        "delete it and compute it again."
    )
