"""Results in parts: those computed are kept, so that a killed run does not repeat them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import xarray as xr

from geomadv.errors import InputError
from geomadv.files.writing import replacing
from geomadv.results.files import prepare, storable_dataset, write_netcdf, write_prepared
from geomadv.results.identity import plain
from geomadv.results.provenance import program_version
from geomadv.results.workarea import WorkArea


class PartStore(WorkArea):
    """Keeps named parts of a result in the work area ``<path>.partial/`` until it is whole.

    Called with a name and a function, it returns what that function returned when it was first
    called under the name, in this process or an earlier one. Every part is one small HDF5 file
    that appeared by rename. Experiments take a store as their argument `keep`::

        with PartStore(path, config) as store:
            ds = ga.experiments.universal(net, images, held_out, radius, keep=store)
            store.finish(ds, provenance(...))

    Args:
        path: the final file.
        config: everything that fixes the numbers: what `identity` gives, so that `reuse` knows a
            finished area of the same result.
        overwrite: discard a work area of another configuration instead of refusing it. One of the
            same configuration is continued in either case.

    Raises:
        InputError: the area belongs to another configuration (the message lists the differences),
            another process works in it, or the disk refuses.
    """

    def __init__(
        self, path: str | os.PathLike[str], config: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        # What a part holds is the program's own affair, and may change with its version.
        manifest = {"config": plain(config), "geomadv_version": program_version()}
        super().__init__(path, manifest, overwrite)

    def __call__(self, part: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
        """The dataset of a part: the kept one, else what `compute` returns, which is then kept.

        Raises:
            InputError: the file of the part is damaged, or the disk refuses.
        """
        self._check_open()
        file = self.folder / _file_name(part)
        if not file.is_file():
            ds = storable_dataset(compute())
            with (
                replacing(file, file.with_suffix(".h5.tmp")) as output,
                h5netcdf.File(output, "w") as target,
            ):
                write_netcdf(ds, target)
        try:
            with xr.open_dataset(file, engine="h5netcdf", decode_times=False) as ds:
                return ds.load()
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"the part {file} is damaged ({error}): delete it and run the same command again; "
                "only this part is computed anew."
            ) from error

    def rows(self, parts: Mapping[str, Callable[[], xr.Dataset]], dim: str) -> xr.Dataset:
        """All parts joined along their first dimension, in memory."""
        kept = [self(part, compute) for part, compute in parts.items()]
        return xr.concat(kept, dim, join="exact", combine_attrs="override")

    def state(self, name: str) -> Path | None:
        """A file of the work area."""
        return self.folder / f"state-{name}"

    def finish(self, ds: xr.Dataset, attrs: Mapping[str, Any]) -> Path:
        """Writes the final file, which appears by rename, and removes the work area.

        Args:
            ds: the result, labelled as for `save`.
            attrs: root attributes, see `provenance`.

        Returns:
            The path of the final file.

        Raises:
            InputError: labels are missing, or the disk refuses; the parts then remain.
        """
        self._check_open()
        prepared = prepare(ds, attrs)  # refuses labels while the area is not marked
        self._mark_assembled()
        write_prepared(prepared, self.path)
        self._remove()
        return self.path


def _file_name(part: str) -> str:
    """A file name for any text; names stay apart where files are told by small letters alone."""
    allowed = re.sub(r"[^A-Za-z0-9_.-]", "-", part)[:100]
    digest = hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()[:8]
    digest = "" if allowed.lower() == part else f"-{digest}"
    return f"part-{allowed}{digest}.h5"
