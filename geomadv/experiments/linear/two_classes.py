"""Two classes of images as rows of numbers, for linear classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import InputError
from geomadv.images import ImageSet

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TwoClasses:
    """Images of two classes I and J, in the order in which they were given."""

    x: Array  # (N, D)
    labels: NDArray[np.int64]  # (N,) the data set's own class numbers
    classes: tuple[int, int]  # class numbers of I and J
    names: tuple[str, str]
    shape: tuple[int, int, int]  # (channels, rows, columns) of one image

    @property
    def is_second(self) -> NDArray[np.bool_]:
        """Which images are of class J. (N,)."""
        return np.asarray(self.labels == self.classes[1])

    @property
    def centroids(self) -> Array:
        """Mean images of I and J. (2, D)."""
        return np.stack([self.x[~self.is_second].mean(0), self.x[self.is_second].mean(0)])


def two_classes(name: str, data: Any, classes: Any) -> TwoClasses:
    """The images of a pair of classes.

    Args:
        name: of the argument, for messages.
        data: ImageSet with labels, or a pair (X, y): X (N, D) or (N, C, H, W), finite; y (N,)
            integers.
        classes: the pair, numbers or (of an ImageSet) class names; None: the two that are there.

    Raises:
        InputError: no such data, not exactly two classes and no pair named, or a class of the pair
            without images.
    """
    if isinstance(data, ImageSet):
        return _from_images(name, data, classes)
    x, labels = _arrays(name, data)
    i, j = _pair(name, labels, classes)
    kept = (labels == i) | (labels == j)
    shape = x.shape[1:] if x.ndim == 4 else (1, 1, x.shape[1])
    rows = np.ascontiguousarray(x[kept].reshape(int(kept.sum()), -1))
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows).all(1)).sum())
        raise InputError(
            f"{name}: {bad} of {len(rows)} images contain NaN or infinite numbers. Remove or "
            "repair them."
        )
    return TwoClasses(rows, labels[kept], (i, j), (str(i), str(j)), shape)


def pair_images(images: ImageSet, classes: tuple[int | str, int | str]) -> ImageSet:
    """The images of two classes, numbers or names, in order.

    Raises:
        InputError: no labels, not two different classes, or one without images.
    """
    return images[np.isin(images.labels.numpy(), _class_numbers("images", images, classes))]


def _from_images(name: str, data: ImageSet, classes: Any) -> TwoClasses:
    i, j = _class_numbers(name, data, classes)
    pair = pair_images(data, (i, j))
    x = pair.images.flatten(1).numpy().astype(np.float64)
    names = (data.class_names[i], data.class_names[j])
    return TwoClasses(x, pair.labels.numpy(), (i, j), names, pair.shape)


def _class_numbers(name: str, data: ImageSet, classes: Any) -> tuple[int, int]:
    if isinstance(classes, tuple | list):
        numbers = (int(data.of_class(c).labels[0]) if isinstance(c, str) else c for c in classes)
        classes = tuple(numbers)
    return _pair(name, data.labels.numpy(), classes)


def _arrays(name: str, data: Any) -> tuple[Array, NDArray[np.int64]]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError(
            f"{name} is a {type(data).__name__}; expected an ImageSet with labels or a pair (X, y) "
            "of images and class numbers."
        )
    x, labels = (np.asarray(a.detach().cpu() if isinstance(a, Tensor) else a) for a in data)
    if x.ndim not in (2, 4) or x.dtype.kind not in "fiu" or len(x) == 0:
        raise InputError(
            f"{name}: X has shape {x.shape} and type {x.dtype}; expected numbers (N, D) or "
            "(N, channels, rows, columns), N >= 1."
        )
    if labels.shape != (len(x),) or labels.dtype.kind not in "iub":
        raise InputError(
            f"{name}: y has shape {labels.shape} and type {labels.dtype} for {len(x)} images; "
            f"expected one whole class number per image, ({len(x)},)."
        )
    return x.astype(np.float64), labels.astype(np.int64)


def _pair(name: str, labels: NDArray[np.int64], classes: tuple[Any, Any] | None) -> tuple[int, int]:
    present = [int(c) for c in np.unique(labels)]
    shown = ", ".join(map(str, present[:20])) + (", ..." if len(present) > 20 else "")
    if classes is None:
        if len(present) != 2:
            more = "name the pair: classes=(2, 3)" if len(present) > 2 else "give both classes"
            raise InputError(
                f"{name} has {len(present)} class(es): {shown}. Exactly two are expected; {more}."
            )
        return present[0], present[1]
    try:
        i, j = (int(c) for c in classes)
    except (TypeError, ValueError) as error:
        raise InputError(f"classes={classes!r} must be two classes, by number: (2, 3).") from error
    if i == j:
        raise InputError(f"classes={classes!r} must be two different classes.")
    for c in (i, j):
        if c not in present:
            raise InputError(
                f"{name} has no image of class {c}; it has images of the classes {shown}. Choose "
                "one of these, or give images of both classes."
            )
    return i, j
