"""Variables of a result with the names and units that people read."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
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
    that a result has not (such as those of an option) are left out. Tensors come from any device.

    Raises:
        KeyError: a value that the schema does not name.
        ValueError: a value of other dimensions than the schema says.
    """
    variables = {
        name: variable(schema[name][0], v, *schema[name][1:]) for name, v in values.items()
    }
    ds = xr.Dataset(variables, attrs=dict(attrs or {}))
    return ds.set_coords([name for name in variables if schema[name][0] == (name,)])


def variable(
    dims: str | Sequence[str], values: Any, long_name: str, units: str = "1"
) -> xr.Variable:
    """A labelled variable; tensors come from any device."""
    data = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return xr.Variable(dims, data, {"long_name": long_name, "units": units})


def labelled(**variables: tuple[Any, Any, str, str]) -> xr.Dataset:
    """Dataset of variables given as (dimensions, values, long_name, units)."""
    return xr.Dataset({name: variable(*given) for name, given in variables.items()})


def label_variables(ds: xr.Dataset, labels: Mapping[str, tuple[str, str]]) -> xr.Dataset:
    """Sets (long_name, units) of the variables that are named, and returns the dataset."""
    for name, (long_name, units) in labels.items():
        ds[name].attrs |= {"long_name": long_name, "units": units}
    return ds


def mean_norm(x: Tensor) -> float:
    """Mean Euclidean norm of images (N, C, H, W)."""
    return float(torch.linalg.vector_norm(x.flatten(1).double(), dim=1).mean())
