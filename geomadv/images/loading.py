"""Image sets by name or path, and their splits."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from geomadv.errors import InputError, closest
from geomadv.files.kinds import other_kind
from geomadv.framing import Framing
from geomadv.images import named
from geomadv.images.containers import layout, load_npy, load_npz, npz_keys
from geomadv.images.folder import FolderReader, load_folder
from geomadv.images.hdf5 import hdf5_keys, load_hdf5
from geomadv.images.imageset import ImageSet
from geomadv.images.labelling import SUFFIXES, scan
from geomadv.images.splits import SPLITS, half, joined


def list_images() -> list[str]:
    """Names that `load_images` knows."""
    return named.names()


def load_images(
    name_or_path: str | os.PathLike[str],
    split: str = "train",
    limit: int | None = None,
    *,
    size: int | tuple[int, int] | Framing | None = None,
    resize: int | None = None,
    grey: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    progress: bool = True,
) -> ImageSet:
    """Loads images with labels, by name or from a folder or file.

    By name, from the folder of that name in GEOMADV_DATA, else in the cache, else downloaded with
    checksum into the cache:

    - `digits`: the 8 x 8 handwritten digits that come with scikit-learn, divided by 16; fixed
      stratified split, 1,297 to train and 500 to test. No files needed.
    - `mnist`, `fashion-mnist`: 28 x 28 grey. `cifar10`, `cifar100` (fine labels): 32 x 32 RGB,
      binary version. Of CIFAR-10 as many batches as are there: `len` says how many images.
    - `imagenet-sample`: one image per ImageNet class, not downloadable. One split only.

    By path:

    - a folder of images, decoded only when asked for: one sub-folder per class, or `labels.csv`
      (columns file, class_index, name), or images without labels; Tiny-ImageNet's layout too. If it
      has the sub-folders train and test (or val), these are the splits, whose class folders
      together make one class list; else it has one split only. An empty class folder keeps its
      number, hidden folders are no classes.
    - a folder of the standard files of MNIST or CIFAR, those that are pickled for Python included
      (`cifar-10-batches-py`), of which nothing is run.
    - `.npz` or HDF5 (`.h5`, `.hdf5`, `.nc`; pixels read when asked for) with `images` (N, C, H, W),
      floating in bounds or uint8, and optionally `labels` (N,) and `class_names`, one split only;
      or of two splits, named as Keras (`x_train`, `y_train`, `x_test`, ...) or MedMNIST
      (`train_images`, `train_labels`, ...) names them, or in the groups `train` and `test`.
    - `.npy`: images without labels; or one image file.

    A set with one split only is divided once and for all, at random and class by class, into halves
    without common images: "train" and "test".

    Args:
        name_or_path: one of `list_images()`, or a path.
        split: "train", "test", or "all" for the images of both.
        limit: take at most the first so many images, in their standard order; the rest is not
            decoded, and of MNIST and CIFAR files not checked.
        size: what image files are resized and cropped to, in pixels: the side of a square, (height,
            width), or how a network says it gets its images, `net.framing`. None: the size that
            all of them have. Arrays keep theirs.
        resize: length of the short side before the crop; None: 256/224 of that of the crop, as
            usual on ImageNet, except that images of the size of the crop stay as they are.
        grey: one channel of luminance (ITU-R BT.601) instead of RGB; of image files.
        bounds: (low, high) of the pixel values in .npz and HDF5 files.
        progress: show a bar while downloading.

    Returns:
        ImageSet, named after the data set and the split.

    Raises:
        InputError: unknown name, missing or damaged files, or settings that cannot be used.
    """
    if split not in (*SPLITS, "all"):
        words = ", ".join(map(repr, (*SPLITS, "all")))
        raise InputError(f"split={split!r} must be one of {words}.")
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} must be at least 1, or None for all images.")
    opened = _open(name_or_path, _framing(size, resize, grey), bounds, progress)
    if not opened.divided and split != "all":
        images = half(opened.load("all", None), split)
    elif opened.divided and split == "all":
        images = joined([opened.load(part, None) for part in SPLITS], opened.name)
    else:
        images = opened.load(split, limit)
    return images if limit is None else images[:limit]


def has_splits(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a set, as `load_images` takes it, comes divided into train and test.

    Raises:
        InputError: unknown name, missing or damaged files.
    """
    return _open(name_or_path, Framing(), (0.0, 1.0), True).divided


def _framing(
    size: int | tuple[int, int] | Framing | None, resize: int | None, grey: bool
) -> Framing:
    """What image files become."""
    if isinstance(size, Framing):
        return replace(size, channels=1) if grey else size
    if size is None and resize is not None:
        raise InputError(f"resize={resize} comes before a crop: give its size, too.")
    square = (size, size) if isinstance(size, int) else size
    return Framing(square, 1 if grey else 3, resize, always=resize is not None)


@dataclass(frozen=True)
class _Opened:
    """A set that was found: its splits are train and test where it is divided, else all."""

    name: str
    divided: bool
    load: Callable[[str, int | None], ImageSet]  # split, limit


def _open(
    name_or_path: str | os.PathLike[str],
    framing: Framing,
    bounds: tuple[float, float],
    progress: bool,
) -> _Opened:
    name, known = str(name_or_path), list_images()
    if name in known:
        return _Opened(
            name,
            named.has_splits(name),
            lambda split, limit: named.load(name, split, limit, framing, progress),
        )
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _open_folder(path, framing)
    if path.is_file():
        return _open_file(path, framing, bounds)
    if os.path.lexists(path) and (error := other_kind(path, "images:")):
        raise error
    raise InputError(
        f"images {name!r} are neither a known name ({', '.join(known)}) nor an existing path."
        f"{closest(name.lower(), known) or ' Check the spelling.'}"
    )


def _open_folder(path: Path, framing: Framing) -> _Opened:
    name = path.resolve().name
    if standard := named.standard_files(path):
        return _Opened(name, True, lambda split, limit: standard(name, split, limit))
    parts = scan(path)

    def load(split: str, limit: int | None) -> ImageSet:
        words = name if split == "all" else f"{name}-{split}"
        return load_folder(path, parts, split, framing, words)[:limit]

    return _Opened(name, "all" not in parts, load)


def _open_file(path: Path, framing: Framing, bounds: tuple[float, float]) -> _Opened:
    kind, name = path.suffix.lower(), path.stem
    if kind in SUFFIXES:
        reader = FolderReader(path.parent, [path.name], framing)
        return _Opened(name, False, lambda *_: ImageSet(reader, name=name))
    if kind == ".npy":
        return _Opened(name, False, lambda _, limit: load_npy(path, limit, name, bounds))
    if kind == ".npz":
        places, load_file = layout(path, npz_keys(path)), load_npz
    elif kind in (".h5", ".hdf5", ".nc"):
        places, load_file = layout(path, hdf5_keys(path)), load_hdf5
    else:
        raise other_kind(path, "images:") or InputError(
            f"images {path}: a file of kind {kind!r} cannot be loaded. Give an image, a folder of "
            "images, an .npz, .npy or HDF5 (.h5) file, or pass arrays: ImageSet(images, labels)."
        )

    def load(split: str, limit: int | None) -> ImageSet:
        words = name if split == "all" else f"{name}-{split}"
        return load_file(path, *places[split], limit, words, bounds)

    return _Opened(name, "all" not in places, load)
