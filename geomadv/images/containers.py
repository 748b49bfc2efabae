"""Images with labels in one .npz file, and what files of several arrays have in common."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from geomadv.errors import InputError
from geomadv.images.formats import naming
from geomadv.images.imageset import ImageSet

Bounds = tuple[float, float]


def missing_key(path: Path, key: str, found: list[str]) -> InputError:
    """The error for a file that lacks an array."""
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
                raise missing_key(path, "images", keys)
            found = {k: file[k] for k in ("images", "labels", "class_names") if k in keys}
    except InputError:
        raise
    except unreadable as error:
        raise InputError(
            f"{path} is no readable .npz file of plain arrays ({error}). Copy it again, or save it "
            "anew with np.savez(path, images=..., labels=...); pickled objects are not loaded."
        ) from error
    with naming(path):
        return limited(found["images"], found.get("labels"), _texts(found), limit, name, bounds)


def limited(
    images: Any, labels: Any, names: list[str] | None, limit: int | None, name: str, bounds: Bounds
) -> ImageSet:
    """The first images; labels are checked against all, before the limit hides a difference."""
    everything = ImageSet(images, labels, names, name, bounds)
    return everything if limit is None else everything[:limit]


def _texts(found: dict[str, Any]) -> list[str] | None:
    names = found.get("class_names")
    if names is None:
        return None
    return [n.decode() if isinstance(n, bytes) else str(n) for n in np.ravel(names)]
