"""Results that take long: what is computed is kept, so that a killed run does not repeat it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import xarray as xr

from geomadv.files.writing import check_writable, replacing
from geomadv.keep import Compute, Done, nothing, one_by_one
from geomadv.results.files import prepare, write_netcdf
from geomadv.results.parts import check_part, mapped_part, write_part
from geomadv.results.rows import joined_rows
from geomadv.results.workarea import WorkArea, read_manifest


class Store(WorkArea):
    """Keeps named parts of a result in the work area ``<path>.partial/`` until it is whole.

    Called with a name and a function, it returns what that function returned when it was first
    called under the name, in this process or an earlier one. Every part is one file that
    appeared by rename: a process killed at any moment loses at most the part in work. The
    area is locked against a second process until `finish`, `close` or the end of a ``with`` block.
    Experiments take a store as their argument `keep`::

        with Store(path, identity) as store:
            ds = ga.experiments.universal(net, images, held_out, radius, keep=store)
            store.finish(ds, provenance(identity))

    Args:
        path: the final file.
        identity: everything that fixes the numbers, in JSON terms.
        memo: what else `unfinished` shall tell of the area; it makes no difference.
        overwrite: discard a work area of another identity instead of refusing it. One of the
            same identity is continued in either case.

    Raises:
        InputError: the area is of another identity or version (the message lists the differences),
            another process works in it, or the disk refuses.
    """

    def has(self, part: str) -> bool:
        """Whether a part is kept."""
        return self._file(part).is_file()

    def __call__(self, part: str, compute: Compute) -> xr.Dataset:
        """The dataset of a part: the kept one, else what `compute` returns, which is then kept.

        Raises:
            InputError: the file of the part is damaged, or the disk refuses.
        """
        return mapped_part(self._kept(part, compute)).copy(deep=True)

    def each(self, parts: Mapping[str, Compute], done: Done = nothing) -> list[xr.Dataset]:
        """The datasets of parts, one after the other; see `__call__`."""
        return one_by_one(self, parts, done)

    def rows(self, parts: Mapping[str, Compute], dim: str, *, together: bool = False) -> xr.Dataset:
        """All parts joined along `dim`, computed one by one; variables are read when used.

        Coordinates without the dimension are those of every part, attributes those of the first.

        Raises:
            InputError: the file of a part is damaged, the parts do not fit each other, or the disk
                refuses.
        """
        del together  # there is one process
        return joined_rows([self._kept(part, compute) for part, compute in parts.items()], dim)

    def state(self, name: str) -> Path:
        """A file of the work area, which disappears with it."""
        self._check_open()
        return self.folder / f"state-{_file_name(name)}"

    def finish(self, ds: xr.Dataset, attrs: Mapping[str, Any]) -> Path:
        """Writes the final file, which appears by rename, and removes the work area.

        Large variables, those of `rows` above all, are read and written in blocks of rows. All
        numbers lie in chunks with checksums, those that a fast filter makes much smaller (images)
        behind it, and the file as a whole has a checksum.

        Args:
            ds: the result, labelled as for `save`.
            attrs: root attributes, see `provenance`.

        Returns:
            The path of the final file.

        Raises:
            InputError: labels are missing, a part is damaged, or the disk refuses; the parts then
                remain.
        """
        self._check_open()
        prepared = prepare(ds, attrs)
        check_writable(self.path.parent, prepared.nbytes)
        with replacing(self.path, self.folder / "assembled.h5.tmp") as output:
            write_netcdf(prepared, output)
            output.check()
            self._mark_assembled()
        self._remove()
        return self.path

    @cached_property
    def _checked(self) -> set[Path]:
        """Files of parts that this process has found whole, or written."""
        return set()

    def _file(self, part: str) -> Path:
        return self.folder / f"part-{_file_name(part)}.bin"

    def _kept(self, part: str, compute: Compute) -> Path:
        """The file of a part, which is computed if there is none."""
        self._check_open()
        file = self._file(part)
        if not file.is_file():
            ds = compute()
            with replacing(file, file.with_name(f"{file.name}.tmp")) as output:
                write_part(ds, output)
        elif file not in self._checked:
            check_part(file)
        self._checked.add(file)
        return file


def check_area(folder: Path) -> int:
    """How many parts a work area holds; raises `InputError` where one, or the manifest, is damaged.

    The files of a computation's own state are compared by whoever reads them.
    """
    read_manifest(folder)
    parts = sorted(folder.glob("part-*.bin"))
    for part in parts:
        check_part(part)
        mapped_part(part)
    return len(parts)


def _file_name(part: str) -> str:
    """A file name for any text; names stay apart where files are told by small letters alone."""
    allowed = re.sub(r"[^A-Za-z0-9_.-]", "-", part)[:100]
    digest = hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()[:8]
    return allowed if allowed.lower() == part else f"{allowed}-{digest}"
