"""CIFAR as pickled for Python (cifar-10-batches-py, cifar-100-python); no pickle is run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomadv.files.pickled import read_pickled
from geomadv.images.formats import damaged, reading

_SHAPE = (3, 32, 32)


def _read(path: Path) -> dict[str, Any]:
    with reading(path, "is no pickled CIFAR batch"):
        return read_pickled(path)


def find_pickled(folder: Path, split: str, classes: int) -> list[Path]:
    """The batch files of a split, in a folder or the one that the standard archive unpacks to."""
    inner = "cifar-10-batches-py" if classes == 10 else "cifar-100-python"
    for place in (folder, folder / inner):
        if classes == 100 and (place / "meta").is_file() and (place / split).is_file():
            return [place / split]
        if classes == 10:
            pattern = "data_batch_?" if split == "train" else "test_batch"
            found = sorted(place.glob(pattern))
            if found:
                return found
    return []


def read_batches(
    paths: Sequence[Path], classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str] | None]:
    """Images (N, 3, 32, 32), labels (N,) and, from the file beside them, the class names.

    Raises:
        InputError: a file that is damaged, asks for code to be run, or holds something else.
    """
    key = "labels" if classes == 10 else "fine_labels"
    images, labels = [], []
    for path in paths:
        batch = _read(path)
        data, own = np.asarray(batch.get("data")), np.asarray(batch.get(key))
        fits = data.dtype == np.uint8 and data.shape == (own.size, int(np.prod(_SHAPE)))
        if not fits or own.dtype.kind not in "iu" or own.min() < 0 or own.max() >= classes:
            raise damaged(path, f"holds no CIFAR-{classes} batch of 'data' and {key!r}")
        images.append(data.reshape(-1, *_SHAPE))
        labels.append(own.astype(np.int64))
    return np.concatenate(images), np.concatenate(labels), _names(paths[0].parent, classes)


def _names(folder: Path, classes: int) -> list[str] | None:
    path = folder / ("batches.meta" if classes == 10 else "meta")
    if not path.is_file():
        return None
    names = _read(path).get("label_names" if classes == 10 else "fine_label_names", [])
    if len(names) != classes:
        raise damaged(path, f"has {len(names)} class names where {classes} are expected")
    return [n.decode() if isinstance(n, bytes) else str(n) for n in names]
