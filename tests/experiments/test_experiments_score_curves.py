"""Score curves and their measures where the answer is known."""

import numpy as np
import pytest
import torch
import xarray as xr
from networks_for_tests import gaussian, orthogonal_frame, perceptron, sphere
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import SplineTransformer
from test_experiments_sweeps import SCALES, D, images, linear_case

from geomadv import InputError, experiments
from geomadv.experiments.lines.curve_measures import (
    best_symmetry,
    fit_additive,
    median_interval,
    monotonicity,
    resample_counts,
)

STEP = SCALES[1] - SCALES[0]


def test_a_quadric_is_separable_symmetric_and_monotonic():
    """F_1 = (|x + s d|² - r²) / 2 = t² / 2 + H: an additive parabola about s = -x.d."""
    net, d, x = sphere(2.0), orthogonal_frame(D, 2, seed=5), images(40) / 2
    # The centre of every curve along the first direction lies on the grid, in its middle half.
    flat = x.flatten(1)
    shift = torch.round(flat @ d[:, 0] / STEP) * STEP - flat @ d[:, 0]
    x = (flat + shift[:, None] * d[:, 0]).reshape(x.shape)
    ds = experiments.score_curves(net, x, d, SCALES, 1, draws=50)
    along = (x.flatten(1) @ d).T.numpy()
    np.testing.assert_allclose(ds["coordinate"], along, atol=1e-12)
    one = ds.isel(direction=0)
    np.testing.assert_allclose(one["centre"], -along[0], atol=1e-10)
    np.testing.assert_allclose(one["symmetry"], 1, atol=1e-12)
    # The second direction's centres lie up to a quarter step from the grid of centres.
    window = np.arange(-8, 8.5) * STEP
    second, fourth = (window**2).mean(), (window**4).mean()
    lost = 4 * (STEP / 4) ** 2 * second / (fourth - second**2)
    assert float(ds["symmetry"].min()) > 1 - lost
    np.testing.assert_allclose(ds["monotonicity"], 1, atol=1e-12)
    for name in ("separability", "shape_share"):
        np.testing.assert_allclose(ds[name], 1, atol=1e-12)
        np.testing.assert_allclose(ds[f"{name}_interval"], 1, atol=1e-12)
    t = ds["common_coordinate"].to_numpy()
    g = ds["common_score"].to_numpy()
    np.testing.assert_allclose(g - g[:, :1], (t**2 - t[:, :1] ** 2) / 2, atol=1e-10)
    h = ds["offset"].to_numpy()
    rest = (x.flatten(1).norm(dim=1).numpy() ** 2 - along**2) / 2
    np.testing.assert_allclose(h - h[:, :1], rest - rest[:, :1], atol=1e-10)


def test_curves_of_a_linear_network_are_parallel_lines():
    net, weight, bias, x = linear_case()
    d = orthogonal_frame(D, 2, seed=6)
    ds = experiments.score_curves(net, x, d, SCALES, 3, draws=20)
    clean = x.flatten(1).numpy() @ weight[3] + bias[3]
    lines = clean[:, None] + (weight[3] @ d.numpy())[:, None, None] * SCALES
    np.testing.assert_allclose(ds["score"], lines, atol=1e-10)
    # A straight line has no even part about any centre.
    np.testing.assert_allclose(ds["symmetry"], 0, atol=1e-10)
    np.testing.assert_allclose(ds["monotonicity"], 1, atol=1e-12)
    np.testing.assert_allclose(ds["separability"], 1, atol=1e-12)


def test_examples_are_images_on_the_lines():
    net, _, _, x = linear_case()
    d = orthogonal_frame(D, 1, seed=6)
    ds = experiments.score_curves(net, x, d, SCALES, 3, draws=1)
    for example, own in (("other classes", False), ("target class", True)):
        one = ds.isel(direction=0).sel(example=example)
        n = int(one["example_sample"])
        assert (int(ds["source"][n]) == 3) == own
        steps = torch.from_numpy(one["example_scale"].to_numpy())
        moved = x[n].flatten() + steps[:, None] * d[:, 0]
        shown = one["example_image"].to_numpy()
        np.testing.assert_allclose(shown.reshape(len(steps), -1), moved, atol=1e-12)
        labels = net.scores(torch.from_numpy(shown)).argmax(1)
        assert one["example_prediction"].values.tolist() == labels.tolist()
    assert ds["example_scale"].values.tolist()[::3] == [-4, 0, 4]
    np.testing.assert_array_equal(ds["prediction"].sel(scale=0, method="nearest")[0], ds["source"])


def test_seeds_and_batches_do_not_matter():
    net, x = perceptron(classes=3), images(11)
    d = orthogonal_frame(D, 2, seed=8)
    a = experiments.score_curves(net, x, d, SCALES, 1, draws=30, seed=1)
    b = experiments.score_curves(net, x, d, SCALES, 1, draws=30, seed=1, batch_size=5)
    c = experiments.score_curves(net, x, d, SCALES, 1, draws=30, seed=2)
    # Other batches round the sums of 16 hidden units differently.
    xr.testing.assert_allclose(a, b, atol=1e-9)
    assert not np.array_equal(a["separability_interval"], c["separability_interval"])


# Measures


def test_symmetry_of_even_odd_and_mixed_functions():
    s = np.linspace(-2, 2, 41)
    curves = np.stack([np.cos(s), np.abs(s - 0.5), np.sin(s), s**3, 0 * s])
    symmetry, centre = best_symmetry(curves)
    np.testing.assert_allclose(symmetry[[0, 1, 4]], 1, atol=1e-12)
    np.testing.assert_allclose((s[0] + centre * 0.05)[:2], [0, 0.5], atol=1e-12)
    assert symmetry[2:4].max() < 0.5
    # e = cos, o = a sin: variances add on a window that is symmetric about 0.
    both = np.stack([np.cos(s) + 0.05 * np.sin(s)])
    even, odd = np.cos(s).var(), (0.05 * np.sin(s)).var()
    assert best_symmetry(both)[0][0] >= even / (even + odd) - 1e-12


def test_monotonicity_of_known_functions():
    s = np.linspace(-1, 1, 41)
    middle = np.full(4, 40)
    curves = np.stack([np.abs(s), np.exp(s), np.cos(4 * np.pi * s), np.where(s > 0, s, s**2)])
    sides = monotonicity(curves, middle)
    np.testing.assert_allclose(sides[[0, 1, 3]], 1, atol=1e-12)
    # Two whole periods on either side end where they began.
    np.testing.assert_allclose(sides[2], 0, atol=1e-12)
    # 0 -> 1 -> 0.5 on the right: net change 0.5, total variation 1.5.
    there = np.array([[0.0, 0, 0, 0, 1, 0.5]])
    np.testing.assert_allclose(monotonicity(there, np.array([4])), [[1, 1 / 3]], atol=1e-12)


def test_separability_of_curves_that_share_no_shape():
    s = np.linspace(-1, 1, 21)
    opposite = np.stack([s, -s, s, -s])
    fit = fit_additive(opposite, np.zeros(4), s)
    np.testing.assert_allclose(fit.separability(), 0, atol=1e-12)
    # With offsets the constants explain their part of the whole, and nothing of the movement.
    level = np.array([3.0, -3, -3, 3])
    shares = fit_additive(opposite + level[:, None], np.zeros(4), s).separability()
    np.testing.assert_allclose(shares, [9 / (9 + s.var()), 0], atol=1e-12)
    # The same function of s is no function of t once the images lie apart.
    apart = np.linspace(-0.5, 0.5, 30)
    waves = np.sin(12 * s)[None].repeat(30, axis=0)
    assert fit_additive(waves, apart, s).separability()[1] < 0.5
    aligned = np.sin(3 * (apart[:, None] + s))
    # A cubic spline is within O(h^4) of a smooth function: (3 h)^4 = 8e-3, squared.
    assert fit_additive(aligned, apart, s).separability()[1] > 1 - (3 * 0.1) ** 8


def test_additive_fit_agrees_with_dummy_variables_and_scikit_learn():
    rng = np.random.default_rng(0)
    s = np.linspace(-2, 2, 17)
    offsets = rng.normal(0, 0.4, 12)
    curves = rng.normal(size=(12, 17)).cumsum(axis=1)
    fit = fit_additive(curves, offsets, s)
    knots = np.sort(offsets)[6] + s
    t = offsets[:, None] + s
    used = (t >= knots[0] - 1e-9) & (t <= knots[-1] + 1e-9)
    rows, y = np.nonzero(used)[0], curves[used]
    splines = SplineTransformer(degree=3, knots=knots[:, None])
    design = np.hstack(
        [
            splines.fit_transform(np.clip(t[used], knots[0], knots[-1])[:, None]),
            np.eye(12)[rows],
        ]
    )
    model = LinearRegression(fit_intercept=False).fit(design, y)
    assert fit.separability()[0] == pytest.approx(model.score(design, y), abs=1e-9)
    residual = np.bincount(rows, (y - model.predict(design)) ** 2)
    np.testing.assert_allclose(fit.residual, residual, atol=1e-9)


def test_curves_that_do_not_meet_leave_the_middle_one():
    s = np.linspace(-1, 1, 9)
    fit = fit_additive(np.stack([s, s**2, -s]), np.array([-10.0, 0, 10]), s)
    assert fit.points.tolist() == [0, 9, 0]
    assert np.isfinite(fit.offset).tolist() == [False, True, False]
    np.testing.assert_allclose(fit.separability(), 1, atol=1e-12)


def test_intervals_follow_the_resampled_curves():
    rng = np.random.default_rng(1)
    s = np.linspace(-1, 1, 15)
    curves = s**2 + rng.normal(0, 0.2, (25, 15)) + rng.normal(size=(25, 1))
    fit = fit_additive(curves, np.zeros(25), s)
    counts = resample_counts(25, 200, seed=3)
    assert counts.sum(axis=1).tolist() == [25] * 200
    np.testing.assert_allclose(fit.separability(np.ones((1, 25)))[0], fit.separability())
    # Drawing curves as often as counted is the same as weighting their sums.
    again = np.repeat(np.arange(25), counts[0].astype(int))
    y, g = curves[again], fit.common
    left = y - g - (y - g).mean(axis=1, keepdims=True)
    share = 1 - (left**2).sum() / ((y - y.mean()) ** 2).sum()
    assert fit.separability(counts)[0, 0] == pytest.approx(share, abs=1e-10)


def test_the_median_interval_has_binomial_ranks():
    # SciPy's test of a quantile inverts the same binomial law.
    values = gaussian(99, seed=7).numpy()
    found = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    np.testing.assert_allclose(median_interval(values), found, atol=1e-12)
    assert median_interval(np.array([3.0, 1.0])).tolist() == [1, 3]


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": [-1.0, 0, 1]}, "at least 7"),
        ({"scales": [-4.0, -3, -2, -1, 0, 1, 5]}, "equally spaced"),
        ({"images": images(1)}, "at least 2"),
        ({"draws": 0}, "0 resamplings"),
    ],
)
def test_bad_input_of_score_curves(change, message):
    net, _, _, x = linear_case(n=5)
    arguments = {"images": x, "directions": torch.eye(D)[:, :1], "scales": SCALES, "target": 0}
    with pytest.raises(InputError, match=message):
        experiments.score_curves(net, **{**arguments, **change})
