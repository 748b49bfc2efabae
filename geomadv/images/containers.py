"""Images with labels in one .npz or HDF5 file."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.images.formats import damaged
from geomadv.images.imageset import ImageSet
from geomadv.images.readers import Reader, as_slice, check_layout, check_pixels, to_float32

Bounds = tuple[float, float]


def _missing_key(path: Path, key: str, found: list[str]) -> InputError:
    return InputError(
        f"{path} has no {key!r}; it has {', '.join(map(repr, found)) or 'nothing'}. Store the "
        "images (N, C, H, W) as 'images', the labels (N,) as 'labels' and, if wanted, the class "
        "names as 'class_names'."
    )


def load_npz(path: Path, limit: int | None, name: str, bounds: Bounds) -> ImageSet:
    """Loads an .npz file with `images` (N, C, H, W) and, optionally, `labels`, `class_names`.

    Raises:
        InputError: a damaged file, missing or pickled arrays, or what `ImageSet` refuses.
    """
    unreadable = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = list(file.keys())
            if "images" not in keys:
                raise _missing_key(path, "images", keys)
            found = {k: file[k] for k in ("images", "labels", "class_names") if k in keys}
    except InputError:
        raise
    except unreadable as error:
        raise InputError(
            f"{path} is no readable .npz file of plain arrays ({error}). Copy it again, or save it "
            "anew with np.savez(path, images=..., labels=...); pickled objects are not loaded."
        ) from error
    with naming(path):
        return _limited(found["images"], found.get("labels"), _texts(found), limit, name, bounds)


def _limited(
    images: Any, labels: Any, names: list[str] | None, limit: int | None, name: str, bounds: Bounds
) -> ImageSet:
    # Labels are checked against all images, before the limit hides a difference.
    everything = ImageSet(images, labels, names, name, bounds)
    return everything if limit is None else everything[:limit]


def _texts(found: dict[str, Any]) -> list[str] | None:
    names = found.get("class_names")
    if names is None:
        return None
    return [n.decode() if isinstance(n, bytes) else str(n) for n in np.ravel(names)]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name before the message of an `InputError` about its content."""
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


class HDF5Reader(Reader):
    """The dataset `images` of an HDF5 file; only what is asked for is read, and checked then."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int], bounds: Bounds) -> None:
        self.path, self.shape, self.bounds = path, shape, bounds

    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images at the positions, in their order."""
        try:
            with h5py.File(self.path, "r") as file:
                pixels = _rows(file["images"], index)
        except (OSError, KeyError) as error:
            raise damaged(self.path, f"cannot be read ({error})") from error
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


def load_hdf5(path: Path, limit: int | None, name: str, bounds: Bounds) -> ImageSet:
    """Opens an HDF5 file with datasets `images` and, optionally, `labels`, `class_names`.

    Pixels are read when asked for, and floating ones are checked then.

    Raises:
        InputError: no HDF5 file, missing datasets, or what `ImageSet` refuses.
    """
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("images"), h5py.Dataset):
                raise _missing_key(path, "images", list(file))
            shape, dtype = file["images"].shape, file["images"].dtype
            extras = {k: file.get(k) for k in ("labels", "class_names")}
            found = {k: v[...] for k, v in extras.items() if isinstance(v, h5py.Dataset)}
    except OSError as error:
        raise damaged(path, f"is no readable HDF5 file ({error})") from error
    check_layout(shape, dtype, bounds, str(path))
    with naming(path):
        reader = HDF5Reader(path, shape, bounds)
        return _limited(reader, found.get("labels"), _texts(found), limit, name, bounds)
