"""Images with labels in .npz and .npy files, and how files of several arrays name them."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.files.kinds import other_kind
from geomadv.images.formats import naming
from geomadv.images.imageset import ImageSet

Bounds = tuple[float, float]

# Images and labels of each split: our own names, those of Keras, of MedMNIST, and groups of HDF5.
_LAYOUTS = (
    {"all": ("images", "labels")},
    {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
    {s: (f"{s}_images", f"{s}_labels") for s in ("train", "test")},
    {s: (f"{s}/images", f"{s}/labels") for s in ("train", "test")},
)
_UNREADABLE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


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
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.keys())
    except _UNREADABLE as error:
        raise _no_arrays(path, error) from error


def load_npz(
    path: Path, images: str, labels: str, limit: int | None, name: str, bounds: Bounds
) -> ImageSet:
    """Loads images, labels and `class_names` (these two if there are any) from an .npz file.

    Raises:
        InputError: a damaged file, missing or pickled arrays, or what `ImageSet` refuses.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {k: file[k] for k in (images, labels, "class_names") if k in file}
    except _UNREADABLE as error:
        raise _no_arrays(path, error) from error
    names = found.get("class_names")
    texts = None if names is None else [_text(n) for n in np.ravel(names)]
    with naming(path):
        pixels, classes = found[images], found.get(labels)
        if images != "images":
            pixels = channels_first(pixels)
            classes = (
                classes[:, 0] if classes is not None and classes.shape[1:] == (1,) else classes
            )
        return limited(pixels, classes, texts, limit, name, bounds)


def load_npy(path: Path, limit: int | None, name: str, bounds: Bounds) -> ImageSet:
    """Loads images without labels from an .npy file, which stays on disk until they are read.

    Raises:
        InputError: a damaged file, pickled objects, or what `ImageSet` refuses.
    """
    _check_kind(path, "npy")
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise _no_arrays(path, error) from error
    with naming(path):
        return limited(channels_first(pixels), None, None, limit, name, bounds)


def _check_kind(path: Path, own: str) -> None:
    if error := other_kind(path, "the image file", (own,)):
        raise error


def _no_arrays(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is no readable {path.suffix} file of plain arrays ({error}). Copy it again, or "
        "save it anew with np.savez(path, images=..., labels=...); pickled objects are not loaded."
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
