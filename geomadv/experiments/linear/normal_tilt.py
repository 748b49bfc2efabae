"""Tilt of a deep network's boundary: angles between its normals and the centroid directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.boundary import BoundaryPoints
from geomadv.doors import Numbers
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.labels import Schema, described
from geomadv.linalg import uniform_directions

Array = NDArray[np.float64]

_SAMPLE = ("sample",)

SCHEMA: Schema = {
    "angle": (_SAMPLE, "angle between the boundary normal and its centroid direction", "radian"),
    "random_angle": (
        _SAMPLE,
        "angle between a random direction and the same centroid direction",
        "radian",
    ),
    "source": (_SAMPLE, "class predicted at the image", "1"),
    "target": (_SAMPLE, "class across the boundary", "1"),
    "distance": (_SAMPLE, "distance from image to boundary point", "image units"),
}


def class_centroids(images: ImageSet) -> Array:
    """Mean image of every class that has images, by class number; NaN rows for the others.

    Returns (classes, D), float64.

    Raises:
        InputError: images without labels.
    """
    labels = images.labels.numpy()
    x = images.images.flatten(1).numpy()
    centroids = np.full((max(int(labels.max()) + 1, len(images.class_names)), x.shape[1]), np.nan)
    for c in np.unique(labels):
        centroids[c] = x[labels == c].mean(0, dtype=np.float64)
    return centroids


def normal_tilt(
    points: BoundaryPoints | tuple[Numbers, Numbers, Numbers],
    train: ImageSet | Numbers,
    classes: tuple[int, int] | None = None,
    *,
    seed: int = 0,
) -> xr.Dataset:
    """Angle between each boundary normal and the centroid direction of its pair of classes.

    The picture of Tanay's tilting plane for a deep network: where the normal into the target class
    is parallel to the vector from the source's to the target's centroid, the boundary there is not
    tilted; at 90 degrees a step across the boundary has nothing of the difference of the classes.

    Args:
        points: boundary points, or (normals, source, target): unit normals (N, D) into the target
            class and class numbers (N,). Normals that are NaN (no usable boundary) give NaN. Of
            points of a class's region it is the class that meets it there (`near`) that counts,
            which need not be the one predicted at the image.
        train: ImageSet with labels whose centroids are taken, or centroids (classes, D).
        classes: only points where these two classes meet count, in either direction; the others
            have NaN angles. Default: all points count.
        seed: of the random directions to compare with.

    Returns:
        Dataset over sample, in the order of the points: `angle` (radians, in [0, pi]; NaN without
        a normal), `source`, `target`; `distance` of the images where BoundaryPoints are given (NaN
        where they do not count); `random_angle`, the angle between a uniform random direction and
        the same centroid direction.

    Raises:
        InputError: normals of another dimension than the images, classes without training images,
            or no points between the two classes.
    """
    normals, source, target = _points(points)
    near = points.near.cpu().numpy() if isinstance(points, BoundaryPoints) else source
    centroids = class_centroids(train) if isinstance(train, ImageSet) else np.asarray(train, float)
    _check(normals, near, target, centroids)
    counts = _counting(near, source, target, classes)
    _check_present(centroids, near[counts], target[counts])
    step = np.full(normals.shape, np.nan)
    step[counts] = centroids[target[counts]] - centroids[near[counts]]
    random = uniform_directions(len(normals), normals.shape[1], seed, torch.float64).numpy()
    values = {
        "angle": _angles(normals, step),
        "random_angle": _angles(random, step),
        "source": source,
        "target": target,
    }
    if isinstance(points, BoundaryPoints):
        distance = points.distance.detach().cpu().numpy().astype(np.float64)
        usable = counts & points.converged.cpu().numpy()
        values["distance"] = np.where(usable, distance, np.nan)
    return described(SCHEMA, values)


def _angles(a: Array, b: Array) -> Array:
    """Angles between rows (N, D), radians: 2 atan2(|a' - b'|, |a' + b'|) of the unit rows (Kahan).

    NaN where a row is NaN or zero.
    """
    with np.errstate(invalid="ignore"):
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    apart, together = np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)
    return np.asarray(2 * np.arctan2(apart, together))


def _points(
    points: BoundaryPoints | tuple[Numbers, Numbers, Numbers],
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    if isinstance(points, BoundaryPoints):
        points = (points.normals, points.source, points.target)
    if not isinstance(points, tuple) or len(points) != 3:
        raise InputError(
            f"points is a {type(points).__name__}; expected BoundaryPoints or (normals, source, "
            "target)."
        )
    normals, source, target = (
        np.asarray(p.detach().cpu() if isinstance(p, Tensor) else p) for p in points
    )
    return normals.astype(np.float64), source.astype(np.int64), target.astype(np.int64)


def _check(
    normals: Array, source: NDArray[np.int64], target: NDArray[np.int64], centroids: Array
) -> None:
    if normals.ndim != 2 or centroids.ndim != 2 or normals.shape[1] != centroids.shape[1]:
        raise InputError(
            f"normals have shape {normals.shape} and class centroids {centroids.shape}; expected "
            "(N, D) and (classes, D) with the same D: images the network takes."
        )
    if source.shape != (len(normals),) or target.shape != (len(normals),):
        raise InputError(
            f"source and target have shapes {source.shape} and {target.shape} for {len(normals)} "
            "normals; expected one class number each."
        )


def _counting(
    near: NDArray[np.int64],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    classes: Sequence[int] | None,
) -> NDArray[np.bool_]:
    """Which points lie between the two classes. (N,).

    None of them need, where a third class lies in between on every way from one to the other.
    """
    if classes is None:
        return np.ones(len(source), dtype=bool)
    i, j = classes

    def pairs(first: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(((first == i) & (target == j)) | ((first == j) & (target == i)))

    counts = pairs(near)
    if i == j or not (counts.any() or pairs(source).any()):
        raise InputError(
            f"classes={tuple(classes)}: none of the {len(source)} boundary points lies between two "
            "such classes. Collect points of images of these classes with target= the other one."
        )
    return counts


def _check_present(centroids: Array, source: NDArray[np.int64], target: NDArray[np.int64]) -> None:
    used = np.unique(np.concatenate([source, target]))
    for c in used:
        if not 0 <= c < len(centroids) or np.isnan(centroids[c]).any():
            raise InputError(
                f"train has no image of class {c}, which the boundary points are about: give "
                "training images of all classes that the network predicts."
            )
