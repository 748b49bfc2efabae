"""What the linear classifiers of scikit-learn minimise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.class_weight import compute_class_weight

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """A convex loss phi(m) of the margin m = y f(x), y = +-1: its first two derivatives."""

    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]


_LOGISTIC = Loss(lambda m: -expit(-m), lambda m: expit(m) * expit(-m))
_SQUARED_HINGE = Loss(lambda m: -2 * np.maximum(1 - m, 0), lambda m: np.where(m < 1, 2.0, 0.0))
_SQUARED = Loss(lambda m: 2 * (m - 1), lambda m: np.full(len(m), 2.0))


@dataclass(frozen=True)
class Objective:
    """1/2 ||w||^2 + 1/2 (b / scale)^2 + sum_i c_i phi(y_i (w.x_i + b)) over w and b.

    The loss phi is None for the hinge max(1 - m, 0), which has no second derivative.
    """

    loss: Loss | None
    weights: Array  # (N,) c_i > 0
    scale: float  # of the intercept; infinite: it is free of regularisation; 0: there is none


def objective_of(
    model: Any, c: float | None, is_second: NDArray[np.bool_]
) -> tuple[Objective, int] | None:
    """The objective of a classifier at C = c for these labels, and its limit of iterations.

    As scikit-learn documents them. Its `liblinear` (LinearSVC, LogisticRegression with that solver)
    regularises the intercept: b = intercept_scaling times a coefficient that counts like those of
    the pixels. All others leave it free.

    Returns None where the objective is another, or not known: penalties other than L2, subclasses
    and classifiers that minimise nothing.
    """
    form = _form(model, len(is_second))
    if form is None:
        return None
    loss, strength, scale = form
    weight = np.ones(2)
    if model.class_weight is not None:
        labels = is_second.astype(np.int64)
        weight = compute_class_weight(model.class_weight, classes=np.arange(2), y=labels)
    weights = (strength if c is None else c) * weight[is_second.astype(np.int64)]
    steps = model.max_iter
    limit = int(steps) if steps is not None and steps > 0 else _STEPS
    return Objective(loss, weights, scale if getattr(model, "fit_intercept", True) else 0.0), limit


# Newton steps where the classifier has no limit; ours take some tens.
_STEPS = 1000


def _form(model: Any, count: int) -> tuple[Loss | None, float, float] | None:
    """Loss, strength C and scale of the intercept; None where they are not known."""
    kind = type(model)
    if kind is LogisticRegression and _is_l2(model) and np.isfinite(model.C):
        scale = model.intercept_scaling if model.solver == "liblinear" else np.inf
        return _LOGISTIC, model.C, scale
    if kind is LinearSVC and model.penalty == "l2":
        loss = _SQUARED_HINGE if model.loss == "squared_hinge" else None
        return loss, model.C, model.intercept_scaling
    if kind is SVC and model.kernel == "linear":
        return None, model.C, np.inf
    if kind is RidgeClassifier and np.ndim(model.alpha) == 0 and model.alpha > 0:
        return None if model.positive else (_SQUARED, 1 / (2 * model.alpha), np.inf)
    losses = {"log_loss": _LOGISTIC, "squared_hinge": _SQUARED_HINGE, "hinge": None}
    if kind is SGDClassifier and model.penalty == "l2" and model.loss in losses and model.alpha > 0:
        return losses[model.loss], 1 / (model.alpha * count), np.inf
    return None


def _is_l2(model: LogisticRegression) -> bool:
    return model.penalty in ("l2", "deprecated") and not model.l1_ratio
