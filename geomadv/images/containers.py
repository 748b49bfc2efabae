"""Images with labels in .npz and .npy files, and how files of several arrays name them."""

import math
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.files.kinds import other_kind
from geomadv.images.formats import check_promise, filled, naming, reading
from geomadv.images.imageset import ImageSet, labels_misfit

Bounds = tuple[float, float]

# Images and labels of each split: our own names, those of Keras, of MedMNIST, and groups of HDF5.
_LAYOUTS = (
    {"all": ("images", "labels")},
    {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
    {s: (f"{s}_images", f"{s}_labels") for s in ("train", "test")},
    {s: (f"{s}/images", f"{s}/labels") for s in ("train", "test")},
)
_OWN = ("zip", "npy")
_NPY = ".npy"
_HEADERS = {(1, 0): format.read_array_header_1_0, (2, 0): format.read_array_header_2_0}
# Bytes that labels and names of classes may take in any case, packed as tightly as can be.
_BESIDE = 2**26


def layout(path: Path, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of images and labels of each split in a file; of one split: of `all`.

    Raises:
        InputError: the file has none of the known names.
    """
    for names in _LAYOUTS:
        if all(images in keys for images, _ in names.values()):
            return names
    raise missing_key(path, "images", keys)


def missing_key(path: Path, key: str, found: Sequence[str]) -> InputError:
    """The error for a file that lacks an array."""
    return InputError(
        f"{path} has no {key!r}; it has {', '.join(map(repr, found)) or 'nothing'}. Store the "
        "images (N, C, H, W) as 'images', the labels (N,) as 'labels' and, if wanted, the class "
        "names as 'class_names'; of two splits as 'train_images', 'train_labels', 'test_images' "
        "and 'test_labels'."
    )


def npz_keys(path: Path) -> list[str]:
    """Names of the arrays in an .npz file; raises `InputError` for a file that is none."""
    _check_kind(path, "zip")
    with _arrays(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(_NPY) for name in archive.namelist()]


def load_npz(
    path: Path, images: str, labels: str, limit: int | None, name: str, bounds: Bounds
) -> ImageSet:
    """Loads images, labels and `class_names` (these two if there are any) from an .npz file.

    Images behind the limit are neither unpacked nor checked, those in Fortran's order apart.

    Raises:
        InputError: a damaged file, missing or pickled arrays, or what `ImageSet` refuses.
    """
    with _arrays(path), zipfile.ZipFile(path) as archive:
        with _Member(path, archive, images) as member:
            total, pixels = member.shape[0], member.read(limit)
        beside = max(_BESIDE, 16 * total)  # no number is longer
        classes, names = (_beside(path, archive, key, beside) for key in (labels, "class_names"))
        texts = None if names is None else [_text(n) for n in np.ravel(names)]
    with naming(path):
        if images != "images":
            pixels = channels_first(pixels)
            classes = (
                classes[:, 0] if classes is not None and classes.shape[1:] == (1,) else classes
            )
        if classes is not None and classes.shape != (total,):
            raise labels_misfit(classes.shape, total)
        classes = None if classes is None else classes[: len(pixels)]
        return limited(pixels, classes, texts, limit, name, bounds)


class _Member:
    """An array in an .npz file, of which the header is read, and then as much as is asked for.

    Raises:
        ValueError: a header of another version, of pickled objects, or of another size than the
            archive states.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, key: str) -> None:
        name = key if key in archive.namelist() else f"{key}{_NPY}"
        self._path, self._file = path, archive.open(name)
        version = format.read_magic(self._file)
        if version not in _HEADERS:
            raise ValueError(f"{key!r} is of version {version} of the format .npy")
        self.shape, self._fortran, self._dtype = _HEADERS[version](self._file)
        if self._dtype.hasobject:
            raise ValueError(f"{key!r} holds pickled objects")
        self.size = math.prod(self.shape) * self._dtype.itemsize
        stated = archive.getinfo(name).file_size - self._file.tell()
        if self.size != stated:
            raise ValueError(f"{key!r} has {stated} bytes where {self.size} are expected")

    def __enter__(self) -> "_Member":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, limit: int | None = None) -> NDArray[Any]:
        """The array, or the first rows of it."""
        shape = self.shape
        if limit is not None and shape and not self._fortran:
            shape = (min(limit, shape[0]), *shape[1:])
        size = math.prod(shape) * self._dtype.itemsize
        check_promise(self._path, size, own=_OWN)
        data = np.empty(size, np.uint8)
        if filled(self._file, data) < size:
            raise ValueError("it is truncated")
        return data.view(self._dtype).reshape(shape, order="F" if self._fortran else "C")


def _beside(path: Path, archive: zipfile.ZipFile, key: str, most: int) -> NDArray[Any] | None:
    """An array beside the images; None where there is none."""
    if not {key, f"{key}{_NPY}"} & {*archive.namelist()}:
        return None
    with _Member(path, archive, key) as member:
        if member.size > most:
            raise ValueError(f"{key!r} has {member.size} bytes, where {most} suffice")
        return member.read()


def load_npy(path: Path, limit: int | None, name: str, bounds: Bounds) -> ImageSet:
    """Loads images without labels from an .npy file, which stays on disk until they are read.

    Raises:
        InputError: a damaged file, pickled objects, or what `ImageSet` refuses.
    """
    _check_kind(path, "npy")
    with _arrays(path):
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    with naming(path):
        return limited(channels_first(pixels), None, None, limit, name, bounds)


def _check_kind(path: Path, own: str) -> None:
    if error := other_kind(path, "the image file", (own,)):
        raise error


def _arrays(path: Path) -> AbstractContextManager[None]:
    """What damaged files raise inside the block becomes an `InputError`."""
    return reading(
        path,
        f"is no readable {path.suffix} file of plain arrays",
        "Copy it again, or save it anew with np.savez(path, images=..., labels=...); pickled "
        "objects are not loaded.",
        _OWN,
    )


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def channels_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """Images (N, H, W) or (N, H, W, C), as Keras and MedMNIST store them, as (N, C, H, W).

    Raises:
        InputError: another shape, as of volumes.
    """
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3, 4):
        return pixels
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3, 4):
        return pixels.transpose(0, 3, 1, 2)
    raise InputError(
        f"images have shape {pixels.shape}; expected (N, H, W), (N, H, W, C) or (N, C, H, W) with "
        "1, 3 or 4 channels."
    )


def limited(
    images: Any, labels: Any, names: list[str] | None, limit: int | None, name: str, bounds: Bounds
) -> ImageSet:
    """The first images; labels are checked against all, before the limit hides a difference."""
    everything = ImageSet(images, labels, names, name, bounds)
    return everything if limit is None else everything[:limit]
