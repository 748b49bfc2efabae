"""Tilt of boundary normals: a linear network, angles by hand, random directions, centroids."""

import numpy as np
import pytest
import torch
from networks_for_tests import gaussian, linear_pair
from test_experiments_tilting import EXACT, SHAPE, D, centroids, clouds, unit

import geomadv as ga
from geomadv import ImageSet, InputError, experiments


def test_normals_of_a_linear_network_tilt_like_its_weight():
    x, y = clouds()
    pixels = torch.from_numpy(x).reshape(-1, *SHAPE)
    w = gaussian(D, seed=5)
    points = ga.boundary_points(linear_pair(w, 0.3, SHAPE), pixels)
    means = centroids(x, y)
    ds = experiments.normal_tilt(points, means, (0, 1))
    expected = np.arccos(unit(w.numpy()) @ unit(means[1] - means[0]))
    np.testing.assert_array_equal(ds["distance"], points.distance)
    # From class 0 to 1 and back both normal and centroid direction turn round.
    assert set(points.source.tolist()) == {0, 1}
    np.testing.assert_allclose(ds["angle"], expected, atol=EXACT)


def test_angles_of_normals_by_hand():
    means = np.array([[0.0, 0, 0], [2, 0, 0], [0, 0, 5]])
    normals = np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, -1], [np.nan] * 3])
    source, target = np.array([0, 0, 1, 0, 0]), np.array([1, 1, 0, 2, 1])
    degrees = np.degrees(experiments.normal_tilt((normals, source, target), means)["angle"])
    np.testing.assert_allclose(degrees, [0, 90, 135, 180, np.nan], atol=1e-8)
    pair = experiments.normal_tilt((normals, source, target), means, (1, 0))
    assert pair["angle"].isnull().values.tolist() == [False, False, False, True, True]
    assert pair["random_angle"].isnull().values.tolist() == [False] * 3 + [True] + [False]


def test_the_class_that_meets_counts_not_the_one_predicted():
    # Scores 0.5 - x, x - 0.5 and 0.2 at pixel x: between classes 1 and 0 lies class 2, so that
    # the region of 0 ends where it meets 2.
    weight = torch.tensor([[-1.0, 0], [1, 0], [0, 0]])
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 3))
    with torch.no_grad():
        module[1].weight.copy_(weight)
        module[1].bias.copy_(torch.tensor([0.5, -0.5, 0.2]))
    net = ga.Classifier(module, input_shape=(1, 1, 2))
    x = torch.tensor([[0.9, 0.1], [0.8, 0.7], [1.0, 0.2]]).reshape(3, 1, 1, 2)
    points = ga.boundary_points(net, x, target=0)
    assert (points.source.tolist(), points.near.tolist()) == ([1] * 3, [2] * 3)
    means = np.array([[0.0, 0], [1, 0], [0, 1]])
    ds = experiments.normal_tilt(points, means, (0, 2))
    # The way into 0 is along -x, from the centroid of 2 to that of 0 it is along -y.
    np.testing.assert_allclose(np.degrees(ds["angle"]), 90, atol=1e-5)
    assert ds["source"].values.tolist() == [1] * 3
    # On no way from one to the other do 0 and 1 meet: that is told, not refused.
    assert experiments.normal_tilt(points, means, (0, 1))["angle"].isnull().all()


def test_random_directions_are_nearly_orthogonal():
    n, dimension = 2000, 400
    means = gaussian(2, dimension, seed=1).numpy()
    zeros, ones = np.zeros(n, int), np.ones(n, int)
    ds = experiments.normal_tilt((np.ones((n, dimension)), zeros, ones), means)
    # cos of the angle has mean 0 and standard deviation 1 / sqrt(D); the angle's is the same to
    # relative 1 / D. Five standard errors of the mean, and of the standard deviation.
    angle, std = ds["random_angle"].to_numpy(), 1 / np.sqrt(dimension)
    assert abs(angle.mean() - np.pi / 2) < 5 * std / np.sqrt(n)
    assert abs(angle.std() / std - 1) < 5 / np.sqrt(2 * n) + 2 / dimension


def test_centroids_are_class_means():
    x = np.linspace(0, 1, 6 * 4, dtype=np.float32).reshape(6, 1, 2, 2)
    images = ImageSet(x, [0, 2, 2, 0, 2, 0])
    means = experiments.class_centroids(images)
    np.testing.assert_allclose(means[0], x[[0, 3, 5]].mean(0).ravel(), rtol=1e-6)
    assert np.isnan(means[1]).all()
    with pytest.raises(InputError, match="class 1"):
        experiments.normal_tilt((np.eye(4)[:1], [0], [1]), images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 3}, "BoundaryPoints"),
        ({"points": (np.eye(4), [0] * 4, [1] * 4)}, "same D"),
        ({"points": (np.eye(3), [0] * 3, [1] * 2)}, "one class number each"),
        ({"points": (np.eye(3), [0] * 3, [7] * 3)}, "class 7"),
        ({"classes": (0, 2)}, "none of the 3 boundary points"),
        ({"classes": (0, 0)}, "none of the 3 boundary points"),
    ],
)
def test_bad_normals(change, message):
    arguments = {"points": (np.eye(3), [0] * 3, [1] * 3), "train": np.eye(3), **change}
    with pytest.raises(InputError, match=message):
        experiments.normal_tilt(**arguments)
