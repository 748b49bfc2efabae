"""Linear classifiers of scikit-learn and torch as hyperplanes, one for each regularisation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from geomadv.errors import InputError
from geomadv.experiments.linear.hyperplanes import CONVERGED, Hyperplane
from geomadv.experiments.linear.minimise import minimise
from geomadv.experiments.linear.objectives import objective_of
from geomadv.experiments.linear.two_classes import TwoClasses
from geomadv.keep import Keep
from geomadv.progress import tqdm

# Scores as our hyperplane and as the classifier computes them differ by rounding of the weights,
# float32 at worst: labels may differ only where the score is below this share of the largest.
_TIE = 1e-5

# Images per class of the trial fit that finds out what a classifier is before the long work.
_TRIAL = 20


# The limit of weak regularisation is looked for at a C larger by this factor.
_BEYOND = 1e3


def fit_sweep(
    data: TwoClasses,
    classifier: Any,
    regularisation: Sequence[float],
    keep: Keep,
    progress: bool,
    end: Hyperplane | None = None,
) -> list[Hyperplane]:
    """One hyperplane for each C, f > 0 on the side of class J.

    A classifier whose objective is known (see `objective_of`) is fitted by our own solver, and has
    `converged` where the direction is right to `CONVERGED` by the bound in `minimise` and the
    classifier's `max_iter` did not end the search. Others are fitted by scikit-learn, `converged`
    is its word (no ConvergenceWarning) and the bound is NaN. One without a parameter C is fitted
    once, a torch layer taken as it is: all entries are equal then. Where the linear algebra fails
    or the weight is zero `converged` is False.

    end: stop after the first hyperplane that has `settled` there; the result is shorter then.

    Raises:
        InputError: no linear classifier, or one that cannot be fitted to these images.
    """
    fitted = check_classifier(data, classifier, regularisation[0])
    if fitted is not None:
        return [fitted] * len(regularisation)
    planes: list[Hyperplane] = []
    total = len(regularisation)
    with tqdm(total=total, desc="regularisation", unit="fit", disable=not progress) as bar:
        for c in regularisation:
            planes.append(_kept(data, classifier, c, keep))
            bar.update()
            if end is not None and settled(planes[-1], end):
                break
    return planes


def weak_limit(
    data: TwoClasses, classifier: Any, regularisation: Sequence[float], keep: Keep
) -> Hyperplane | None:
    """The hyperplane three decades of C beyond a sweep; None where its objective is not known.

    It is where the sweep is going: to the largest margin or the smallest loss. A C that counts as
    weak regularisation is at least the inverse of the classes' squared distance.
    """
    if isinstance(classifier, nn.Module) or "C" not in classifier.get_params():
        return fit_sweep(data, classifier, regularisation[:1], keep, progress=False)[0]
    low, high = data.centroids
    c = _BEYOND * max(*regularisation, 1 / float((high - low) @ (high - low)))
    if objective_of(clone(classifier).set_params(C=c), c, data.is_second) is None:
        return None
    return _kept(data, classifier, c, keep)


def settled(plane: Hyperplane, limit: Hyperplane) -> bool:
    """Whether a boundary has the direction of its limit, both within `CONVERGED`."""
    if not (plane.converged and limit.converged):
        return False
    return bool(plane.deviation_angle(limit.normal) <= CONVERGED)


def check_classifier(data: TwoClasses, classifier: Any, c: float) -> Hyperplane | None:
    """The hyperplane of a classifier that has no C; None for others, tried on a few images.

    Raises:
        InputError: see `fit_sweep`.
    """
    if isinstance(classifier, nn.Module):
        return _from_layer(classifier, data)
    _check_kind(classifier)
    has_c = "C" in classifier.get_params()
    _try(data, classifier, c if has_c else None)
    return None if has_c else _fit(data, classifier, None)


def _kept(data: TwoClasses, classifier: Any, c: float, keep: Keep) -> Hyperplane:
    fit = keep(f"C-{c!r}", partial(_stored, data, classifier, c))
    return Hyperplane(
        fit["weight"].to_numpy(),
        float(fit["bias"]),
        bool(fit["converged"]),
        angle_bound=float(fit["angle_bound"]),
    )


def _stored(data: TwoClasses, classifier: Any, c: float) -> xr.Dataset:
    plane = _fit(data, classifier, c)
    return xr.Dataset(
        {
            "weight": ("pixel", plane.weight),
            "bias": ((), plane.bias),
            "converged": ((), plane.converged),
            "angle_bound": ((), plane.angle_bound),
        }
    )


def _check_kind(classifier: Any) -> None:
    if isinstance(classifier, type):
        raise InputError(
            f"classifier is the class {classifier.__name__}; give an object of it: "
            f"{classifier.__name__}()."
        )
    if not (hasattr(classifier, "fit") and hasattr(classifier, "get_params")):
        raise InputError(
            f"classifier is a {type(classifier).__name__}; expected a linear classifier of "
            "scikit-learn (LinearSVC, LogisticRegression, LinearDiscriminantAnalysis, "
            "NearestCentroid, ...) or a torch.nn.Linear layer."
        )
    if not is_classifier(classifier):
        raise InputError(
            f"classifier {type(classifier).__name__} is no classifier of scikit-learn: take its "
            "classifying form, for example RidgeClassifier for Ridge."
        )


def _try(data: TwoClasses, classifier: Any, c: float | None) -> None:
    """Fits a few images, so that what is not linear is refused before the long work."""
    order = np.argsort(data.is_second, kind="stable")
    few = np.concatenate([order[:_TRIAL], order[-_TRIAL:]])
    part = TwoClasses(data.x[few], data.labels[few], data.classes, data.names, data.shape)
    try:
        _fit_by_scikit_learn(part, _with_c(classifier, c))
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"classifier {_named(classifier)} cannot be fitted to these images: {error}. Change "
            "its arguments, or give other images."
        ) from error


def _with_c(classifier: Any, c: float | None) -> Any:
    model = clone(classifier)
    return model if c is None else model.set_params(C=c)


def _fit(data: TwoClasses, classifier: Any, c: float | None) -> Hyperplane:
    model = _with_c(classifier, c)
    known = objective_of(model, c, data.is_second)
    if known is None:
        return _fit_by_scikit_learn(data, model)
    objective, steps = known
    found = minimise(objective, data.x, data.is_second, steps)
    converged = found.finished and found.angle_bound <= CONVERGED
    plane = Hyperplane(found.weight, found.bias, converged, angle_bound=found.angle_bound)
    return plane if plane.is_usable else replace(plane, converged=False)


def _fit_by_scikit_learn(data: TwoClasses, model: Any) -> Hyperplane:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(data.x, data.is_second.astype(np.int64))
        except np.linalg.LinAlgError:
            return Hyperplane(np.full(data.x.shape[1], np.nan), float("nan"), converged=False)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    for other in (w for w in caught if not issubclass(w.category, ConvergenceWarning)):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    weight, bias = _linear_form(model, data.x.shape[1])
    found = Hyperplane(weight, bias, converged)
    if found.is_usable:
        _check_agreement(model, found, data)
        return found
    return Hyperplane(weight, bias, converged=False)


def _linear_form(model: Any, dimension: int) -> tuple[NDArray[np.float64], float]:
    if hasattr(model, "coef_"):
        weight = np.asarray(model.coef_, dtype=np.float64).ravel()
        bias = np.asarray(getattr(model, "intercept_", 0.0), dtype=np.float64).ravel()
    elif hasattr(model, "centroids_"):
        _check_centroid_rule(model)
        low, high = np.asarray(model.centroids_, dtype=np.float64)
        weight = high - low
        bias = np.array([-(weight @ (high + low)) / 2])
    else:
        raise InputError(
            f"classifier {type(model).__name__} has neither coef_ nor centroids_ after fitting, so "
            "it has no weight vector: give a linear classifier. What a pipeline does to the images "
            "first, do to the images given here."
        )
    if weight.shape != (dimension,) or bias.shape != (1,):
        raise InputError(
            f"classifier {type(model).__name__} has {weight.size} coefficients and {bias.size} "
            f"intercepts for two classes of images with {dimension} pixels; expected {dimension} "
            "and 1."
        )
    return weight, float(bias[0])


def _check_centroid_rule(model: Any) -> None:
    metric, priors = getattr(model, "metric", "euclidean"), getattr(model, "priors", "uniform")
    if metric != "euclidean" or not isinstance(priors, str) or priors != "uniform":
        raise InputError(
            f"classifier {_named(model)} does not decide by the Euclidean distance to its "
            "centroids alone, so its boundary is not the plane halfway between them: take "
            "metric='euclidean' and uniform priors."
        )


def _check_agreement(model: Any, plane: Hyperplane, data: TwoClasses) -> None:
    scores = plane.scores(data.x)
    differ = (scores > 0) != (np.asarray(model.predict(data.x)) == 1)
    differ &= np.abs(scores) > _TIE * np.abs(scores).max()
    if differ.any():
        raise InputError(
            f"classifier {_named(model)} does not decide by the sign of its linear form w.x + b: "
            f"{int(differ.sum())} of {len(data.x)} training images get another label. Give a "
            "linear classifier."
        )


def _from_layer(layer: nn.Module, data: TwoClasses) -> Hyperplane:
    dimension = data.x.shape[1]
    if not isinstance(layer, nn.Linear):
        raise InputError(
            f"classifier is a torch {type(layer).__name__}; expected a torch.nn.Linear layer that "
            "takes flattened images. For a deep network's boundary see experiments.normal_tilt."
        )
    if layer.in_features != dimension:
        raise InputError(
            f"the linear layer takes {layer.in_features} numbers, but the images have {dimension} "
            "pixels. Give one that was made for these images."
        )
    weight = layer.weight.detach().cpu()
    bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().cpu()
    precision = np.float64 if weight.dtype == torch.float64 else np.float32
    rows, values = weight.double().numpy(), bias.double().numpy()
    if len(rows) == 1:
        return _plane(rows[0], values[0], precision)
    i, j = (0, 1) if len(rows) == 2 else data.classes
    if not 0 <= min(i, j) <= max(i, j) < len(rows):
        raise InputError(
            f"the linear layer has {len(rows)} outputs, but the classes are {i} and {j}: give a "
            "layer with one output, two, or one for each class number."
        )
    return _plane(rows[j] - rows[i], values[j] - values[i], precision)


def _plane(
    weight: NDArray[np.float64], bias: float, precision: type[np.floating[Any]]
) -> Hyperplane:
    plane = Hyperplane(weight, float(bias), True, precision, angle_bound=0.0)
    return plane if plane.is_usable else replace(plane, converged=False)


def _named(model: Any) -> str:
    """The classifier with its settings, on one line."""
    return " ".join(str(model).split())
