"""Image sets by name or path."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geomadv.errors import InputError
from geomadv.files.places import DATA_VARIABLE, cache_dir, data_dir
from geomadv.images.containers import load_hdf5, load_npz
from geomadv.images.download import RemoteFile, fetch
from geomadv.images.folder import Crop, load_folder
from geomadv.images.formats import (
    CIFAR10_NAMES,
    find_batches,
    read_cifar,
    read_idx_pair,
    read_names,
)
from geomadv.images.imageset import ImageSet
from geomadv.images.labelling import LABELS, scan

SPLITS = ("train", "test")
_DIGITS_TEST = 500

_FASHION_NAMES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@dataclass(frozen=True)
class _Request:
    """What of a named set is wanted."""

    name: str
    split: str
    limit: int | None
    crop: Crop


# Gives None where the folder lacks the split's files.
_Load = Callable[[Path, _Request], ImageSet | None]


@dataclass(frozen=True)
class _Source:
    """A data set by name: how its folder is read, and where its files come from."""

    load: _Load
    files: dict[str, str]  # split -> what to put into the folder, in words
    remote: dict[str, tuple[RemoteFile, ...]]  # split -> downloads; empty if there are none


def _mnist_files(base: str, sums: tuple[str, str, str, str]) -> dict[str, tuple[RemoteFile, ...]]:
    files = [
        RemoteFile(f"{base}/{stem}-ubyte.gz", md5)
        for stem, md5 in zip(
            ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"),
            sums,
            strict=True,
        )
    ]
    return {"train": tuple(files[:2]), "test": tuple(files[2:])}


def _plain_or_gzip(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)


def _load_mnist(class_names: tuple[str, ...] | None) -> _Load:
    def load(folder: Path, wanted: _Request) -> ImageSet | None:
        stem = {"train": "train", "test": "t10k"}[wanted.split]
        images = _plain_or_gzip(folder / f"{stem}-images-idx3-ubyte")
        labels = _plain_or_gzip(folder / f"{stem}-labels-idx1-ubyte")
        if images is None or labels is None:
            return None
        pixels, classes = read_idx_pair(images, labels, wanted.limit)
        return ImageSet(pixels, classes, class_names, f"{wanted.name}-{wanted.split}")

    return load


def _load_cifar(classes: int) -> _Load:
    patterns = {"train": r"data_batch_\d+.*", "test": "test_batch.*"}
    names_file = "batches.meta.txt"
    names: tuple[str, ...] = CIFAR10_NAMES
    if classes == 100:
        patterns = {"train": "train", "test": "test"}
        names_file, names = "fine_label_names.txt", tuple(str(k) for k in range(100))

    def load(folder: Path, wanted: _Request) -> ImageSet | None:
        batches = find_batches(folder, patterns[wanted.split])
        if not batches:
            return None
        images, labels = read_cifar(batches, classes, wanted.limit)
        class_names = read_names(batches[0].parent / names_file, classes, names)
        return ImageSet(images, labels, class_names, f"{wanted.name}-{wanted.split}")

    return load


def _load_labelled_folder(folder: Path, wanted: _Request) -> ImageSet | None:
    if not (folder / LABELS).is_file():
        return None
    return load_folder(folder, scan(folder), "all", wanted.crop, wanted.name)[: wanted.limit]


_MNIST_WORDS = {
    "train": "train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz]",
    "test": "t10k-images-idx3-ubyte[.gz] and t10k-labels-idx1-ubyte[.gz]",
}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz"
_CIFAR10_TAR = RemoteFile(
    f"{_CIFAR_URL}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
)
_CIFAR100_TAR = RemoteFile(
    f"{_CIFAR_URL}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"
)

# Folders below GEOMADV_DATA and the cache have the names of the data sets. Checksums: those that
# torchvision's data sets and the publishers' pages state.
_SOURCES = {
    "mnist": _Source(
        _load_mnist(None),
        _MNIST_WORDS,
        _mnist_files(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
    ),
    "fashion-mnist": _Source(
        _load_mnist(_FASHION_NAMES),
        _MNIST_WORDS,
        _mnist_files(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
    ),
    "cifar10": _Source(
        _load_cifar(10),
        {
            "train": "any of data_batch_1.bin[.gz] to data_batch_5.bin[.gz]",
            "test": "test_batch.bin[.gz]",
        },
        dict.fromkeys(SPLITS, (_CIFAR10_TAR,)),
    ),
    "cifar100": _Source(
        _load_cifar(100),
        {"train": "train.bin[.gz]", "test": "test.bin[.gz]"},
        dict.fromkeys(SPLITS, (_CIFAR100_TAR,)),
    ),
    "imagenet-sample": _Source(
        _load_labelled_folder,
        dict.fromkeys(SPLITS, f"the images and {LABELS} (columns file, class_index, name)"),
        dict.fromkeys(SPLITS, ()),
    ),
}


def list_images() -> list[str]:
    """Names that `load_images` knows."""
    return ["digits", *_SOURCES]


def load_images(
    name_or_path: str | os.PathLike[str],
    split: str = "train",
    limit: int | None = None,
    *,
    size: int = 224,
    resize: int | None = None,
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
    - `imagenet-sample`: one image per ImageNet class, not downloadable. It has one split only, and
      "train" and "test" both give all of it: divide it yourself where images must be held out.

    By path:

    - a folder of images, decoded only when asked for: one sub-folder per class, or `labels.csv`
      (columns file, class_index, name), or images without labels; Tiny-ImageNet's layout too. If it
      has the sub-folders train and test (or val), these are the splits, whose class folders
      together make one class list; else it has one split only, as above. An empty class folder
      keeps its number, hidden folders are no classes.
    - `.npz` or HDF5 (`.h5`, `.hdf5`, `.nc`; pixels read when asked for) with `images` (N, C, H, W),
      floating in bounds or uint8, and optionally `labels` (N,) and `class_names`. One split only.

    Args:
        name_or_path: one of `list_images()`, or a path.
        split: "train" or "test".
        limit: take at most the first so many images, in their standard order; the rest is not
            decoded, and of MNIST and CIFAR files not checked.
        size: side of the square, in pixels, that images of folders are cropped to.
        resize: length of their short side before that; None: 256/224 of size, as usual on ImageNet,
            except that images of size x size stay as they are.
        bounds: (low, high) of the pixel values in .npz and HDF5 files.
        progress: show a bar while downloading.

    Returns:
        ImageSet, named after the data set and the split.

    Raises:
        InputError: unknown name, missing or damaged files, or settings that cannot be used.
    """
    if split not in SPLITS:
        raise InputError(f"split={split!r} must be one of {', '.join(map(repr, SPLITS))}.")
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} must be at least 1, or None for all images.")
    crop = Crop(size, resize)
    if name_or_path == "digits":
        return _digits(split, limit)
    if str(name_or_path) in _SOURCES:
        return _find(_Request(str(name_or_path), split, limit, crop), progress)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        parts, name = scan(path), path.resolve().name
        if "all" in parts:
            return load_folder(path, parts, "all", crop, name)[:limit]
        return load_folder(path, parts, split, crop, f"{name}-{split}")[:limit]
    if path.is_file():
        return _load_file(path, limit, bounds)
    known = list_images()
    close = difflib.get_close_matches(str(name_or_path).lower(), known, n=1)
    raise InputError(
        f"images {str(name_or_path)!r} are neither a known name ({', '.join(known)}) nor an "
        f"existing path.{f' Did you mean {close[0]!r}?' if close else ' Check the spelling.'}"
    )


def _digits(split: str, limit: int | None) -> ImageSet:
    # Importing scikit-learn takes longer than all else here, and only the digits need it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    parts = train_test_split(
        np.arange(len(digits.target)),
        test_size=_DIGITS_TEST,
        random_state=0,
        stratify=digits.target,
    )
    chosen = np.sort(parts[SPLITS.index(split)])[:limit]
    pixels = (digits.images[chosen, None] / 16).astype(np.float32)
    names = [str(k) for k in range(10)]
    return ImageSet(pixels, digits.target[chosen], names, f"digits-{split}")


def _find(wanted: _Request, progress: bool) -> ImageSet:
    """A named set from the first place that has it, the last being the internet."""
    source = _SOURCES[wanted.name]
    given, cache = data_dir(), cache_dir() / wanted.name
    for folder in (cache,) if given is None else (given / wanted.name, cache):
        images = source.load(folder, wanted)
        if images is not None:
            return images
    reason = "there is no download of them"
    if source.remote[wanted.split]:
        try:
            fetch(source.remote[wanted.split], cache, progress)
        except InputError as error:
            reason = str(error).removesuffix(".")
        else:
            images = source.load(cache, wanted)
            reason = "the download does not hold them"
    if images is None:
        raise _missing(wanted, given, cache, source.files[wanted.split], reason)
    return images


def _missing(
    wanted: _Request, given: Path | None, cache: Path, files: str, reason: str
) -> InputError:
    searched = f"{DATA_VARIABLE} is not set" if given is None else f"not in {given / wanted.name}"
    return InputError(
        f"images {wanted.name!r}, split {wanted.split!r}: files not found ({searched}; not in "
        f"{cache}), and {reason}. Put {files} into a folder {wanted.name}/ and set {DATA_VARIABLE} "
        f"to the folder that contains {wanted.name}/, or put them into {cache}."
    )


def _load_file(path: Path, limit: int | None, bounds: tuple[float, float]) -> ImageSet:
    kind = path.suffix.lower()
    if kind == ".npz":
        return load_npz(path, limit, path.stem, bounds)
    if kind in (".h5", ".hdf5", ".nc"):
        return load_hdf5(path, limit, path.stem, bounds)
    raise InputError(
        f"images {path}: a file of kind {kind!r} cannot be loaded. Give a folder of images, an "
        ".npz or an HDF5 (.h5) file, or pass arrays: ImageSet(images, labels)."
    )
