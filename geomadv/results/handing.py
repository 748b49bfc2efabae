"""Results as other programs take them: tables for pandas and seaborn, perturbations as arrays."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from geomadv.errors import InputError, UnconvergedWarning, closest
from geomadv.files.writing import refusals, write_whole
from geomadv.labels import IMAGE

# Dimensions that number the pixels of an image.
_PIXELS = {*IMAGE, "pixel"}
# A table of more rows does not fit beside the result in the memory of usual machines.
_ROWS = 50_000_000
# How schemas name what holds a class's number.
_CLASS = re.compile(r"((true|target|predicted) )?class\b")


def to_dataframe(
    ds: xr.Dataset,
    variables: str | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A result as a tidy table, one row for each combination of coordinates, one column a quantity.

    The coordinates are columns; the names of families and networks that a result holds stand
    beside their short forms, and class numbers become the classes' names (a categorical in the
    network's order) where these are known.

    Args:
        ds: the result.
        variables: which ones. They share a table: one of fewer dimensions repeats along the
            others. Default: the first that is no image, and all that fit into its table.
        class_names: one name per class; default: those that the result holds. Without any,
            classes keep their numbers.

    Returns:
        The table; `attrs["units"]` and `attrs["long_name"]` map its columns to words for axes.

    Raises:
        InputError: no such variable, or too many rows for a table.

    Examples:
        >>> ds = xr.Dataset({"rate": (("m", "draw"), [[0.1, 0.3]])}, {"m": [5]})
        >>> to_dataframe(ds).query("draw == 1")[["m", "rate"]].to_numpy().tolist()
        [[5.0, 0.3]]
    """
    chosen = _first_table(ds) if variables is None else _named(ds, variables)
    dims = list(dict.fromkeys(dim for name in chosen for dim in ds[name].dims))
    rows = math.prod(ds.sizes[dim] for dim in dims)
    if rows > _ROWS:
        raise InputError(
            f"variables={chosen} make a table of {rows:,} rows (over {', '.join(map(str, dims))}); "
            f"at most {_ROWS:,} are made. Choose some first: ds.isel({dims[-1]}=slice(10))."
        )
    table = ds[[*chosen, *_beside(ds, chosen, dims)]]
    if dims:
        frame = table.to_dataframe(dim_order=dims).reset_index()
    else:
        frame = pd.DataFrame({str(name): [v.to_numpy()[()]] for name, v in table.variables.items()})
    if class_names is None and "class_name" in ds:
        class_names = [str(name) for name in ds["class_name"].to_numpy()]
    for name in [n for n in chosen if class_names is not None and _is_class(ds[n])]:
        frame[name] = _with_names(frame[name], class_names or ())
    for attribute in ("units", "long_name"):
        frame.attrs[attribute] = {
            str(column): str(ds[column].attrs[attribute])
            for column in frame.columns
            if column in ds and attribute in ds[column].attrs
        }
    return frame


def _named(ds: xr.Dataset, variables: str | Sequence[str]) -> list[str]:
    chosen = [variables] if isinstance(variables, str) else [*variables]
    known = [str(name) for name in ds.data_vars]
    if unknown := [name for name in chosen if name not in known]:
        raise InputError(
            f"variables: the result has no {unknown[0]!r}.{closest(str(unknown[0]), known)} It has "
            f"{', '.join(known)}."
        )
    if not chosen:
        raise InputError("variables is empty: name one or more, or leave it out for the first.")
    return chosen


def _first_table(ds: xr.Dataset) -> list[str]:
    """The first variable that is no image, and all that have no dimension beyond its own."""
    rest = [str(name) for name, v in ds.data_vars.items() if not _PIXELS & {*v.dims}]
    if not rest:
        raise InputError(
            f"variables: all of {', '.join(map(str, ds.data_vars)) or 'no variables'} are images; "
            "name one to have its pixels as rows."
        )
    first = next((name for name in rest if ds[name].ndim), rest[0])
    return [name for name in rest if {*ds[name].dims} <= {*ds[first].dims}]


def _beside(ds: xr.Dataset, chosen: Sequence[str], dims: Sequence[Any]) -> list[str]:
    """Texts along one of the dimensions, such as what a family is made of."""
    return [
        str(name)
        for name, v in ds.data_vars.items()
        if name not in chosen and v.dtype.kind in "UO" and v.ndim == 1 and v.dims[0] in dims
    ]


def _is_class(variable: xr.DataArray) -> bool:
    words = str(variable.attrs.get("long_name", ""))
    return variable.dtype.kind in "iu" and _CLASS.match(words) is not None


def _with_names(numbers: pd.Series, names: Sequence[str]) -> pd.Series:
    """Class numbers as their names, -1 as none; of names that occur twice, with the number."""
    numbered = [f"{n} ({k})" for k, n in enumerate(names)]
    labels = [n if [*names].count(n) == 1 else numbered[k] for k, n in enumerate(names)]
    if len({*labels}) < len(labels):
        labels = numbered
    if len(numbers) and not -1 <= numbers.min() <= numbers.max() < len(labels):
        worst = numbers.min() if numbers.min() < -1 else numbers.max()
        raise InputError(
            f"class_names has {len(labels)} names, and {numbers.name} a class {worst}: give the "
            "names of all classes of the network, net.class_names."
        )
    codes = numbers.to_numpy()
    return pd.Series(pd.Categorical.from_codes(codes, labels), numbers.index, name=numbers.name)


def export_perturbation(source: Any, path: str | os.PathLike[str]) -> Path:
    """Writes perturbations as a plain float32 array, for NumPy (.npy) or PyTorch (.pt).

    Args:
        source: what `universal_perturbation`, `deepfool`, `fgsm` or `saliency` give; a tensor; or
            a result: of `universal`, `finetuning` and others its `perturbation`, of `boundary`
            the way from each image to its boundary point. Any other variable: `ds["name"]`.
        path: file that ends in .npy or .pt; its folder is created. The values are in image units,
            unrounded and unclipped, (C, H, W) or with further axes before these.

    Rows that are not finite, of images without a boundary point, are written and warned of.

    Returns:
        The path. `numpy.load(path)` and `torch.load(path, weights_only=True)` read it.

    Raises:
        InputError: another ending, or nothing in it that is a perturbation.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".pt"):
        raise InputError(
            f"path={str(path)!r} ends in {path.suffix or 'nothing'!r}; expected .npy (NumPy) or "
            ".pt (PyTorch)."
        )
    values, buffer = np.ascontiguousarray(_perturbation(source), np.float32), io.BytesIO()
    missing = ~np.isfinite(values).all((-3, -2, -1)) if values.ndim >= 3 else ~np.isfinite(values)
    if missing.any():
        warnings.warn(
            f"{path}: {int(missing.sum())} of {missing.size} perturbations are not finite, as "
            "those of images without a boundary point. To leave them out: "
            "v[numpy.isfinite(v).all((1, 2, 3))].",
            UnconvergedWarning,
            stacklevel=2,
        )
    if path.suffix == ".npy":
        np.save(buffer, values)
    else:
        torch.save(torch.from_numpy(values), buffer)
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())
    return path


def _perturbation(source: Any) -> NDArray[Any]:
    if isinstance(source, xr.Dataset):
        if "perturbation" in source:
            source = source["perturbation"]
        elif {"point", "image"} <= {*source.variables}:
            source = source["point"] - source["image"]
    source = getattr(source, "delta", source)
    if isinstance(source, xr.DataArray):
        source = source.transpose(..., *(dim for dim in IMAGE if dim in source.dims)).to_numpy()
    if isinstance(source, torch.Tensor):
        # NumPy has no bfloat16; what is no floating-point number is refused below.
        source = (source.float() if source.is_floating_point() else source).detach().cpu().numpy()
    if not isinstance(source, np.ndarray) or source.dtype.kind != "f":
        raise InputError(
            f"source: found a {type(source).__name__}, expected a UniversalPerturbation, "
            "Perturbations, a tensor or a result with the variable perturbation (or point and "
            'image); of another result name the variable: ds["name"].'
        )
    return source
