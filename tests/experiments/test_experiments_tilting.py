"""The tilting plane where the answer is known, and Tanay's statement on real digits."""

import warnings

import numpy as np
import pytest
import torch
from networks_for_tests import gaussian, linear_pair
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC, LinearSVC
from torch import nn

import geomadv as ga
from geomadv import ImageSet, InputError
from geomadv.experiments import pair_images, tilting_plane

D = 12
SHAPE = (1, 3, 4)
# All of it is float64 sums of D terms of size one: rounding is some 1e-15.
EXACT = 1e-10


def clouds(n=40, seed=0, dimension=D, gap=3.0):
    """Two Gaussian clouds, labels 2 and 3, centroids a few units apart."""
    labels = np.tile([2, 3], n)
    x = gaussian(2 * n, dimension, seed=seed).numpy()
    x[:, 0] += gap * (labels == 3)
    return x, labels


def layer(w, b, dtype=torch.float64):
    """A torch linear layer with one output w.x + b."""
    made = nn.Linear(len(w), 1, dtype=dtype)
    with torch.no_grad():
        made.weight.copy_(torch.as_tensor(w)[None])
        made.bias.fill_(float(b))
    return made


def flat(ds, name):
    values = ds[name].to_numpy()
    return values.reshape(*values.shape[:-3], -1)


def unit(v):
    return v / np.linalg.norm(v)


def centroids(x, labels):
    return np.stack([x[labels == c].mean(0) for c in (2, 3)])


@pytest.fixture(scope="module")
def case():
    """A random hyperplane against the clouds; train, test, w, b and the result."""
    train, test = clouds(), clouds(seed=1)
    w, b = gaussian(D, seed=5).numpy(), 0.3
    return train, test, w, b, tilting_plane(train, test, layer(w, b), 1.0, examples=5)


def test_distances_and_perturbations_are_those_of_a_hyperplane(case):
    _, (x, y), w, b, ds = case
    f = x @ w + b
    np.testing.assert_allclose(ds["test_distance"][0], f / np.linalg.norm(w), atol=EXACT)
    index = ds["example_index"].to_numpy()
    np.testing.assert_allclose(flat(ds, "example_image"), x[index], atol=0)
    moved = flat(ds, "adversarial_image")[0]
    expected = x[index] - (f[index] / (w @ w))[:, None] * w
    np.testing.assert_allclose(moved, expected, atol=EXACT)
    np.testing.assert_allclose(moved @ w + b, 0, atol=EXACT)
    right = (f > 0) == (y == 3)
    distance = np.abs(f) / np.linalg.norm(w)
    assert float(ds["mean_distance"][0]) == pytest.approx(distance.mean(), abs=EXACT)
    assert float(ds["mean_adversarial_norm"][0]) == pytest.approx(distance[right].mean(), abs=EXACT)
    assert float(ds["test_error"][0]) == 1 - right.mean()
    assert ds["example_label"].values.tolist() == [2, 3, 2, 3, 2]


def test_perturbations_agree_with_deepfool(case):
    _, _, w, b, ds = case
    images = torch.from_numpy(ds["example_image"].to_numpy()).reshape(-1, *SHAPE)
    net = linear_pair(torch.from_numpy(w), b, SHAPE)
    delta = ga.deepfool(net, images, overshoot=0.02).delta.flatten(1) / 1.02
    moved = flat(ds, "adversarial_image")[0] - flat(ds, "example_image")
    np.testing.assert_allclose(moved, delta, atol=EXACT)


def test_the_plane_contains_both_weights(case):
    (x, y), _, w, _, ds = case
    i, j = centroids(x, y)
    z, n = flat(ds, "z"), flat(ds, "n")[0]
    np.testing.assert_allclose(z, unit(j - i), atol=EXACT)
    np.testing.assert_allclose([z @ n, n @ n], [0, 1], atol=EXACT)
    np.testing.assert_allclose((w @ z) * z + (w @ n) * n, w, atol=EXACT)
    assert w @ n > 0
    assert float(ds["angle"][0]) == pytest.approx(np.arccos(unit(w) @ z), abs=EXACT)


def test_the_trace_is_the_boundary_in_the_plane(case):
    (x, y), _, w, b, ds = case
    middle = centroids(x, y).mean(0)
    axes = np.stack([flat(ds, "z"), flat(ds, "n")[0]])
    point, along = ds["trace_point"].to_numpy()[0], ds["trace_direction"].to_numpy()[0]
    for t in (-3.0, 0.0, 2.0):
        assert (middle + (point + t * along) @ axes) @ w + b == pytest.approx(0, abs=EXACT)
    # The distance to the line in the plane is the distance to the boundary in image space.
    for name in ("train", "test"):
        flat_points = np.stack([ds[f"{name}_z"], ds[f"{name}_n"][0]], 1) - point
        to_line = np.abs(flat_points[:, 0] * along[1] - flat_points[:, 1] * along[0])
        np.testing.assert_allclose(to_line, np.abs(ds[f"{name}_distance"][0]), atol=EXACT)


@pytest.mark.parametrize("degrees", [1e-5, 30.0, 90.0, 150.0])
def test_angles_are_exact(degrees):
    x, y = clouds()
    i, j = centroids(x, y)
    z = unit(j - i)
    across = gaussian(D, seed=8).numpy()
    across = unit(across - (across @ z) * z)
    angle = np.radians(degrees)
    w = 7 * (np.cos(angle) * z + np.sin(angle) * across)
    ds = tilting_plane((x, y), (x, y), layer(w, 0.1))
    # Rounding turns a unit vector by some 1e-16, a relative 1e-9 of the smallest angle here, far
    # below what an arccosine could tell.
    assert float(ds["angle"][0]) == pytest.approx(angle, rel=1e-6)
    assert bool(ds["tilted"][0])


@pytest.mark.parametrize(("sign", "angle"), [(1, 0.0), (-1, np.pi)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tilt_divides_by_nothing(sign, angle, dtype):
    x, y = clouds()
    i, j = centroids(x, y)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        ds = tilting_plane((x, y), (x, y), layer(sign * (j - i), 0.2, dtype))
    assert not bool(ds["tilted"][0])
    # The weights' own rounding is a relative 6e-8 per entry in float32.
    assert float(ds["angle"][0]) == pytest.approx(angle, abs=1e-6)
    n, z = flat(ds, "n")[0], flat(ds, "z")
    np.testing.assert_allclose([n @ n, n @ z], [1, 0], atol=EXACT)
    # n shows the farthest image: no coordinate along another direction is larger.
    rest = (x - (i + j) / 2) - np.outer((x - (i + j) / 2) @ z, z)
    assert np.abs(ds["train_n"]).max() == pytest.approx(np.linalg.norm(rest, axis=1).max())
    assert not any(ds[name].isnull().any() for name in ds)


def test_images_on_a_line_have_a_plane_too():
    x = np.outer([-1.0, -2.0, 1.0, 2.0], [1.0, 0.0, 0.0])
    ds = tilting_plane((x, [0, 0, 1, 1]), (x, [0, 0, 1, 1]), layer([1.0, 0.0, 0.0], 0.0))
    n = flat(ds, "n")[0]
    np.testing.assert_allclose([n @ n, n[0]], [1, 0], atol=EXACT)
    np.testing.assert_allclose(ds["train_n"], 0, atol=EXACT)


def test_the_nearest_centroid_classifier_is_its_own_reference():
    ds = tilting_plane(clouds(), clouds(seed=1), NearestCentroid(), [1.0, 10.0])
    np.testing.assert_allclose(ds["angle"], 0, atol=EXACT)
    assert not ds["tilted"].any()
    for name in ("train_error", "test_error", "mean_distance", "mean_adversarial_norm"):
        np.testing.assert_allclose(ds[name], float(ds[f"centroid_{name}"]), atol=EXACT)


@pytest.mark.parametrize(
    "classifier",
    [
        LinearSVC(C=0.1, dual=False),
        LogisticRegression(),
        LinearDiscriminantAnalysis(),
        RidgeClassifier(),
        SVC(kernel="linear"),
    ],
)
@pytest.mark.parametrize("classes", [(2, 3), (3, 2)])
def test_scikit_learn_classifiers_agree_with_themselves(classifier, classes):
    (x, y), (u, v) = clouds(), clouds(seed=1)
    ds = tilting_plane((x, y), (u, v), classifier, 0.7, classes=classes)
    own = type(classifier)(**classifier.get_params())
    libsvm = isinstance(own, SVC)
    tight = {"C": 0.7, "tol": 1e-6 if libsvm else 1e-11, "max_iter": -1 if libsvm else 100_000}
    own.set_params(**{name: v for name, v in tight.items() if name in own.get_params()})
    own.fit(x, y == classes[1])
    w, f = np.ravel(own.coef_), own.decision_function(u)
    # Theirs stops at tol; libsvm's is a violation of the optimality conditions, from which the
    # weights are off by its root at most.
    close = 1e-3 if libsvm else 1e-6
    np.testing.assert_allclose(ds["test_distance"][0], f / np.linalg.norm(w), atol=close)
    assert float(ds["test_error"][0]) == pytest.approx(1 - own.score(u, v == classes[1]))
    assert ds.attrs["pair"].tolist() == list(classes)


def test_layers_with_two_and_many_outputs_take_the_difference():
    x, y = clouds()
    rows, biases = gaussian(5, D, seed=3), gaussian(5, seed=4)
    many, two = nn.Linear(D, 5, dtype=torch.float64), nn.Linear(D, 2, dtype=torch.float64)
    with torch.no_grad():
        many.weight.copy_(rows)
        many.bias.copy_(biases)
        two.weight.copy_(rows[2:4])
        two.bias.copy_(biases[2:4])
    expected = tilting_plane((x, y), (x, y), layer(rows[3] - rows[2], biases[3] - biases[2]))
    for made in (many, two):
        got = tilting_plane((x, y), (x, y), made)
        np.testing.assert_allclose(got["test_distance"], expected["test_distance"], atol=EXACT)


def test_image_sets_pairs_and_class_names_agree():
    x, y = clouds()
    pixels = (x - x.min()) / (x.max() - x.min())
    images = ImageSet(
        pixels.reshape(-1, *SHAPE).astype(np.float32), y, ["a", "b", "cat", "dog"], "animals"
    )
    arrays = (images.images.numpy().reshape(-1, D), y)
    a = tilting_plane(images, images, LogisticRegression(), [0.1, 1.0], classes=("cat", "dog"))
    b = tilting_plane(arrays, arrays, LogisticRegression(), [0.1, 1.0])
    assert a.attrs["class_names"] == ["cat", "dog"]
    assert a["z"].shape == SHAPE
    np.testing.assert_allclose(a["test_distance"], b["test_distance"], atol=EXACT)
    mixed = (np.vstack([x, x + 1]), np.concatenate([y, y + 5]))
    named = tilting_plane(mixed, mixed, LogisticRegression(), classes=(2, 3))
    assert named.sizes["train"] == len(x)
    pair = pair_images(images, ("dog", 2))
    assert np.array_equal(pair.images, images[np.isin(y, (2, 3))].images)
    with pytest.raises(InputError, match="no image of class 1"):
        pair_images(images, (1, 2))


def test_the_space_of_the_extremes_holds_z_and_both_weights():
    sweep = [10.0, 1e-3, 1.0]
    ds = tilting_plane(clouds(), clouds(seed=1), LogisticRegression(), sweep)
    basis, normals = flat(ds, "space_basis"), flat(ds, "weight")
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=EXACT)
    np.testing.assert_allclose(basis[0], flat(ds, "z"), atol=EXACT)
    assert ds["space_index"].values.tolist() == [1, 0]
    for row, k in zip(ds["space_normal"].to_numpy(), (1, 0), strict=True):
        np.testing.assert_allclose(row @ basis, unit(normals[k]), atol=EXACT)
    distance = ds["space_train"].to_numpy() @ ds["space_normal"].to_numpy().T
    distance += ds["space_distance"].to_numpy()
    np.testing.assert_allclose(distance.T, ds["train_distance"][[1, 0]], atol=EXACT)


class Fixed(ClassifierMixin, BaseEstimator):
    """Gives these weights whatever the images; raises a LinAlgError where C is 2."""

    def __init__(self, weight=None, C=1.0):
        self.weight = weight
        self.C = C

    def fit(self, x, y):
        if self.C == 2:
            raise np.linalg.LinAlgError("did not converge")
        self.coef_ = np.array(self.weight, dtype=float)[None] * (self.C != 3)
        self.intercept_ = np.array([0.5])
        return self

    def predict(self, x):
        return (x @ self.coef_[0] + self.intercept_ > 0).astype(int)


class Contrary(Fixed):
    """Has weights and predicts the opposite of what they say."""

    def predict(self, x):
        return 1 - super().predict(x)


def test_unusable_weights_are_flagged_and_the_sweep_goes_on():
    x, y = clouds()
    ds = tilting_plane((x, y), (x, y), Fixed(gaussian(D, seed=2).numpy()), [1.0, 2.0, 3.0, 4.0])
    assert ds["converged"].values.tolist() == [True, False, False, True]
    assert ds["angle"].isnull().values.tolist() == [False, True, True, False]
    assert ds["mean_distance"].isnull().values.tolist() == [False, True, True, False]
    assert bool(ds["train_error"].isnull()[1])
    # Weight zero and intercept 0.5: everything is class J.
    assert float(ds["train_error"][2]) == 0.5
    assert ds["space_index"].values.tolist() == [0, 3]


def test_a_solver_that_stops_early_is_flagged():
    solver = LogisticRegression(max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the flag stands for the warning
        ds = tilting_plane(clouds(gap=0.5), clouds(seed=1), solver, [1e-8, 100.0])
    assert ds["converged"].values.tolist() == [True, False]
    assert ds["angle"].notnull().all()


def test_variables_are_labelled_and_per_image(case):
    ds = case[-1]
    for name in ds.variables:
        assert ds[name].attrs["long_name"]
        assert ds[name].attrs["units"]
    assert ds["train_distance"].dims == ("C", "train")
    assert all(ds[name].dtype == np.float64 for name in ("weight", "test_n", "adversarial_image"))


# Tanay's statement


def test_regularisation_turns_the_boundary_of_real_digits(real_data):
    """Angle and vulnerability fall as regularisation grows; test error hardly depends on it."""
    train, test = (
        ga.load_images("mnist", split=split, limit=limit)
        for split, limit in (("train", 3000), ("test", 1500))
    )
    svm = LinearSVC(dual=False, intercept_scaling=100, class_weight="balanced", max_iter=10_000)
    sweep = np.logspace(-5, 1, 7)
    ds = tilting_plane(train, test, svm, sweep, classes=(2, 3))
    assert ds["converged"].all()
    angle, norm = np.degrees(ds["angle"].to_numpy()), ds["mean_adversarial_norm"].to_numpy()
    assert (np.diff(angle) > 0).all()
    assert (np.diff(norm) < 0).all()
    assert angle[0] < 10
    assert angle[-1] > 60
    # Few images (594) leave more vulnerability to win by tilting than all 12,089 of them.
    assert norm[0] > 0.9 * float(ds["centroid_mean_adversarial_norm"])
    assert norm[-1] < 0.5 * float(ds["centroid_mean_adversarial_norm"])
    flat_part = ds["test_error"].sel(C=slice(5e-4, 2.0)).to_numpy()
    assert len(flat_part) == 4
    assert flat_part.max() - flat_part.min() < 0.04
    turned = ds["angle"].sel(C=slice(5e-4, 2.0)).to_numpy()
    assert np.degrees(turned[-1] - turned[0]) > 30


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": (np.eye(3), [0, 1, 2])}, r"3 class\(es\): 0, 1, 2.*classes=\(2, 3\)"),
        ({"train": (np.eye(3), [2, 2, 2])}, r"1 class\(es\): 2.*both classes"),
        ({"classes": (2, 7)}, "train has no image of class 7"),
        ({"classes": (2, 2)}, "different"),
        ({"classes": ("cat", "dog")}, "two classes, by number"),
        ({"classes": (2, 3, 4)}, "two classes, by number"),
        ({"classes": 2}, "two classes, by number"),
        ({"test": (np.ones((4, D)), [2, 2, 2, 2])}, "test has no image of class 3"),
        ({"test": (np.ones((2, 5)), [2, 3])}, "must be equal"),
        ({"train": (np.full((4, D), np.nan), [2, 3, 2, 3])}, "NaN"),
        ({"train": (np.ones((4, D)), [2, 3, 2])}, "one whole class number per image"),
        ({"train": (np.ones((4, D)), [2.0, 3.0, 2.0, 3.5])}, "whole class number"),
        ({"train": (np.ones((4, D, 1)), [2, 3, 2, 3])}, r"\(N, D\)"),
        ({"train": "mnist"}, "ImageSet"),
        ({"train": (np.ones((4, D)), [2, 3, 2, 3])}, "centroids .* are equal"),
        ({"train": (np.eye(2)[:, :1], [2, 3]), "test": (np.eye(2)[:, :1], [2, 3])}, "one pixel"),
        ({"C": 0.0}, "positive"),
        ({"C": [1.0, -1.0]}, "positive"),
        ({"C": []}, "positive"),
        ({"C": "strong"}, "C is of type str .*expected float"),
        ({"C": float("nan")}, "positive"),
        ({"examples": 0}, "examples=0"),
        ({"classifier": LinearSVC}, r"LinearSVC\(\)"),
        ({"classifier": "svm"}, "linear classifier"),
        ({"classifier": LinearRegression()}, "RidgeClassifier"),
        ({"classifier": RandomForestClassifier(n_estimators=2)}, "neither coef_ nor centroids_"),
        ({"classifier": NearestCentroid(metric="manhattan")}, "halfway between"),
        ({"classifier": NearestCentroid(priors=[0.9, 0.1])}, "halfway between"),
        ({"classifier": Contrary(gaussian(D, seed=2).numpy())}, "does not decide by the sign"),
        ({"classifier": SVC()}, "neither coef_ nor centroids_"),
        ({"classifier": LinearSVC(penalty="l1", loss="hinge")}, "cannot be fitted"),
        ({"classifier": nn.Linear(5, 1)}, "takes 5 numbers"),
        ({"classifier": nn.Linear(D, 3)}, "3 outputs"),
        ({"classifier": nn.Sequential(nn.Linear(D, 1))}, "torch Sequential"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "train": clouds(),
        "test": clouds(seed=1),
        "classifier": NearestCentroid(),
        "C": 1.0,
        **change,
    }
    with pytest.raises(InputError, match=message) as caught:
        tilting_plane(**arguments)
    assert "\n" not in str(caught.value)


def test_bad_image_sets():
    pixels = np.random.default_rng(0).random((4, *SHAPE), dtype=np.float32)
    images = ImageSet(pixels, [0, 1, 2, 2], ["zero", "one", "two"])
    with pytest.raises(InputError, match="classes="):
        tilting_plane(images, images, NearestCentroid())
    with pytest.raises(InputError, match="no image of class 3"):
        tilting_plane(images, images, NearestCentroid(), classes=(2, 3))
    with pytest.raises(InputError, match="'three'"):
        tilting_plane(images, images, NearestCentroid(), classes=("two", "three"))
    for classes, message in (
        (("two", 2), "different"),
        (("two",), "two classes"),
        (2, "by number"),
    ):
        with pytest.raises(InputError, match=message):
            tilting_plane(images, images, NearestCentroid(), classes=classes)
    with pytest.raises(InputError, match="no labels"):
        tilting_plane(ImageSet(pixels), images, NearestCentroid())
