"""Minimisers of linear classifiers: against other solvers, their bound, and the end of a sweep."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, linprog, minimize
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.svm import SVC, LinearSVC

from geomadv.experiments import tilting_plane
from geomadv.experiments.linear.hyperplanes import CONVERGED, Hyperplane
from geomadv.experiments.linear.linear_fit import settled
from geomadv.experiments.linear.minimise import minimise
from geomadv.experiments.linear.objectives import objective_of

LOSSES = {
    LogisticRegression: lambda m: np.logaddexp(0, -m),
    LinearSVC: lambda m: np.maximum(1 - m, 0) ** 2,
    RidgeClassifier: lambda m: (1 - m) ** 2,
}
TENTH = 0.1  # degrees


@pytest.fixture(scope="module")
def digits():
    """Twos and threes of scikit-learn's digits, which a plane separates."""
    x, y = load_digits(return_X_y=True)
    chosen = (y == 2) | (y == 3)
    return x[chosen] / 16, y[chosen]


@pytest.fixture(scope="module")
def clouds():
    """Two Gaussian clouds of unequal size that overlap."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((150, 8))
    y = (np.arange(150) < 50).astype(int)
    x[:, 0] += y
    return x, y


def solved(classifier, data, c=None):
    x, y = data
    is_second = y == y.max()
    model = classifier if c is None else classifier.set_params(C=c)
    objective, _ = objective_of(model, c, is_second)
    return minimise(objective, x, is_second, 1000), objective


def degrees(a, b):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


def plain_objective(classifier, c, data, free):
    """The objective as scikit-learn's user guide writes it, for another solver: w, b -> value."""
    x, y = data
    side = np.where(y == y.max(), 1.0, -1.0)
    loss = LOSSES[type(classifier)]

    def value(v):
        intercept = 0 if free else (v[-1] / getattr(classifier, "intercept_scaling", 1)) ** 2
        return (v[:-1] @ v[:-1] + intercept) / 2 + c * loss(side * (x @ v[:-1] + v[-1])).sum()

    return value


@pytest.mark.parametrize("c", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize(
    ("classifier", "free"),
    [
        (LogisticRegression(), True),
        (LogisticRegression(solver="liblinear", intercept_scaling=3), False),
        (LinearSVC(), False),
        (LinearSVC(intercept_scaling=20.0), False),
    ],
)
def test_no_step_leads_lower(classifier, free, c, clouds):
    """The value at the minimiser is below all others: BFGS on plain values agrees to its own."""
    found, _ = solved(classifier, clouds, c)
    value = plain_objective(classifier, c, clouds, free)
    at = np.append(found.weight, found.bias)
    other = minimize(value, np.zeros(9), method="BFGS", options={"gtol": 1e-6}).x
    assert value(at) <= value(other) * (1 + 1e-12)
    # BFGS stops at differences of values, sqrt(eps) of the norm away.
    assert degrees(at[:-1], other[:-1]) < TENTH
    assert other[-1] == pytest.approx(found.bias, abs=1e-3)


def test_ridge_is_its_normal_equations(clouds):
    x, y = clouds
    found, _ = solved(RidgeClassifier(alpha=2.0), clouds)
    centred = x - x.mean(0)
    exact = np.linalg.solve(centred.T @ centred + 2 * np.eye(8), centred.T @ (2.0 * y - 1))
    np.testing.assert_allclose(found.weight, exact, rtol=1e-10)


def hard_margin(x, y):
    """The widest band between the classes, by another solver and without regularisation."""
    side = np.where(y == y.max(), 1.0, -1.0)
    rows = side[:, None] * np.column_stack([x, np.ones(len(x))])
    start = linprog(np.zeros(rows.shape[1]), A_ub=-rows, b_ub=-np.ones(len(x)), bounds=(None, None))
    square = np.append(np.ones(x.shape[1]), 0.0)
    return minimize(
        lambda v: square @ v**2 / 2,
        start.x,
        jac=lambda v: square * v,
        constraints=LinearConstraint(rows, 1, np.inf),
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    ).x[:-1]


def test_weak_regularisation_ends_at_the_largest_margin(digits):
    exact = hard_margin(*digits)
    found, _ = solved(SVC(kernel="linear"), digits, 1e3)
    # SLSQP satisfies its conditions to about 1e-7.
    assert degrees(found.weight, exact) < 1e-3
    assert np.linalg.norm(found.weight) == pytest.approx(np.linalg.norm(exact), rel=1e-5)


@pytest.mark.parametrize("dual_of", ["SVC", "LinearSVC"])
def test_the_hinge_is_where_its_subgradient_vanishes(dual_of, clouds):
    """Optimality of a plane, checked by a linear programme in the multipliers of the tight rows."""
    x, y = clouds
    free = dual_of == "SVC"
    model = SVC(kernel="linear") if free else LinearSVC(loss="hinge", max_iter=1000)
    found, _ = solved(model, clouds, 0.5)
    side = np.where(y == 1, 1.0, -1.0)
    margin = side * (x @ found.weight + found.bias)
    rows = side[:, None] * np.column_stack([x, np.ones(len(x))])
    tight = np.abs(margin - 1) < 1e-5
    assert tight.any()
    left = np.append(found.weight, 0.0 if free else found.bias) - 0.5 * rows[margin < 1 - 1e-5].sum(
        0
    )
    multipliers = np.linalg.lstsq(rows[tight].T, left)[0]
    assert np.abs(rows[tight].T @ multipliers - left).max() < 1e-5
    assert (multipliers > -1e-5).all()
    assert (multipliers < 0.5 + 1e-5).all()


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("c", [1e-4, 1.0, 1e3])
def test_fewer_images_than_pixels(loss, c):
    generator = np.random.default_rng(3)
    x, y = generator.standard_normal((30, 200)), np.arange(30) % 2
    wide, _ = solved(LinearSVC(loss=loss), (x, y), c)
    # The same images as coordinates in their own span, made here by another decomposition.
    u, s, span = np.linalg.svd(x, full_matrices=False)
    narrow, _ = solved(LinearSVC(loss=loss), (u * s, y), c)
    assert wide.angle_bound <= CONVERGED
    assert degrees(wide.weight, narrow.weight @ span) < 1e-4


@pytest.mark.parametrize("steps", range(1, 12))
@pytest.mark.parametrize(
    "classifier",
    [LogisticRegression(C=50.0), LinearSVC(C=5.0), LinearSVC(C=5.0, loss="hinge"), SGDClassifier()],
)
def test_the_bound_holds_after_any_number_of_steps(classifier, steps, clouds):
    """However early the search stops, the minimiser is within the bound."""
    x, y = clouds
    c = getattr(classifier, "C", None)
    best, objective = solved(classifier, clouds, c)
    assert best.finished
    early = minimise(objective, x, y == 1, steps)
    slack = np.degrees(best.angle_bound) + 1e-9
    assert degrees(early.weight, best.weight) <= np.degrees(early.angle_bound) + slack or not (
        early.weight.any()
    )
    assert early.finished or early.angle_bound > best.angle_bound


def test_balanced_classes_count_alike(clouds):
    x, y = clouds
    twice = (np.concatenate([x, x[y == 1]]), np.concatenate([y, y[y == 1]]))
    balanced, _ = solved(LogisticRegression(class_weight="balanced"), clouds, 0.4)
    # 100 images of one class, 50 of the other: weights 0.75 and 1.5.
    repeated, _ = solved(LogisticRegression(), twice, 0.4 * 0.75)
    given, _ = solved(LogisticRegression(class_weight={0: 0.75, 1: 1.5}), clouds, 0.4)
    np.testing.assert_allclose(balanced.weight, repeated.weight, rtol=1e-8)
    np.testing.assert_allclose(balanced.weight, given.weight, rtol=1e-8)


def angles(ds):
    return np.degrees(ds["angle"].to_numpy())


def test_angles_of_digits_do_not_depend_on_scikit_learns_tolerance(digits):
    sweep = [1.0, 100.0, 1e3, 1e5]
    svm = tilting_plane(digits, digits, LinearSVC(tol=0.5), sweep)
    assert svm["converged"].all()
    assert (svm["angle_bound"] < np.radians(1e-3)).all()
    # The squared hinge goes to the largest margin at a rate 1 / C; 46.467 degrees are its limit
    # with the intercept regularised.
    assert angles(svm)[-2:] == pytest.approx([46.462, 46.467], abs=2e-3)
    logistic = tilting_plane(digits, digits, LogisticRegression(tol=0.5), sweep)
    assert logistic["converged"].all()
    assert (np.diff(angles(logistic)) > 1).all()


def test_what_has_settled_and_what_has_not(digits):
    sweep = [1e4, 1.0, 1e-2, 1e5]
    svm = tilting_plane(digits, digits, LinearSVC(), sweep)
    assert svm["settled"].values.tolist() == [True, False, False, True]
    # The logistic loss goes to the largest margin at a rate 1 / log C: it never arrives.
    logistic = tilting_plane(digits, digits, LogisticRegression(), sweep)
    assert not logistic["settled"].any()
    # Strong regularisation holds the boundary still, which is no end.
    still = tilting_plane(digits, digits, LinearSVC(), [1e-12, 1e-11])
    assert not still["settled"].any()


def test_a_sweep_ends_where_nothing_changes(digits):
    sweep = np.logspace(-2, 6, 9)
    whole = tilting_plane(digits, digits, SVC(kernel="linear"), sweep)
    short = tilting_plane(digits, digits, SVC(kernel="linear"), sweep[::-1], until_settled=True)
    ends = int(np.argmax(whole["settled"].to_numpy()))
    assert short["C"].values.tolist() == sweep[: ends + 1].tolist()
    assert short["settled"].values.tolist() == [False] * ends + [True]
    np.testing.assert_allclose(short["angle"], whole["angle"][: ends + 1], atol=1e-9)
    assert np.ptp(angles(whole)[ends:]) < TENTH


def test_classifiers_without_a_known_objective_have_no_bound(clouds):
    lasso = LogisticRegression(l1_ratio=1.0, solver="liblinear")
    ds = tilting_plane(clouds, clouds, lasso, [0.1, 1.0])
    assert ds["angle_bound"].isnull().all()
    assert ds["converged"].all()
    assert not ds["settled"].any()


def test_a_layer_is_what_it_is(clouds):
    ds = tilting_plane(clouds, clouds, torch.nn.Linear(8, 1), [1.0, 2.0])
    assert (ds["angle_bound"] == 0).all()
    assert ds["settled"].all()


def test_stochastic_descent_is_not_taken_at_its_word(clouds):
    x, y = clouds
    found, _ = solved(SGDClassifier(loss="log_loss", alpha=1e-2, random_state=0), clouds)
    v = np.append(found.weight, found.bias)
    side = np.where(y == 1, 1.0, -1.0)
    rows = np.column_stack([x, np.ones(150)])
    gradient = -(expit(-side * (rows @ v)) * side) @ rows / 150 + 1e-2 * np.append(v[:-1], 0)
    assert np.abs(gradient).max() < 1e-10


def test_settled_is_a_tenth_of_a_degree():
    plane, near, far = (Hyperplane(np.array([1.0, t]), 0.0) for t in (0.0, 1.7e-3, 1.8e-3))
    assert settled(plane, near)
    assert not settled(plane, far)
    assert not settled(plane, replace(near, converged=False))
