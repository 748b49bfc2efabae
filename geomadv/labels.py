"""Variables of a result with the names and units that people read."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import xarray as xr
from torch import Tensor

IMAGE = ("channel", "row", "column")


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
