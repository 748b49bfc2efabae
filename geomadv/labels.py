"""How results are laid out: a table `SCHEMA` above each experiment names every variable.

It gives the dimensions, the name and the units that people read; `described` builds the result.
"""

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
    that a result has not (such as those of an option) are left out. Tensors come from any device;
    arrays of xarray give up their own labels and are brought to the order of the dimensions.

    Raises:
        KeyError: a value that the schema does not name.
        ValueError: a value of other dimensions than the schema says.
    """
    variables = {
        name: variable(schema[name][0], v, *schema[name][1:]) for name, v in values.items()
    }
    return xr.Dataset(variables, attrs=attrs)


def variable(
    dims: str | Sequence[str], values: Any, long_name: str, units: str = "1"
) -> xr.Variable:
    """A labelled variable; tensors come from any device."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    elif isinstance(values, xr.DataArray):
        values = values.transpose(*dims).to_numpy()
    return xr.Variable(dims, values, {"long_name": long_name, "units": units})


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
