"""Confined DeepFool against closed forms: flat boundaries, angles, the sqrt(D/d) law."""

import math

import numpy as np
import pytest
import torch
from networks_for_tests import dead, gaussian, linear, linear_pair, orthogonal_frame, perceptron

import geomadv as ga
from geomadv.errors import InputError
from geomadv.linalg import NestedSubspaces

SHAPE = (1, 4, 5)
D = 20
OVERSHOOT = 0.02


FEW = ga.DeepFoolSettings(max_iter=2)


def frame(seed=0, columns=D, width=1):
    return NestedSubspaces(orthogonal_frame(D, columns, seed=seed), width, "a frame")


def images(n=12, seed=3):
    return gaussian(n, *SHAPE, seed=seed)


def pair(seed=1, b=0.3):
    w = gaussian(D, seed=seed)
    return linear_pair(w, b, SHAPE), w, b


def test_flat_boundary_is_farther_by_the_cosine():
    net, w, b = pair()
    x = images()
    nested = frame()
    ds = ga.experiments.confined_deepfool(net, x, {"frame": nested}, range(1, D + 1))
    distance = ((x.flatten(1) @ w + b).abs() / w.norm()).numpy()
    # DeepFool goes 2 % beyond the boundary; one step is exact, to rounding of some products.
    np.testing.assert_allclose(ds["plain_norm"], (1 + OVERSHOOT) * distance, rtol=1e-10)
    one = ds.sel(family="frame")
    for d in range(1, D + 1):
        cosine = float((nested.basis[:, :d].T @ (w / w.norm())).norm())
        expected = (1 + OVERSHOOT) * distance / cosine
        np.testing.assert_allclose(one["norm"].sel(d=d), expected, rtol=1e-10)
    assert bool(one["converged"].all())
    assert (one["iterations"] == 1).all()
    assert (one["label"] == 1 - ds["source"]).all()
    np.testing.assert_allclose(
        ds["flat_law"].sel(d=5), math.sqrt(D / 5) * ds["plain_norm"], rtol=1e-14
    )


def test_nearest_of_several_boundaries_inside_the_subspace():
    """The nearest class boundary inside the subspace need not be the nearest one outside."""
    weight, bias = gaussian(4, D, seed=5), gaussian(4, seed=6)
    net = linear(weight, bias, SHAPE)
    x, nested = images(30), frame(seed=7)
    ds = ga.experiments.confined_deepfool(net, x, {"frame": nested}, [3, 11])
    scores = x.flatten(1) @ weight.T + bias
    source = scores.argmax(1)
    gaps = (scores - scores.gather(1, source[:, None])).abs()
    labels = {}
    for d in (3, 11):
        inside = (weight - weight[source][:, None]) @ nested.basis[:, :d]
        distances = gaps / inside.norm(dim=2)
        distances[torch.arange(30), source] = torch.inf
        one = ds.sel(family="frame", d=d)
        nearest = distances.min(1)
        np.testing.assert_allclose(one["norm"], (1 + OVERSHOOT) * nearest.values, rtol=1e-10)
        np.testing.assert_array_equal(one["label"], nearest.indices)
        labels[d] = nearest.indices
    # Otherwise the test would not see which subspace counts.
    assert (labels[3] != labels[11]).any()


def test_perturbations_and_projections_lie_in_the_subspace():
    net, x = perceptron(shape=SHAPE), images()
    mean = gaussian(*SHAPE, seed=9)
    nested = frame(seed=2)
    ds = ga.experiments.confined_deepfool(net, x, {"frame": nested}, [2, 7, D], mean, examples=12)
    one = ds.sel(family="frame")
    for d in (2, 7, D):
        outside = torch.eye(D, dtype=torch.float64)
        outside = outside - nested.basis[:, :d] @ nested.basis[:, :d].T
        perturbation = one["example_perturbation"].sel(d=d).to_numpy().reshape(12, D)
        assert np.abs(perturbation @ outside.numpy()).max() < 1e-10
        np.testing.assert_allclose(
            np.linalg.norm(perturbation, axis=1), one["norm"].sel(d=d), rtol=1e-10
        )
        projection = one["example_projection"].sel(d=d).to_numpy().reshape(12, D)
        inside = (x - mean).flatten(1) @ nested.basis[:, :d]
        np.testing.assert_allclose(
            projection, mean.flatten() + inside @ nested.basis[:, :d].T, atol=1e-10
        )
        np.testing.assert_allclose(one["projected_norm"].sel(d=d), inside.norm(dim=1), rtol=1e-10)
    np.testing.assert_allclose(one["projected_norm"].sel(d=D), ds["centred_norm"], rtol=1e-10)
    # In all of image space the attack is the plain one, up to rounding along its few steps.
    np.testing.assert_allclose(one["norm"].sel(d=D), ds["plain_norm"], rtol=1e-8)


def beta_moments(d):
    """Mean and standard deviation of 1 / cos of the angle to a random d-dimensional subspace.

    cos^2 of a fixed vector is Beta(d/2, (D-d)/2), so E cos^-k is a ratio of Gamma functions.
    """

    def moment(k):
        return math.exp(
            math.lgamma((d - k) / 2)
            - math.lgamma(d / 2)
            + math.lgamma(D / 2)
            - math.lgamma((D - k) / 2)
        )

    return moment(1), math.sqrt(moment(2) - moment(1) ** 2)


def test_random_subspaces_follow_the_flat_law():
    net, _, _ = pair()
    n, dims = 150, [6, 15]
    ds = ga.experiments.confined_deepfool(net, images(n), {}, dims, draws=n, seed=11)
    ratio = (ds["norm"] / ds["plain_norm"]).sel(family="random")
    for d in dims:
        mean, spread = beta_moments(d)
        # Every image has a subspace of its own: the mean of n independent ratios has the standard
        # error spread / sqrt(n); five of them are passed by chance once in a million.
        assert abs(float(ratio.sel(d=d).mean()) - mean) < 5 * spread / math.sqrt(n)
        # The law itself is about the mean square: E cos^2 = d/D with the variance of that Beta.
        cosines = 1 / ratio.sel(d=d) ** 2
        error = math.sqrt(2 * d * (D - d) / (D**2 * (D + 2)) / n)
        assert abs(float(cosines.mean()) - d / D) < 5 * error


def test_images_share_the_random_draws_in_turn():
    net, _, _ = pair()
    x = images(6)
    ds = ga.experiments.confined_deepfool(net, x, {}, [4], draws=2, seed=1)
    ratio = (ds["norm"] / ds["plain_norm"]).sel(family="random", d=4).to_numpy()
    np.testing.assert_allclose(ratio[::2], ratio[0], rtol=1e-10)
    np.testing.assert_allclose(ratio[1::2], ratio[1], rtol=1e-10)
    assert abs(ratio[0] - ratio[1]) > 1e-3
    again = ga.experiments.confined_deepfool(net, x, {}, [4], draws=2, seed=1)
    assert again["norm"].equals(ds["norm"])
    other = ga.experiments.confined_deepfool(net, x, {}, [4], draws=2, seed=2)
    assert not np.allclose(other["norm"], ds["norm"])


def test_groups_stay_whole_and_families_end():
    """With groups of 3: sizes 3, 6, 9; below 3 and beyond 9 the family has no subspace."""
    net, x = perceptron(shape=SHAPE), images()
    nested = frame(columns=9, width=3)
    ds = ga.experiments.confined_deepfool(net, x, {"wide": nested}, [2, 4, 5, 9, 10])
    one = ds.sel(family="wide")
    assert one["subspace_dimension"].values.tolist() == [0, 3, 3, 9, 0]
    for d in (2, 10):
        assert bool(one["norm"].sel(d=d).isnull().all())
        assert bool(one["projected_norm"].sel(d=d).isnull().all())
        assert not one["converged"].sel(d=d).any()
        assert bool(one["converged_share"].sel(d=d).isnull())
    direct = ga.deepfool(net, x, subspace=nested.subspace(1))
    for d in (4, 5):
        # Batches may be other ones: the same numbers up to rounding.
        np.testing.assert_allclose(one["norm"].sel(d=d), direct.norm, rtol=1e-8)
        np.testing.assert_array_equal(one["label"].sel(d=d), direct.label)
    np.testing.assert_array_equal(
        one["example_perturbation"].sel(d=4), one["example_perturbation"].sel(d=5)
    )
    assert "a frame" in ds["family"].attrs["family_wide"]


def test_an_image_that_cannot_be_fooled_is_kept_and_flagged():
    """The normal is orthogonal to the first directions: no step is possible inside them."""
    w = torch.zeros(D, dtype=torch.float64)
    w[-1] = 2.0
    net = linear_pair(w, 0.5, SHAPE)
    nested = NestedSubspaces(torch.eye(D, dtype=torch.float64))
    ds = ga.experiments.confined_deepfool(net, images(), {"axes": nested}, [3, D])
    blocked, free = (ds.sel(family="axes", d=d) for d in (3, D))
    assert not blocked["converged"].any()
    assert float(blocked["converged_share"]) == 0
    assert (blocked["norm"] == 0).all()
    assert bool(free["converged"].all())
    flat = ga.experiments.confined_deepfool(dead(3, SHAPE), images(), {}, [3])
    assert not flat["converged"].any()
    assert not flat["plain_converged"].any()


def test_default_dimensions_and_layout():
    net, x = perceptron(shape=SHAPE), images()
    ds = ga.experiments.confined_deepfool(net, x, {"frame": frame()})
    assert (int(ds["d"][0]), int(ds["d"][-1])) == (1, D)
    assert ds["family"].values.tolist() == ["frame", "random"]
    np.testing.assert_allclose(ds["mean_image"].to_numpy(), x.mean(0).numpy(), rtol=0, atol=1e-14)
    for name in ds.variables:
        assert ds[name].attrs["long_name"]
        assert ds[name].attrs["units"]


def test_float32_network_gives_float32_numbers():
    net = linear_pair(gaussian(D, seed=1), 0.3, SHAPE, dtype=torch.float32)
    ds = ga.experiments.confined_deepfool(net, images(), {"frame": frame()}, [5])
    assert ds["norm"].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dimensions": [0, 3]}, "from 1 to 20"),
        ({"dimensions": [D + 1]}, "from 1 to 20"),
        ({"dimensions": []}, "at least one d"),
        ({"families": {"other": NestedSubspaces(torch.eye(7))}}, "'other' lies in 7 dimensions"),
        ({"families": {"random": frame()}}, "another name"),
        ({"images": images()[:0]}, "empty"),
        ({"images": gaussian(3, 1, 5, 5)}, "takes"),
        ({"mean": torch.zeros(7)}, "one per pixel"),
        ({"mean": torch.full(SHAPE, torch.nan)}, "finite"),
        ({"draws": 0}, "draws=0"),
        ({"examples": 0}, "examples=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_input_is_refused(change, words):
    net, _, _ = pair()
    given = {"images": images(), "families": {"frame": frame()}} | change
    with pytest.raises(InputError, match=words):
        ga.experiments.confined_deepfool(net, given.pop("images"), given.pop("families"), **given)


def test_figures_show_what_is_there_and_refuse_the_rest():
    """A family that begins late, one that ends early, and images that cannot be fooled."""
    net, x = perceptron(shape=SHAPE), images()
    families = {"hi": frame(), "positive": frame(columns=9, width=3)}
    ds = ga.experiments.confined_deepfool(net, x, families, [1, 4, D], deepfool=FEW)
    assert not ds["converged"].sel(family="hi").all()
    figure = ga.plotting.confined_deepfool(ds)
    assert len(figure.axes) == 3
    (confined,) = (
        line for line in figure.axes[1].get_lines() if line.get_label() == "confined perturbation"
    )
    mean = ds["norm"].where(ds["converged"]).sel(family="positive", d=4).mean()
    np.testing.assert_allclose(confined.get_xdata(), [3])
    np.testing.assert_allclose(confined.get_ydata(), [float(mean)])
    # At 1 and D there is no step of the groups of three: that family has no panel.
    none = ga.experiments.confined_deepfool(net, x, families, [1, D], deepfool=FEW)
    titles = [axes.get_title() for axes in ga.plotting.confined_deepfool(none).axes[:2]]
    assert [title.split(",")[0] for title in titles] == ["$S_\\mathrm{hi}$", "random subspaces"]
    assert len(ga.plotting.confined_examples(ds).axes) == 2 * 2 * 4
    with pytest.raises(InputError, match="has families"):
        ga.plotting.confined_examples(ds, ["flat"])
    with pytest.raises(InputError, match="2 examples"):
        ga.plotting.confined_examples(ds, example=2)
