"""Sides, radii and quartiles of normal sections, in closed form."""

import networks_for_tests as nets
import numpy as np
import pytest
import torch

from geomadv import boundary_points
from geomadv.experiments.planes.normal_section import _QUARTILES, OFF, _quantiles, _radius
from geomadv.experiments.planes.offsets import section_offsets


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize("beyond", [0, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8])
def test_a_quartile_is_the_least_value_that_so_many_do_not_exceed(n, beyond, lost):
    known = np.append(np.arange(float(n)), [np.inf] * beyond)
    values = np.random.default_rng(n).permutation(np.append(known, [np.nan] * lost))
    expected = [min(v for v in known if (known <= v).mean() >= q) for q in _QUARTILES]
    np.testing.assert_array_equal(_quantiles(values), expected)
    assert np.isnan(_quantiles(np.full(1 + lost, np.nan))).all()


@pytest.mark.parametrize("slope", [0.0, 1e-2])
def test_a_model_holds_up_to_its_share_and_what_rounding_leaves(slope):
    scales, resolution = np.linspace(-1, 1, 9), np.array([0.0, 1e-4, 5e-4, 2e-3])
    offset = np.broadcast_to(slope * np.abs(scales), (4, 9))
    # What the model is off grows by 1e-3 |s| more than what is allowed of the offset.
    model = (1 + OFF) * offset + 1e-3 * np.abs(scales)
    found = _radius(scales, offset, model, resolution)
    np.testing.assert_allclose(found, [0, 0.1, 0.5, np.inf], atol=1e-12)


@pytest.mark.parametrize("bend", [10.0, -10.0])
@pytest.mark.parametrize("start", [-1.0, 1.0])
def test_sides_are_those_of_the_boundary_with_a_root_or_without(bend, start):
    """The boundary t = bend s^2; the normal points away from the image."""
    net = nets.quadric(
        torch.diag(torch.tensor([-2 * bend, 0.0])).double(),
        *(torch.tensor([0.0, 1.0]).double(), 0.0, (1, 1, 2)),
    )
    points = boundary_points(net, torch.tensor([[[[0.0, start]]]]).double())
    scales = np.array([-1.0, -0.1, 0.0, 0.2, 1.0])
    found = section_offsets(net, points, torch.tensor([[1.0, 0.0]]).double(), scales)
    side = -np.sign(bend * start)
    np.testing.assert_array_equal(found.side[0, 0], [side, side, 0, side, side])
    offsets = [np.nan, 0.1, 0, 0.4, np.nan]
    np.testing.assert_allclose(found.offset[0, 0], side * np.array(offsets), atol=1e-9)
