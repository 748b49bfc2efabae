"""Results are laid out by a table `SCHEMA` above each experiment, from which `described` builds."""

from collections.abc import Mapping
from typing import Any

import xarray as xr
from torch import Tensor

IMAGE = ("channel", "row", "column")

# How a result is laid out: variable -> (dimensions, long_name, units).
Schema = Mapping[str, tuple[tuple[str, ...], str, str]]


def described(
    schema: Schema, values: Mapping[str, Any], attrs: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """The dataset of the values, with dimensions, names and units from the schema.

    A variable whose only dimension has its own name becomes a coordinate. Variables of the schema
    that a result has not (such as those of an option) are left out. Tensors come from any device;
    arrays of xarray give up their own labels and are brought to the order of the dimensions.

    Raises:
        KeyError: a value that the schema does not name.
        ValueError: a value of other dimensions than the schema says.
    """
    variables = {}
    for name, v in values.items():
        dims, long_name, units = schema[name]
        variables[name] = _variable(dims, v, {"long_name": long_name, "units": units})
    return xr.Dataset(variables, attrs=attrs)


def _variable(dims: tuple[str, ...], values: Any, attrs: Mapping[str, str]) -> xr.Variable:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    elif isinstance(values, xr.DataArray):
        values = values.transpose(*dims).to_numpy()
    return xr.Variable(dims, values, attrs)
