"""How far means over boundary points can be trusted: what is known in closed form."""

import numpy as np
import pytest
import torch

from geomadv import experiments
from geomadv.experiments.principal.uncertainty import bootstrap_interval, random_halves


def test_bootstrap_intervals_cover_as_often_as_they_say():
    """Means of 200 normal numbers: the interval is mean -+ 1.96 / sqrt(200)."""
    values = np.random.default_rng(0).standard_normal((200, 300))
    settings = experiments.CurvatureSettings(draws=1000)
    interval = bootstrap_interval(values, np.array([0.025, 0.975]), settings)
    assert interval.shape == (300, 2)
    covered = ((interval[:, 0] < 0) & (interval[:, 1] > 0)).mean()
    # 300 columns share the resampling, not the data: 3 standard deviations are 0.04.
    assert abs(covered - 0.95) < 0.04
    width = (interval[:, 1] - interval[:, 0]).mean()
    assert width == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.05)


@pytest.mark.parametrize("n", [4, 7])
def test_halves_are_a_partition(n):
    one, two = random_halves(n, 3)
    assert sorted(torch.cat([one, two]).tolist()) == list(range(n))
    assert abs(len(one) - len(two)) <= 1
    again, _ = random_halves(n, 3)
    assert torch.equal(one, again)


def test_random_subspaces_of_the_plane():
    """Two random lines in R^2: the angle is uniform on [0, pi / 2]."""
    angles = experiments.random_subspace_angles(2, (1,), 2000, 0)[:, 0, 0]
    assert angles.min() >= 0
    # Standard deviation of the mean: (pi / 2) / sqrt(12 * 2000) = 0.0101.
    assert abs(angles.mean() - np.pi / 4) < 4 * 0.0101


def test_points_that_agree_leave_no_doubt():
    settings = experiments.CurvatureSettings(draws=20)
    interval = bootstrap_interval(np.tile([[3.0, -1]], (5, 1)), np.array([0.0, 0.5, 1]), settings)
    np.testing.assert_allclose(interval, [[3] * 3, [-1] * 3], rtol=1e-15)


def test_subspaces_of_all_directions_are_the_same_one():
    angles = experiments.random_subspace_angles(3, (1, 3), 4, 0)
    assert np.isnan(angles[:, 0, 1:]).all()
    np.testing.assert_allclose(angles[:, 1], 0, atol=1e-7)
