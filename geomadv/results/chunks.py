"""Results that take long: computed chunk by chunk, resumable after a kill at any moment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from geomadv.errors import InputError
from geomadv.files.writing import check_writable, replacing
from geomadv.results.assembly import Schema, join, join_layouts, open_chunk
from geomadv.results.files import check_labels, prepare
from geomadv.results.identity import plain
from geomadv.results.workarea import WorkArea

Array = np.ndarray[Any, np.dtype[Any]]


class ChunkStore(WorkArea):
    """The work area ``<path>.partial/`` in which a result grows until it is assembled.

    Every finished chunk is one small HDF5 file that appeared by rename, so a process killed at any
    moment loses at most the chunk in work. The next store with the same configuration continues.
    The area is locked against a second process until `close`, the end of a ``with`` block, or
    `assemble`::

        with ChunkStore(path, config, chunks=len(batches)) as store:
            for i in sorted(set(range(len(batches))) - store.done()):
                store.write(i, compute(batches[i]))
            store.assemble({"normal": (("sample", "pixel"), labels)}, provenance(...))

    Args:
        path: the final file.
        config: everything that fixes the numbers: what `identity` gives, so that `reuse` knows a
            finished area of the same result.
        chunks: how many chunks there are; they are numbered from 0.
        overwrite: discard a work area of another configuration instead of refusing it. One of
            the same configuration is continued in either case.

    Raises:
        InputError: the area belongs to another configuration (the message lists the differences),
            another process works in it, or the disk refuses.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        chunks: int,
        *,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, {"config": plain(config), "chunks": chunks}, overwrite)
        self.chunks = chunks

    def done(self) -> set[int]:
        """Numbers of the finished chunks."""
        return {i for i in range(self.chunks) if self._file(i).is_file()}

    def write(self, i: int, arrays: Mapping[str, Any]) -> None:
        """Stores a finished chunk.

        Args:
            i: number of the chunk, 0 <= i < chunks.
            arrays: name -> (n, ...) numbers or booleans; n, possibly 0, is the same for all
                arrays of a chunk and may differ between chunks.

        Raises:
            InputError: no such chunk, arrays of unequal length or of another type, or the disk
                refuses; chunks stored before remain.
        """
        self._check_open()
        target = self._file(i)
        checked = _check_arrays(arrays)
        with (
            replacing(target, target.with_suffix(".h5.tmp")) as output,
            h5py.File(output, "w") as file,
        ):
            for name, array in checked.items():
                file.create_dataset(name, data=array)

    def read(self, i: int) -> dict[str, Array]:
        """The arrays of a finished chunk.

        Raises:
            InputError: the chunk is not finished, or its file is damaged.
        """
        target = self._file(i)
        if not target.is_file():
            raise InputError(f"chunk {i} of {self.path} is not computed yet: write it first.")
        with open_chunk(target) as file:
            return {name: data[...] for name, data in file.items()}

    def _file(self, i: int) -> Path:
        if not 0 <= i < self.chunks:
            raise InputError(f"chunk {i} does not exist: there are {self.chunks}, from 0.")
        return self.folder / f"chunk-{i:06d}.h5"

    def assemble(
        self,
        schema: Schema,
        attrs: Mapping[str, Any],
        *,
        constants: Mapping[str, Any] | None = None,
        coords: Mapping[str, Any] | None = None,
    ) -> Path:
        """Joins all chunks to the final file, which appears by rename, and removes the work area.

        Variables lie contiguously in the file (no HDF5 chunks); one array of one chunk is in
        memory at a time.

        Args:
            schema: variable -> (dimensions, attributes with long_name and units). The first
                dimension, the same for all, is the one along which chunks are joined.
            attrs: root attributes, see `provenance`.
            constants: further variables, as `xarray.Dataset` takes them, with labels.
            coords: coordinates, as `xarray.Dataset` takes them.

        Returns:
            The path of the final file.

        Raises:
            InputError: chunks are missing or do not fit the schema or each other, labels are
                missing, or the disk refuses; the chunks then remain.
        """
        self._check_open()
        missing = sorted(set(range(self.chunks)) - self.done())
        if missing:
            raise InputError(f"{self.path} lacks the chunks {missing}: write them first.")
        check_labels((name, labels) for name, (_, labels) in schema.items())
        rest = prepare(xr.Dataset(dict(constants or {}), dict(coords or {})), attrs)
        files = [self._file(i) for i in range(self.chunks)]
        layouts = join_layouts(files, schema)
        check_writable(self.path.parent, sum(layout.nbytes for layout in layouts.values()))
        with replacing(self.path, self.folder / "assembled.h5.tmp") as output:
            join(files, output, schema, layouts, rest)
            self._mark_assembled()
        self._remove()
        return self.path


def _check_arrays(arrays: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a chunk as NumPy arrays of types that netCDF has, all of one length."""
    checked = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in checked.items():
        if array.ndim == 0 or array.dtype.kind not in "biuf" or array.dtype == np.float16:
            raise InputError(
                f"array {name!r} of a chunk has shape {array.shape} and type {array.dtype}: chunks "
                "hold booleans, integers and float32 or float64 with rows along the first axis; "
                "texts and single numbers belong to the constants of assemble()."
            )
    lengths = {name: array.shape[0] for name, array in checked.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"the arrays of a chunk must have equally many rows, not {lengths}.")
    return checked
