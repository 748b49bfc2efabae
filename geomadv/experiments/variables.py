"""Variables of a result with the names and units that people read."""

from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from torch import Tensor


def variable(
    dims: str | Sequence[str], values: Any, long_name: str, units: str = "1"
) -> xr.Variable:
    """A labelled variable; tensors come from any device."""
    data = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return xr.Variable(dims, data, {"long_name": long_name, "units": units})


def mean_norm(x: Tensor) -> float:
    """Mean Euclidean norm of images (N, C, H, W)."""
    return float(torch.linalg.vector_norm(x.flatten(1).double(), dim=1).mean())
