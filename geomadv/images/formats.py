"""The standard binary files of MNIST and CIFAR, gzip'ed or not, without pickle."""

import contextlib
import gzip
import math
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomadv.errors import InputError, refusing
from geomadv.files.kinds import other_kind

Pixels = NDArray[np.uint8]
_File = BinaryIO | gzip.GzipFile

# Kinds that are read here, and in the doors that say `damaged`.
_OWN = ("gzip", "HDF5")
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot expand more than 1032-fold (zlib technical details): a header that promises more
# is damaged, and no memory is spent on it.
_MOST_EXPANSION = 1032
# Bytes of an unpacked file that are looked at before more of it is.
_BLOCK = 2**24
_IDX_UINT8 = 0x08
_CIFAR_SHAPE = (3, 32, 32)

CIFAR10_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


_COPY = "Copy or download the file again, or move it away if it is of another kind."


def damaged(
    path: Path, finding: str, remedy: str = _COPY, own: Collection[str] = _OWN
) -> InputError:
    """The error for a file whose content is not what its place promises; `own`: its kind."""
    return other_kind(path, "the file", own) or InputError(f"{path} {finding}. {remedy}")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name before the message of an `InputError` about its content."""
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def reading(
    path: Path, finding: str, remedy: str = _COPY, own: Collection[str] = _OWN
) -> contextlib.AbstractContextManager[None]:
    """Turns whatever decoding a file raises inside the block into one `InputError`.

    finding: what is then said of the file: "is no pickled batch"; remedy: what to do.
    """
    return refusing(lambda reason: damaged(path, f"{finding} ({reason})", remedy, own))


def check_promise(path: Path, promised: int, spare: int = 0, own: Collection[str] = _OWN) -> None:
    """Refuses a file that cannot hold what its header promises, before memory is spent on it.

    promised: bytes, unpacked; spare: so many more are let pass.
    """
    if promised > _MOST_EXPANSION * path.stat().st_size + spare:
        finding = f"is too small for the {promised} bytes that its header promises"
        raise damaged(path, finding, own=own)


@contextlib.contextmanager
def open_binary(path: Path) -> Iterator[_File]:
    """Opens a file for reading, through gzip if its first bytes say so.

    Raises:
        InputError: the file cannot be opened or read, or its gzip stream is broken or cut short
            (also when that shows inside the block).
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if zipped:
                with gzip.GzipFile(fileobj=raw) as unzipped:
                    yield unzipped
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, f"is a broken or truncated gzip file ({error})") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Check its rights.") from error


def _take(file: _File, path: Path, count: int) -> Pixels:
    """The next count bytes as a writable array."""
    check_promise(path, count)
    data = np.empty(count, dtype=np.uint8)
    if (found := filled(file, data)) < count:
        raise damaged(path, f"is truncated: {found} bytes where {count} are expected")
    return data


def filled(file: _File | IO[bytes], data: Pixels) -> int:
    """Reads into an array (n,) until it is full or the file ends; gives the number of bytes."""
    found = 0
    while found < len(data):
        block = file.read(min(_BLOCK, len(data) - found))
        if not block:
            break
        data[found : found + len(block)] = np.frombuffer(block, np.uint8)
        found += len(block)
    return found


def read_idx(path: Path, limit: int | None = None) -> tuple[Pixels, int]:
    """Reads an IDX file of uint8 (the format of MNIST; layout from its web page).

    Args:
        path: the file, gzip'ed or not.
        limit: entries of the first dimension to read; the rest is neither read nor checked.

    Returns:
        The first entries, and the number of entries that the header states.

    Raises:
        InputError: not an IDX file of uint8, truncated, longer than its header says, or broken.
    """
    with open_binary(path) as file:
        head = bytes(_take(file, path, 4))
        if head[:2] != b"\x00\x00" or head[2] != _IDX_UINT8 or head[3] == 0:
            raise damaged(
                path, f"is no IDX file of uint8 (first bytes {head.hex(' ')}, expected 00 00 08 0n)"
            )
        sizes = _take(file, path, 4 * head[3]).view(">u4").astype(int).tolist()
        total = int(sizes[0])
        sizes[0] = total if limit is None else min(limit, total)
        data = _take(file, path, int(np.prod(sizes, dtype=object)))
        if sizes[0] == total and file.read(1):
            raise damaged(path, f"is longer than the {total} entries that its header states")
    return data.reshape(sizes), total


def read_idx_pair(images: Path, labels: Path, limit: int | None = None) -> tuple[Pixels, Pixels]:
    """Reads MNIST-like images (N, 1, H, W) and labels (N,), uint8, from two IDX files.

    Raises:
        InputError: a file is unusable (see `read_idx`) or the two do not belong together.
    """
    pixels, n_images = read_idx(images, limit)
    classes, n_labels = read_idx(labels, limit)
    if pixels.ndim != 3 or classes.ndim != 1:
        path, found, wanted = (
            (images, pixels.ndim, "images (N, H, W)")
            if pixels.ndim != 3
            else (labels, classes.ndim, "labels (N,)")
        )
        raise damaged(path, f"has {found} dimensions where {wanted} are expected")
    if n_images != n_labels:
        raise InputError(
            f"{images} has {n_images} images, but {labels} has {n_labels} labels. "
            "The two files do not belong together: copy or download both again."
        )
    return pixels[:, None], classes


def read_cifar(
    paths: Sequence[Path], classes: int, limit: int | None = None
) -> tuple[Pixels, NDArray[np.int64]]:
    """Reads CIFAR-10 or CIFAR-100 batches, binary version.

    A record is the label byte (CIFAR-100: a coarse one, then the fine one, which is taken), then
    the red, green and blue planes of 1,024 bytes, row by row (layout: www.cs.toronto.edu/~kriz).

    Args:
        paths: batch files in order, gzip'ed or not.
        classes: 10 or 100, which decides the layout.
        limit: stop after so many images.

    Returns:
        Images (N, 3, 32, 32) uint8 and labels (N,).

    Raises:
        InputError: a file is broken, is no whole number of records, or holds an impossible label.
    """
    label_bytes = 2 if classes == 100 else 1
    parts: list[Pixels] = []
    missing = limit
    for path in paths:
        records = _read_records(path, label_bytes, classes, missing)
        parts.append(records)
        if missing is not None:
            missing -= len(records)
            if missing == 0:
                break
    records = parts[0] if len(parts) == 1 else np.concatenate(parts)
    images = records[:, label_bytes:].reshape(-1, *_CIFAR_SHAPE)
    return images, records[:, label_bytes - 1].astype(np.int64)


def _read_records(path: Path, label_bytes: int, classes: int, limit: int | None) -> Pixels:
    """Records, whose labels are checked block by block: what is no CIFAR is not unpacked whole."""
    size = label_bytes + int(np.prod(_CIFAR_SHAPE))
    blocks: list[Pixels] = []
    found, wanted = 0, math.inf if limit is None else size * limit
    with open_binary(path) as file:
        while found < wanted:
            data = file.read(int(min(_BLOCK // size * size, wanted - found)))
            found += len(data)
            if not data and blocks:
                break
            if len(data) == 0 or len(data) % size:
                raise damaged(
                    path,
                    f"is truncated or of another format: {found} bytes, no whole number of CIFAR "
                    f"records of {size} bytes",
                )
            blocks.append(np.frombuffer(data, dtype=np.uint8).reshape(-1, size))
            _check_cifar_labels(path, blocks[-1], label_bytes, classes)
    return np.concatenate(blocks)


def _check_cifar_labels(path: Path, records: Pixels, label_bytes: int, classes: int) -> None:
    labels = records[:, label_bytes - 1]
    if labels.max() >= classes:
        raise damaged(
            path,
            f"has label {int(labels.max())} in record {int(labels.argmax())}, which CIFAR-"
            f"{classes} (records of {records.shape[1]} bytes) does not know",
        )


def find_batches(folder: Path, pattern: str) -> list[Path]:
    """CIFAR batch files in a folder or in the folder that the standard archive unpacks to.

    Args:
        folder: where to look.
        pattern: regular expression of the name before `.bin` or `.bin.gz`; a group holds the
            batch number, if any.

    Returns:
        The files by batch number; where a batch is there twice, gzip'ed and not, the plain one.
    """
    known = re.compile(rf"{pattern}\.bin(\.gz)?")
    for place in (folder, *sorted(folder.glob("cifar-10*-*bin*"))):
        found: dict[str, Path] = {}
        for path in sorted(place.glob("*.bin*")):
            if known.fullmatch(path.name):
                found.setdefault(path.name.removesuffix(".gz"), path)
        if found:
            return [found[stem] for stem in sorted(found, key=_by_number)]
    return []


def _by_number(stem: str) -> tuple[int, str]:
    number = re.search(r"\d+", stem)
    return (int(number[0]) if number else 0, stem)


def read_names(path: Path, classes: int, default: Sequence[str]) -> tuple[str, ...]:
    """Class names from a text file, line k + 1 naming class k; the default without the file.

    Raises:
        InputError: the file has another number of names.
    """
    if not path.is_file():
        return tuple(default)
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, f"is no readable text ({error})") from error
    if len(names) != classes:
        raise damaged(path, f"has {len(names)} class names where {classes} are expected")
    return tuple(names)
