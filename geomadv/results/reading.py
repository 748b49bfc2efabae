"""Reads a result file at once, as `xarray.open_dataset` does one variable after the other.

That looks every variable up some fifty times: a paper's run spent a tenth of its time in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

# By which HDF5 and netCDF-4 connect variables and dimensions.
_LAYOUT = (
    *("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"),
    *("_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties"),
)
# How netCDF-4 marks a dimension that has no coordinate.
_NO_VARIABLE = "not a netCDF variable"


def read_netcdf(path: Path) -> xr.Dataset:
    """All variables of a netCDF-4 file without groups, in memory; times are left as numbers."""
    with h5py.File(path, "r") as file:
        variables = {
            name: _variable(data)
            for name, data in file.items()
            if _NO_VARIABLE not in str(data.attrs.get("NAME", ""))
        }
        attrs = _attrs(file)
    ds = xr.decode_cf(xr.Dataset(variables, attrs=attrs), decode_times=False).load()
    ds.encoding["source"] = str(path)
    return ds


def _variable(data: Any) -> xr.Variable:
    if data.dtype == object:
        return xr.Variable(_dims(data), data.asstr()[()], _attrs(data), {"dtype": str})
    return xr.Variable(_dims(data), data[()], _attrs(data))


def _dims(data: Any) -> list[str]:
    """Names of a variable's dimensions; a coordinate is its own."""
    references = [axis[0] for axis in data.attrs.get("DIMENSION_LIST", ())]
    names = [h5py.h5r.get_name(reference, data.id).decode() for reference in references]
    return [name.removeprefix("/") for name in names or data.ndim * [data.name]]


def _attrs(of: Any) -> dict[str, Any]:
    return {name: _attr(of.attrs[name]) for name in of.attrs if name not in _LAYOUT}


def _attr(value: Any) -> Any:
    """An attribute as netCDF means it: a single one is no array, texts are no arrays either."""
    if isinstance(value, h5py.Empty):
        return "" if h5py.check_string_dtype(value.dtype) else np.array([], value.dtype)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        values = value.tolist() if value.dtype == object else value
        return values[0] if len(values) == 1 else values
    return value
