"""Results are laid out by a table `SCHEMA` above each experiment, from which `described` builds."""

import math
import re
from collections.abc import Mapping
from typing import Any

import xarray as xr
from torch import Tensor
from xarray.backends import BackendArray
from xarray.core import indexing

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


# Attribute of a variable: a further one that follows from it and is not stored, in words and as
# NAME = VARIABLE + FACTOR * ROWS. Attribute of that one: what it follows from.
GIVES, _FOLLOWS = "gives", "follows_from"
_FORMULA = r"(.+): (\w+) = (\w+) \+ (\w+) \* (\w+)"


def derived(ds: xr.Dataset) -> xr.Dataset:
    """The dataset itself with the variables that follow from others, computed when used."""
    for v in [*ds.data_vars.values()]:
        found = re.fullmatch(_FORMULA, str(v.attrs.get(GIVES, "")))
        if found and _fits(ds, *found.groups()[2:]):
            long_name, name, *terms = found.groups()
            lazy: Any = indexing.LazilyIndexedArray(_Sum(*(ds[term].variable for term in terms)))
            attrs = {"long_name": long_name, "units": v.attrs.get("units", "1"), _FOLLOWS: terms}
            ds[name] = xr.Variable(v.dims, lazy, attrs, fastpath=True)
    return ds


def _fits(ds: xr.Dataset, start: str, factors: str, rows: str) -> bool:
    """Whether a sum's terms are there as they were written, not changed since."""
    if not {start, factors, rows} <= {*ds.data_vars}:
        return False
    (n, *image), own, count = ds[start].shape or (0,), ds[rows].shape, ds[factors].shape
    return own == (n, math.prod(image)) and count == (n,)


def without_derived(ds: xr.Dataset) -> xr.Dataset:
    """The dataset without the variables that `derived` adds again."""
    return ds.drop_vars(
        [
            name
            for name, v in ds.data_vars.items()
            if (terms := v.attrs.get(_FOLLOWS)) and {*terms} <= {*ds.data_vars}
        ]
    )


class _Sum(BackendArray):
    """images (n, ...) + factors (n,) * rows (n, D), read row by row."""

    def __init__(self, images: xr.Variable, factors: xr.Variable, rows: xr.Variable) -> None:
        self._images, self._factors, self._rows = images, factors, rows
        self.shape, self.dtype = images.shape, images.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        at = slice(key[0], key[0] + 1) if isinstance(key[0], int) else key[0]
        images = self._images[at].to_numpy()
        step = self._factors[at].to_numpy()[:, None] * self._rows[at].to_numpy()
        found = images + step.reshape(images.shape).astype(self.dtype, copy=False)
        first = 0 if isinstance(key[0], int) else slice(None)
        return xr.Variable(self._images.dims, found)[(slice(None), *key[1:])][first].to_numpy()


def percent(share: float) -> str:
    """A share in percent with the digits that tell it from its neighbours: 0.03, 1.6, 31, 100."""
    value = 100 * share
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"
