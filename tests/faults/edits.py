"""Seeded edits of results: what scripts of others make of a file, under a right checksum."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geomadv.errors import InputError
from geomadv.results import load, save

_VALUES: tuple[Any, ...] = (
    *(None, "", "nan", "é∞", "../../etc", "{}", "[1]", "x" * 3000, -1, 0, 1, 2**40, 1.5, [], {}),
    *(1e308, ["a", 3], {"a": {"b": 1}}, True),
)
_NUMBERS = (np.nan, np.inf, -np.inf, 1e308, -1, 0, 2**40, 1e-320)


def edited(path: Path, draw: random.Random) -> None:
    """Changes a result as `geomadv.load` and `geomadv.save` let anybody do."""
    ds = load(path)
    for _ in range(draw.choice((1, 1, 2))):
        try:
            changed = draw.choice(_EDITS)(ds.copy(deep=True), draw)
            save(changed, path)
            ds = changed
        except (InputError, ValueError, TypeError, KeyError):  # no such dataset can be, or be saved
            continue


def _attribute(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    name, value = draw.choice(sorted(ds.attrs)), draw.choice(_VALUES)
    if value is None:
        del ds.attrs[name]
    else:
        ds.attrs[name] = json.dumps(value) if isinstance(value, dict) else value
    return ds


def _entry(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    """Another value somewhere in what is written as JSON."""
    name = draw.choice(("identity", "config", "images", "inputs"))
    found: Any = json.loads(ds.attrs[name])
    inside = found
    while True:
        keys = sorted(inside) if isinstance(inside, dict) else range(len(inside))
        key = draw.choice(keys or ["new"])
        if key == "new" or not isinstance(inside[key], dict | list) or draw.random() < 0.3:
            break
        inside = inside[key]
    inside[key] = draw.choice(_VALUES)
    ds.attrs[name] = json.dumps(found)
    return ds


def _variable(ds: xr.Dataset, draw: random.Random) -> str:
    return str(draw.choice(sorted(ds.variables, key=str)))


def _without(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    return ds.drop_vars(_variable(ds, draw))


def _renamed(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    return ds.rename({_variable(ds, draw): "x"})


def _typed(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    name, kind = _variable(ds, draw), draw.choice((str, bool, np.int8, np.uint64, np.float64))
    return ds.assign({name: ds[name].astype(kind)})


def _numbers(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    """Extreme numbers: one, some or all of a variable."""
    name, number = _variable(ds, draw), draw.choice(_NUMBERS)
    chosen = np.random.default_rng(draw.randrange(2**32)).random(ds[name].shape)
    where = chosen <= draw.choice((chosen.min(initial=1), 0.3, 1))
    values = ds[name].to_numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        changed = np.where(where, np.asarray(number).astype(values.dtype), values)
    return ds.assign({name: (ds[name].dims, changed, ds[name].attrs)})


def _few(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    """None, one or some along a dimension; or the first, without it."""
    which = draw.choice((slice(0), slice(1), slice(None, None, -2), 0))
    return ds.isel({draw.choice(sorted(map(str, ds.sizes))): which})


def _turned(ds: xr.Dataset, draw: random.Random) -> xr.Dataset:
    """A variable of another order of dimensions, or of others."""
    name = _variable(ds, draw)
    dims = draw.choice((ds[name].dims[::-1], tuple(f"x_{dim}" for dim in ds[name].dims)))
    values = ds[name].to_numpy()
    return ds.drop_vars(name).assign(
        {name: (dims, values.T if dims == ds[name].dims[::-1] else values, ds[name].attrs)}
    )


_EDITS = (_attribute, _entry, _without, _renamed, _typed, _numbers, _few, _turned)
