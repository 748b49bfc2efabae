"""Image sets by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geomadv.errors import InputError
from geomadv.files.download import RemoteFile, fetch
from geomadv.files.places import DATA_VARIABLE, cache_dir, data_dir
from geomadv.framing import Framing
from geomadv.images.folder import load_folder
from geomadv.images.formats import (
    CIFAR10_NAMES,
    find_batches,
    read_cifar,
    read_idx_pair,
    read_names,
)
from geomadv.images.imageset import ImageSet
from geomadv.images.labelling import LABELS, scan
from geomadv.images.pickled import find_pickled, read_batches
from geomadv.images.splits import SPLITS

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
    framing: Framing


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
        patterns = {"train": r"train(_\d+)?", "test": r"test(_first\d+)?"}
        names_file, names = "fine_label_names.txt", tuple(str(k) for k in range(100))

    def load(folder: Path, wanted: _Request) -> ImageSet | None:
        batches = find_batches(folder, patterns[wanted.split])
        name = f"{wanted.name}-{wanted.split}"
        if not batches and (pickled := find_pickled(folder, wanted.split, classes)):
            images, labels, own = read_batches(pickled, classes)
            return ImageSet(images, labels, own or names, name)[: wanted.limit]
        if not batches:
            return None
        images, labels = read_cifar(batches, classes, wanted.limit)
        class_names = read_names(batches[0].parent / names_file, classes, names)
        return ImageSet(images, labels, class_names, name)

    return load


def _load_labelled_folder(folder: Path, wanted: _Request) -> ImageSet | None:
    if not (folder / LABELS).is_file():
        return None
    return load_folder(folder, scan(folder), "all", wanted.framing, wanted.name)[: wanted.limit]


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
        {"all": f"the images and {LABELS} (columns file, class_index, name)"},
        {"all": ()},
    ),
}


def names() -> list[str]:
    """The names of all sets."""
    return ["digits", *_SOURCES]


def has_splits(name: str) -> bool:
    """Whether a set has the splits train and test; else it has the split "all"."""
    return name == "digits" or "all" not in _SOURCES[name].files


def load(name: str, split: str, limit: int | None, framing: Framing, progress: bool) -> ImageSet:
    """A split of a named set, from the first place that has it, the last being the internet."""
    if name == "digits":
        return _digits(split, limit)
    return _find(_Request(name, split, limit, framing), progress)


def standard_files(folder: Path) -> Callable[[str, str, int | None], ImageSet] | None:
    """Loads name, split and limit from a folder of MNIST's or CIFAR's files; None for another."""
    for load_files in (_load_mnist(None), _load_cifar(10), _load_cifar(100)):
        requests = (_Request("", split, 1, Framing()) for split in SPLITS)
        if any(load_files(folder, request) is not None for request in requests):
            break
    else:
        return None

    def load(name: str, split: str, limit: int | None) -> ImageSet:
        images = load_files(folder, _Request(name, split, limit, Framing()))
        if images is None:
            raise InputError(
                f"folder {folder} lacks the files of split {split!r}. Copy or download all of the "
                "data set."
            )
        return images

    return load


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
