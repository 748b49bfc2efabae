"""The four categories where every share is known."""

import math

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from networks_for_tests import SHAPE, gaussian
from scipy import stats

from geomadv import InputError, experiments

D = 6


def test_on_a_half_space_the_universal_vector_is_everybodys_own():
    w = gaussian(D, seed=1)
    x = gaussian(200, D, seed=2)
    x = x[x @ w / w.norm() < 0.9][:50]
    net, distance = nets.linear_pair(w / w.norm(), -1.0), 1 - (x @ w / w.norm()).numpy()
    radii = [float(np.quantile(distance, q)) for q in (0.1, 0.5, 0.9)] + [1000.0]
    # Far away a random direction crosses the plane half of the times.
    draws = 400
    ds = experiments.categories(
        net, x.reshape(-1, *SHAPE), radii, (0.05, 0.45, 0.8), draws, search={"passes": 2}
    )
    expected = [(distance <= r).mean() for r in radii]
    np.testing.assert_allclose(ds["boundary_distance"], distance, atol=1e-9)
    np.testing.assert_array_equal(ds["adversarial_share"], expected)
    np.testing.assert_array_equal(ds["universal_share"], expected)
    # The coordinate t along w of a uniform unit vector: (t + 1) / 2 ~ Beta((D-1)/2, (D-1)/2).
    law = stats.beta((D - 1) / 2, (D - 1) / 2)
    crossing = [np.mean(1 - law.cdf((distance / r + 1) / 2)) for r in radii]
    np.testing.assert_allclose(ds["random_share"], crossing, atol=5 * 0.5 / math.sqrt(draws))
    # Level 0.8: A and U pass it with the third radius, R (at most one half) never.
    assert ds["category"].sel(level=0.8).values.tolist() == [1, 1, 3, 3]
    assert ds["category"].sel(level=0.05).values[-1] == 4
    for name in ds.variables:
        assert ds[name].attrs["long_name"]
        assert ds[name].attrs["units"]


def test_between_two_classes_one_vector_serves_half():
    """x_1 = -1 or +1 with the boundary between: each image has its way out, no vector has both."""
    x = torch.zeros(40, D, dtype=torch.float64)
    x[:, 0] = torch.tensor([-1.0, 1.0]).repeat(20)
    x[:, 1] = torch.arange(40) / 40
    w = torch.eye(D, dtype=torch.float64)[0]
    ds = experiments.categories(
        nets.linear_pair(w, 0.0), x.reshape(-1, *SHAPE), [0.5, 1.5], (0.4, 0.75), 10
    )
    assert ds["adversarial_share"].values.tolist() == [0, 1]
    assert ds["universal_share"].values.tolist() == [0, 0.5]
    assert ds["category"].sel(level=0.4).values.tolist()[0] == 1
    assert ds["category"].sel(level=0.75).values.tolist() == [1, 2]


def test_curves_are_ordered_and_the_same_seed_repeats():
    net, x = nets.perceptron(), gaussian(60, *SHAPE, seed=3)
    a, b, c = (
        experiments.categories(net, x, [0.2, 0.5, 1.0], draws=5, seed=s, search={"passes": 2})
        for s in (1, 1, 2)
    )
    assert a.identical(b)
    assert not a.equals(c)
    assert bool((a["adversarial_share"] >= a["universal_share"]).all())
    assert bool((a["universal_share"] >= a["random_share"]).all())
    for name in ("adversarial_share", "universal_share"):
        assert bool((a[name].diff("radius") >= 0).all())
    np.testing.assert_allclose(a["random_fooling_rate"].mean("draw"), a["random_share"])
    assert bool((a["search_rate"] <= a["universal_share"]).all())


def test_an_image_without_boundary_is_infinitely_far():
    ds = experiments.categories(
        nets.dead(), gaussian(4, *SHAPE), [1.0], draws=2, search={"passes": 1}
    )
    assert np.isinf(ds["boundary_distance"]).all()
    assert ds["category"].values.tolist() == [[1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": []}, "radii"),
        ({"radii": [0.0, 1.0]}, "radii"),
        ({"radii": [1.0, 0.5]}, "ascending"),
        ({"radii": [math.inf]}, "radii"),
        ({"levels": [0.0]}, "levels"),
        ({"levels": [1.1]}, "levels"),
        ({"levels": []}, "levels"),
        ({"draws": 0}, "draws"),
        ({"search": {"p": math.inf}}, "search: 'p'"),
        ({"search": {"passes": 0}}, "passes=0"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        experiments.categories(nets.perceptron(), gaussian(3, *SHAPE), **{"radii": [1.0], **change})
