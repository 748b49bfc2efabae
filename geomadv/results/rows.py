"""Rows that lie in several files, one below the other, read when they are used."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from geomadv.errors import InputError
from geomadv.results.parts import mapped_part, mapped_variables


def joined_rows(files: Sequence[Path], dim: str) -> xr.Dataset:
    """The datasets of the files, joined along `dim`, whose variables are read when they are used.

    Raises:
        InputError: a file is damaged, or holds other variables than the first, of other types or
            sizes, texts, or rows that are not along the first axis.
    """
    blank = mapped_part(files[0]).isel({dim: slice(0)}).copy(deep=True)
    rows = {str(name): v for name, v in blank.variables.items() if dim in v.dims}
    for name, v in rows.items():
        if v.dims[0] != dim or v.dtype.kind not in "biuf":
            raise InputError(
                f"variable {name!r} of {files[0]} has dimensions {v.dims} and type {v.dtype}: rows "
                f"are booleans and numbers with {dim!r} as their first dimension."
            )
    starts = np.cumsum([0, *_row_counts(files, set(rows))])
    joined = {
        name: xr.Variable(v.dims, _lazy(_Rows(name, files, starts, v)), v.attrs, fastpath=True)
        for name, v in rows.items()
    }
    variables = {str(name): joined.get(str(name), v) for name, v in blank.variables.items()}
    coords = {str(name): variables.pop(str(name)) for name in blank.coords}
    return xr.Dataset(variables, coords, blank.attrs)


def _lazy(rows: _Rows) -> Any:
    lazy: Any = indexing.LazilyIndexedArray(rows)
    return indexing.CopyOnWriteArray(lazy)


def _row_counts(files: Sequence[Path], rows: set[str]) -> list[int]:
    """How many rows each file has, where all agree in everything else."""
    counts, layouts = zip(*(_layout(file, rows) for file in files), strict=True)
    for file, layout in zip(files, layouts, strict=True):
        if changed := {name for name, _ in layouts[0].items() ^ layout.items()}:
            raise InputError(
                f"the part {file} does not fit the first one of the rows, {files[0]}, in "
                f"{', '.join(sorted(changed))}: all but the number of rows must agree."
            )
    return list(counts)


def _layout(file: Path, rows: set[str]) -> tuple[int, dict[str, str]]:
    """How many rows a file has, and what of it must be the same in all files."""
    count, layout = 0, {}
    for name, variable in mapped_variables(file).items():
        if name in rows:
            count = len(variable)
            layout[name] = f"{variable.shape[1:]} {variable.dtype}"
        else:
            layout[name] = repr(variable.to_numpy().tolist())
    return count, layout


class _Rows(BackendArray):
    """One variable of all files."""

    def __init__(self, name: str, files: Sequence[Path], starts: Any, blank: xr.Variable) -> None:
        self._name, self._files, self._starts = name, files, starts
        self.shape = (int(starts[-1]), *blank.shape[1:])
        self.dtype = blank.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        """The rows of a key, whose indices ascend."""
        wanted = np.arange(self.shape[0])[key[0]]
        places = np.atleast_1d(wanted)
        cuts = np.searchsorted(places, self._starts)
        found: Any = None
        for file, start, (low, high) in zip(
            self._files, self._starts, pairwise(cuts), strict=False
        ):
            if low < high or found is None:
                block = self._block(file, places[low:high] - start, key[1:])
                if found is None:
                    found = np.empty((len(places), *block.shape[1:]), self.dtype)
                found[low:high] = block
                del block  # before the next one is read
        return found if np.ndim(wanted) else found[0]

    def _block(self, file: Path, rows: Any, rest: tuple[Any, ...]) -> Any:
        """The rows of one file, as far as possible a view of it."""
        block = mapped_variables(file)[self._name].to_numpy()
        for axis, choice in reversed(list(enumerate((rows, *rest)))):
            block = block[(*axis * [slice(None)], choice)]
        return block
