"""Radii and quartiles of normal sections, in closed form."""

import numpy as np
import pytest

from geomadv.experiments.planes.normal_section import _QUARTILES, OFF, _quantiles, _radius


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
