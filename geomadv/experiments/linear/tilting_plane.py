"""The tilting plane of a linear classifier, and what regularisation does to it (Tanay)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.errors import InputError, check_counts
from geomadv.experiments.linear.hyperplanes import (
    Hyperplane,
    nearest_centroid,
    some_direction,
)
from geomadv.experiments.linear.linear_fit import (
    check_classifier,
    fit_sweep,
    settled,
    weak_limit,
)
from geomadv.experiments.linear.tilting_views import VIEWS, adversarial_examples, extreme_space
from geomadv.experiments.linear.two_classes import TwoClasses, two_classes
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described

Array = NDArray[np.float64]

_C, _TRACE = ("C",), ("C", "plane")
_MIDPOINT = "from the midpoint of the centroids"
_CENTROID = "nearest-centroid classifier"
_MEAN = "mean distance of test images to the boundary"
_NORM = "mean norm of the smallest adversarial perturbation, correctly classified test images"
_NEAREST = "point of the boundary's trace nearest"
_BOUND = "bound on the angle between w and the minimiser of the objective"


def _set_schema(name: str) -> Schema:
    """What is known of the images of one set."""
    image, each, wrong = f"the {name} image", (*_C, name), f"share of {name} images misclassified"
    along = f"coordinate of {image} along"
    return {
        f"{name}_label": ((name,), f"class of {image}", "1"),
        f"{name}_z": ((name,), f"{along} z, {_MIDPOINT}", "image units"),
        f"{name}_n": (each, f"{along} n, {_MIDPOINT}", "image units"),
        f"{name}_distance": (each, f"signed distance of {image} to the boundary", "image units"),
        f"{name}_error": (_C, wrong, "1"),
        f"centroid_{name}_error": ((), f"{wrong} by the {_CENTROID}", "1"),
    }


SCHEMA: Schema = {
    "C": (_C, "inverse strength of the L2 regularisation", "1"),
    "weight": ((*_C, *IMAGE), "weight w of the classifier", "1"),
    "bias": (_C, "bias b of the classifier", "1"),
    "centroid": (("class", *IMAGE), "mean training image of each class", "image units"),
    "z": (IMAGE, "unit vector z from centroid to centroid", "1"),
    "n": ((*_C, *IMAGE), "unit vector n of the tilting plane", "1"),
    "angle": (_C, "deviation angle between w and z", "radian"),
    "centroid_angle": ((), f"deviation angle of the {_CENTROID}", "radian"),
    "trace_point": (_TRACE, f"{_NEAREST} to the midpoint of the centroids", "image units"),
    "trace_direction": (_TRACE, "unit vector along the boundary's trace", "1"),
    "tilted": (_C, "w is not parallel to z", "1"),
    "converged": (_C, "the direction of w is the minimiser's to 0.1 degrees", "1"),
    "angle_bound": (_C, _BOUND, "radian"),
    "settled": (_C, "weaker regularisation turns w by at most 0.1 degrees", "1"),
    **_set_schema("train"),
    **_set_schema("test"),
    "mean_distance": (_C, _MEAN, "image units"),
    "mean_adversarial_norm": (_C, _NORM, "image units"),
    "centroid_mean_distance": ((), f"{_MEAN}, {_CENTROID}", "image units"),
    "centroid_mean_adversarial_norm": ((), f"{_NORM}, {_CENTROID}", "image units"),
    **VIEWS,
}


def tilting_plane(
    train: Any,
    test: Any,
    classifier: Any,
    C: float | Sequence[float] = 1.0,
    *,
    classes: tuple[Any, Any] | None = None,
    examples: int = 6,
    until_settled: bool = False,
    keep: Keep = keep_nothing,
    progress: bool = False,
) -> xr.Dataset:
    """How far the boundary of a linear classifier tilts, and how near it comes to the images.

    T. Tanay, "Adversarial Examples, Explained"; T. Tanay and L. Griffin, "A boundary tilting
    perspective on the phenomenon of adversarial examples" (2016). Classes I and J with training
    centroids i, j; z = (j - i) / ||j - i|| is the weight of the nearest-centroid classifier, w that
    of the classifier, n = (w - (w.z) z) / ||.||. In the plane through (i + j) / 2 spanned by z and
    n the classifier's boundary is a line, and an image's distance to the line is its distance to
    the boundary in image space. The angle between w and z says how far the boundary tilts.

    Args:
        train: ImageSet with labels, or (X, y): X (N, D) or (N, C, H, W) and y (N,) integers.
        test: the same, held out.
        classifier: a linear classifier of scikit-learn, fitted for each C (fitted once where it has
            no parameter C), or a torch.nn.Linear layer, taken as it is: one output (positive for
            J), two (I, J), or one for each class number. The objective is scikit-learn's, the
            solver ours where it is LogisticRegression, LinearSVC, SVC(kernel="linear"),
            RidgeClassifier or SGDClassifier with the L2 penalty: their tolerances leave angles
            wrong by degrees where the regularisation is weak. LinearSVC and solver="liblinear"
            regularise the intercept; a large `intercept_scaling` frees it.
        C: inverse strength of the L2 regularisation as scikit-learn defines it, > 0; or several.
        classes: the pair (I, J), class numbers or names; default: the two classes of `train`.
        examples: test images for which adversarial images are stored, from both classes in turn:
            of those that most of the classifiers get right, those first whose distance to the
            nearest-centroid classifier's boundary is most usual.
        until_settled: visit C in ascending order and leave out those above the first `settled`.
        keep: what keeps finished fits; default nothing. See `Keep`.
        progress: show a progress bar over C.

    Returns:
        Dataset over C, train, test, example and plane (coordinates along z and n), float64.
        Distances are signed, positive on J's side. `mean_distance` is over all test images,
        `mean_adversarial_norm` over those classified correctly; both, the angle and the errors are
        there for the nearest-centroid classifier too (`centroid_...`). `adversarial_image` lies
        exactly on the boundary, -f(x) w / ||w||^2 away. Without usable weights angles, distances
        and adversarial images are NaN.

        `angle_bound` bounds the angle between w and the minimiser of the objective, by the
        objective's gradient or duality gap (derived in `minimise`; NaN for other classifiers than
        those above). `converged` is True where it is at most 0.1 degrees and the classifier's
        `max_iter` did not end the search; without a bound it is scikit-learn's word. `settled` is
        True where w has the direction, to 0.1 degrees, that it has three decades of C beyond the
        sweep: nothing changes any more. A plateau that is not settled is none.

        `tilted` is False where w is parallel to z: n is then another direction orthogonal to z, in
        which the training images spread. Where the sweep has two usable boundaries and D >= 3,
        `space_...` describes the space of z and the weights at the largest and smallest C.

    Raises:
        InputError: more than two classes and no pair named, a class without images in either set,
            images of different shapes, images of fewer than two pixels, equal centroids, C that is
            not positive, or a classifier that is not linear.
    """
    sweep = _check_c(C)
    one = two_classes("train", train, classes)
    other = two_classes("test", test, one.classes)
    _check_sets(one, other, examples)
    check_classifier(one, classifier, sweep[0])
    limit = weak_limit(one, classifier, sweep, keep)
    if until_settled:
        sweep = sorted(sweep)
    planes = fit_sweep(one, classifier, sweep, keep, progress, limit if until_settled else None)
    sweep = sweep[: len(planes)]
    picture = _Picture.of(one, planes)
    values = {
        "C": sweep,
        **_boundaries(picture, planes, one.shape),
        **_solutions(planes, limit),
        **_data(picture, planes, "train", one),
        **_data(picture, planes, "test", other),
        **_means(planes, picture.reference, other),
        **adversarial_examples(planes, picture.reference, other, examples),
        **extreme_space(planes, sweep, picture.z, picture.n, picture.centre, one),
    }
    attrs = {
        "classifier": " ".join(str(classifier).split()),
        "class_names": list(one.names),
        "pair": np.array(one.classes),
    }
    return described(SCHEMA, values, attrs)


@dataclass(frozen=True)
class _Picture:
    """Coordinates of the tilting planes: they share the origin and z, each has its n."""

    centroids: Array  # (2, D)
    centre: Array  # (D,) halfway between the centroids
    z: Array  # (D,)
    n: Array  # (C, D)
    tilted: NDArray[np.bool_]  # (C,)
    reference: Hyperplane  # of the nearest-centroid classifier

    @staticmethod
    def of(data: TwoClasses, planes: Sequence[Hyperplane]) -> _Picture:
        centroids = data.centroids
        reference = nearest_centroid(centroids)
        z, centre = reference.normal, centroids.mean(0)
        tilts = [plane.tilt_direction(z) for plane in planes]
        tilted = np.array([tilt is not None for tilt in tilts])
        spread = z if tilted.all() else some_direction(z[None], data.x, centre)
        n = np.stack([spread if tilt is None else tilt for tilt in tilts])
        return _Picture(centroids, centre, z, n, tilted, reference)


def _boundaries(
    picture: _Picture, planes: Sequence[Hyperplane], shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Weights, angles, and each boundary's trace: the line through `point` along `direction`."""
    normals = np.stack([plane.normal for plane in planes])
    across = np.stack([normals @ picture.z, np.einsum("cd,cd->c", normals, picture.n)], 1)
    gap = np.array([float(plane.distances(picture.centre[None])[0]) for plane in planes])
    along = np.stack([-across[:, 1], across[:, 0]], 1)

    def images(rows: Array) -> Array:
        return rows.reshape(*rows.shape[:-1], *shape)

    return {
        "weight": images(np.stack([p.weight for p in planes])),
        "bias": [p.bias for p in planes],
        "centroid": images(picture.centroids),
        "z": images(picture.z),
        "n": images(picture.n),
        "angle": [plane.deviation_angle(picture.z) for plane in planes],
        "centroid_angle": 0.0,
        "trace_point": -gap[:, None] * across,
        "trace_direction": along,
        "tilted": picture.tilted,
    }


def _solutions(planes: Sequence[Hyperplane], limit: Hyperplane | None) -> dict[str, Any]:
    """How well each boundary is known, and whether weaker regularisation would change it."""
    return {
        "converged": [p.converged for p in planes],
        "angle_bound": [p.angle_bound for p in planes],
        "settled": [limit is not None and settled(p, limit) for p in planes],
    }


def _data(
    picture: _Picture, planes: Sequence[Hyperplane], name: str, data: TwoClasses
) -> dict[str, Any]:
    """Coordinates in the tilting planes, distances and error rates of one set."""
    x, centre = data.x, picture.centre
    return {
        f"{name}_label": data.labels,
        f"{name}_z": x @ picture.z - centre @ picture.z,
        f"{name}_n": picture.n @ x.T - (picture.n @ centre)[:, None],
        f"{name}_distance": np.stack([plane.distances(x) for plane in planes]),
        f"{name}_error": [_error(plane, data) for plane in planes],
        f"centroid_{name}_error": _error(picture.reference, data),
    }


def _means(planes: Sequence[Hyperplane], reference: Hyperplane, test: TwoClasses) -> dict[str, Any]:
    values = np.array([_mean_distances(plane, test) for plane in (*planes, reference)])
    return {
        "mean_distance": values[:-1, 0],
        "mean_adversarial_norm": values[:-1, 1],
        "centroid_mean_distance": values[-1, 0],
        "centroid_mean_adversarial_norm": values[-1, 1],
    }


def _error(plane: Hyperplane, data: TwoClasses) -> float:
    if not np.isfinite(plane.scores(data.x)).all():
        return float("nan")
    return float((~plane.correct(data.x, data.is_second)).mean())


def _mean_distances(plane: Hyperplane, data: TwoClasses) -> tuple[float, float]:
    """Mean |distance| of all images, and of those classified correctly; NaN for none."""
    distances, right = np.abs(plane.distances(data.x)), plane.correct(data.x, data.is_second)
    return float(distances.mean()), float(distances[right].mean()) if right.any() else np.nan


def _check_c(C: float | Sequence[float]) -> list[float]:
    try:
        values = np.atleast_1d(np.asarray(C, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"C={C!r} must be a positive number or several.") from error
    if values.ndim != 1 or len(values) == 0 or not ((values > 0) & np.isfinite(values)).all():
        raise InputError(
            f"C={C!r} must be a positive, finite number or a sequence of such; small C is strong "
            "regularisation."
        )
    return [float(c) for c in values]


def _check_sets(train: TwoClasses, test: TwoClasses, examples: int) -> None:
    if train.shape != test.shape:
        raise InputError(
            f"train has images of shape {train.shape}, test of shape {test.shape}; they must be "
            "equal."
        )
    if train.x.shape[1] < 2:
        raise InputError("images of one pixel have no tilting plane: two pixels are needed.")
    if not nearest_centroid(train.centroids).is_usable:
        raise InputError(
            f"train: the centroids of classes {train.names[0]} and {train.names[1]} are equal, so "
            "no direction leads from one to the other. Give classes that differ in mean."
        )
    check_counts(examples=examples)
