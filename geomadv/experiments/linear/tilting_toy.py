"""A two-class problem whose tilting plane looks the same in any number of dimensions (Tanay)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.errors import InputError, check_counts
from geomadv.experiments.linear import tilting_plane
from geomadv.labels import Schema, described

Array = NDArray[np.float64]

# Along brightness the classes lie apart but overlap; along the contrast of the halves they are
# separated by a gap that is tiny beside everything else. Image units.
_DISTANCE, _SPREAD, _GAP, _NOISE = 2.0, 0.7, 0.2, 0.03

# What depends on the number of pixels is left out where dimensions lie side by side.
_KEPT = (
    *("angle", "train_error", "test_error", "mean_distance", "mean_adversarial_norm"),
    *("centroid_angle", "centroid_train_error", "centroid_test_error"),
    *("centroid_mean_distance", "centroid_mean_adversarial_norm"),
    *("train_z", "train_n", "train_label", "trace_point", "trace_direction", "converged", "tilted"),
    *("angle_bound", "settled"),
)

_PLANE = tilting_plane.SCHEMA
SCHEMA: Schema = {
    "dimension": (("dimension",), "number of pixels", "1"),
    "C": _PLANE["C"],
    **{name: (("dimension", *_PLANE[name][0]), *_PLANE[name][1:]) for name in _KEPT},
}


def toy_problem(
    dimension: int, samples: int = 200, seed: int = 0
) -> tuple[Array, NDArray[np.int64]]:
    """Two classes of images that differ in brightness and, hardly, in their two halves.

    All images lie in one plane: their brightness (mean 1 apart from the centre on either side,
    standard deviation 0.7) tells the classes apart as a nearest-centroid classifier would; the
    contrast between first and second half (0.1 on either side, standard deviation 0.03) separates
    them almost without error, at a tiny distance. A classifier that is free to tilt does. The
    coordinates in this plane are the same for every dimension, so the problem is, up to a rotation.

    Args:
        dimension: pixels, even.
        samples: images of each class.
        seed: of the coordinates.

    Returns:
        X (2 samples, dimension) float64, y of 0 and 1, the classes in turn.

    Raises:
        InputError: an odd dimension or one < 2, samples < 1.
    """
    if dimension < 2 or dimension % 2:
        raise InputError(f"dimension={dimension} must be an even number of pixels, at least 2.")
    check_counts(samples=samples)
    labels = np.tile([0, 1], samples)
    noise = np.random.default_rng(seed).standard_normal((2 * samples, 2))
    side = 2 * labels - 1
    brightness = side * _DISTANCE / 2 + _SPREAD * noise[:, 0]
    contrast = side * _GAP / 2 + _NOISE * noise[:, 1]
    halves = np.repeat([1.0, -1.0], dimension // 2)
    plane = np.stack([np.ones(dimension), halves]) / np.sqrt(dimension)
    return np.stack([brightness, contrast], 1) @ plane, labels


def tilting_toy(
    classifier: Any,
    C: float | Sequence[float],
    dimensions: Sequence[int] = (2, 784),
    samples: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """`tilting_plane` of the toy problem in several dimensions, side by side.

    Args:
        classifier: as in `tilting_plane`.
        C: as in `tilting_plane`.
        dimensions: numbers of pixels, even.
        samples: images of each class, for training and as many for the test.
        seed: of the training images; the test images have the next one.

    Returns:
        Dataset over dimension, C, train and plane: the angles, errors, distances, coordinates of
        the training images and boundary traces of `tilting_plane`.

    Raises:
        InputError: as `toy_problem` and `tilting_plane`.
    """
    if not dimensions:
        raise InputError("dimensions is empty: give at least one even number of pixels.")
    pictures = [
        tilting_plane.tilting_plane(
            toy_problem(dimension, samples, seed),
            toy_problem(dimension, samples, seed + 1),
            classifier,
            C,
        )
        for dimension in dimensions
    ]
    values = {name: np.stack([picture[name] for picture in pictures]) for name in _KEPT}
    same = {"C": pictures[0]["C"], "dimension": np.asarray(dimensions, dtype=np.int64)}
    return described(SCHEMA, values | same, pictures[0].attrs)
