"""Images with labels in one HDF5 file, which may be of netCDF-4; what cannot be read is named."""

import contextlib
import functools
import importlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from geomadv.errors import InputError, refusing
from geomadv.files.guard import SECONDS, output_of
from geomadv.files.kinds import hdf5_refusal
from geomadv.images.containers import limited, missing_key
from geomadv.images.formats import check_promise, damaged, naming
from geomadv.images.imageset import ImageSet, labels_misfit
from geomadv.images.readers import Reader, as_slice, check_layout, check_pixels, to_float32

Bounds = tuple[float, float]
# Bytes that a dataset of any file may promise.
_SPARE = 2**23

_READ_TEXTS = """
import json, sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    json.dump([text.decode() for text in file[sys.argv[2]][...].ravel()], sys.stdout)
"""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; what HDF5 says of it inside the block becomes an `InputError`."""
    with refusing(partial(_refusal, path)), h5py.File(path, "r") as file:
        yield file


def _refusal(path: Path, reason: str) -> InputError:
    known = hdf5_refusal(path, reason, "the image file", ())
    return known or damaged(path, f"is no readable HDF5 file ({reason})")


def hdf5_keys(path: Path) -> list[str]:
    """Names of the datasets in a file and its groups of first order, and of links that lead on."""
    with opened(path) as file:
        groups = {k: g for k in file if isinstance(g := file.get(k), h5py.Group)}
        return [k for k in file if k not in groups] + [
            f"{k}/{n}" for k in groups for n in groups[k]
        ]


def load_hdf5(
    path: Path, images: str, labels: str, limit: int | None, name: str, bounds: Bounds
) -> ImageSet:
    """Opens an HDF5 file with a dataset of images, and perhaps of labels, and `class_names`.

    Pixels are read when asked for, and floating ones are checked then. As in netCDF, the attributes
    scale_factor and add_offset are applied, and missing values (_FillValue, missing_value) refused.

    Raises:
        InputError: no HDF5 file, missing datasets, or what `ImageSet` refuses.
    """
    with opened(path) as file:
        data = _dataset(file, images, path)
        packing, shape = _packing(data, path), data.shape
        check_layout(shape, packing.dtype(data.dtype), bounds, str(path))
        classes = _integers(file, labels, path, shape[0])
        names = _names(file, path)
    with naming(path):
        reader = HDF5Reader(path, images, shape, bounds, packing)
        return limited(reader, classes, names, limit, name, bounds)


# Datasets


def _dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """A dataset whose content can be read here."""
    data = file.get(key)
    if data is None and (link := file.get(key, getlink=True)) is not None:
        where, what = getattr(link, "filename", "this file"), getattr(link, "path", key)
        raise _gone(path, key, f"a link to {what!r} in {where}")
    if not isinstance(data, h5py.Dataset):
        raise missing_key(path, key, list(file))
    for source in data.virtual_sources() if data.is_virtual else ():
        if source.file_name != "." and not (path.parent / source.file_name).is_file():
            raise _gone(path, key, f"put together from {source.file_name}")
    for source, *_ in data.external or ():
        if not Path(source).is_file():
            raise _gone(path, key, f"stored in {source}")
    if not data.is_virtual and not data.external:  # filters other than deflate pack more tightly
        check_promise(path, math.prod(data.shape or ()) * data.dtype.itemsize, _SPARE)
    _check_filters(data, path)
    return data


def _gone(path: Path, key: str, what: str) -> InputError:
    return InputError(
        f"{path}: its dataset {key!r} is {what}, which is not there. Put that file back beside it, "
        "or copy the data into one file, for example with `h5repack`."
    )


def _check_filters(data: h5py.Dataset, path: Path) -> None:
    made = data.id.get_create_plist()
    for k in range(made.get_nfilters()):
        number, _, _, name = made.get_filter(k)
        if not h5py.h5z.filter_avail(number):
            with contextlib.suppress(ImportError):  # it registers its filters
                importlib.import_module("hdf5plugin")
        if not h5py.h5z.filter_avail(number):
            raise InputError(
                f"{path}: {data.name[1:]!r} is compressed with the HDF5 filter "
                f"{name.decode(errors='replace') or 'without a name'} (number {number}), which is "
                "not installed. Install it with `pip install hdf5plugin`, or write the file anew "
                "with compression='gzip'."
            )


def _integers(file: h5py.File, key: str, path: Path, count: int) -> NDArray[Any] | None:
    """Labels, None where there are none; texts, which cannot be labels, are not read."""
    if key not in file and file.get(key, getlink=True, default=None) is None:
        return None
    data = _dataset(file, key, path)
    if data.dtype.kind not in "iufb":
        raise InputError(
            f"{path}: {key!r} is of type {data.dtype}; expected integers (N,), one class number "
            "per image, and the names of the classes as 'class_names'."
        )
    if data.shape != (count,):
        with naming(path):
            raise labels_misfit(data.shape, count)
    return np.asarray(data[...])


def _names(file: h5py.File, path: Path) -> list[str] | None:
    if "class_names" not in file:
        return None
    data = _dataset(file, "class_names", path)
    if h5py.check_string_dtype(data.dtype) and data.dtype.kind == "O":
        status = path.stat()
        return list(_texts(path, "class_names", (status.st_mtime_ns, status.st_size)))
    if data.dtype.kind not in "SUiu":
        raise InputError(f"{path}: 'class_names' is of type {data.dtype}; expected texts.")
    return [n.decode() if isinstance(n, bytes) else str(n) for n in np.ravel(data[...])]


@functools.lru_cache(maxsize=16)
def _texts(path: Path, key: str, state: tuple[int, int]) -> tuple[str, ...]:
    """Texts of variable length, under a guard; read anew where the file's state has changed."""
    del state
    found = output_of(_READ_TEXTS, str(path), key)
    try:
        return tuple(json.loads(found or b""))
    except ValueError:
        raise damaged(
            path,
            f"holds texts ({key!r}) that HDF5 cannot read, or not within {SECONDS} seconds, as "
            "happens where some bytes of them have changed",
        ) from None


# Pixels


@dataclass(frozen=True)
class _Packing:
    """How stored numbers stand for pixels: value = scale * number + offset; some for none."""

    packed: bool
    scale: float
    offset: float
    missing: tuple[float, ...]

    def dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """The type of the values."""
        return np.dtype(np.float64) if self.packed and stored.kind in "iuf" else stored

    def unpacked(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The values."""
        return stored * np.float64(self.scale) + self.offset if self.packed else stored


def _packing(data: h5py.Dataset, path: Path) -> _Packing:
    scale, offset = (_numbers(data, key, path) for key in ("scale_factor", "add_offset"))
    if "_Unsigned" in data.attrs and data.dtype.kind == "i":
        raise InputError(
            f"{path}: {data.name[1:]!r} holds unsigned numbers as signed ones (attribute "
            "_Unsigned). Write it anew as uint8, or as floating values."
        )
    missing = [*_numbers(data, "_FillValue", path), *_numbers(data, "missing_value", path)]
    packed = bool(scale or offset)
    return _Packing(packed, (scale or [1.0])[0], (offset or [0.0])[0], tuple(missing))


def _numbers(data: h5py.Dataset, key: str, path: Path) -> list[float]:
    """An attribute of numbers; empty without it."""
    if key not in data.attrs:
        return []
    if data.attrs.get_id(key).dtype.kind not in "iuf":
        raise InputError(
            f"{path}: the attribute {key} of {data.name[1:]!r} is no number. Correct it, or write "
            "the images as plain uint8 or floating values."
        )
    return [float(v) for v in np.ravel(data.attrs[key])]


class HDF5Reader(Reader):
    """A dataset of an HDF5 file; only what is asked for is read, and checked then."""

    def __init__(
        self,
        path: Path,
        key: str,
        shape: tuple[int, int, int, int],
        bounds: Bounds,
        packing: _Packing,
    ) -> None:
        self.path, self.key, self.shape = path, key, shape
        self.bounds, self.packing = bounds, packing

    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images at the positions, in their order."""
        with opened(self.path) as file:
            stored = _rows(_dataset(file, self.key, self.path), index)
        missing = np.isin(stored, self.packing.missing).any(axis=(1, 2, 3))
        if missing.any():
            raise InputError(
                f"{self.path}: {int(missing.sum())} of the {len(index)} images just read have "
                f"missing values ({' or '.join(f'{v:g}' for v in self.packing.missing)}, see the "
                f"attribute _FillValue), the first is number {int(index[missing.argmax()])}. Fill "
                "them or remove the images; if the value is a pixel like others, remove the "
                "attribute."
            )
        pixels = self.packing.unpacked(stored)
        images = to_float32(pixels)
        if pixels.dtype != np.uint8:
            check_pixels(images, index, self.shape[0], self.bounds, str(self.path))
        return images


def _rows(dataset: Any, index: NDArray[np.int64]) -> NDArray[Any]:
    where = as_slice(index)
    if isinstance(where, slice):
        return np.asarray(dataset[where])
    # HDF5 selects in increasing order only, each row once.
    rows, back = np.unique(index, return_inverse=True)
    return np.asarray(dataset[rows])[back]
