"""Direction sweeps where the answer is known; all classes, and figures of both."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from networks_for_tests import SHAPE, gaussian, linear, orthogonal_frame, perceptron, sphere

from geomadv import InputError, experiments, plotting

REPOSITORY = Path(__file__).resolve().parents[2]
D = int(np.prod(SHAPE))
SCALES = np.linspace(-4, 4, 33)


def images(n, seed=0):
    return gaussian(n, *SHAPE, seed=seed)


def linear_case(classes=4, n=150):
    weight, bias = gaussian(classes, D, seed=1), gaussian(classes, seed=2)
    return linear(weight, bias), weight.numpy(), bias.numpy(), images(n)


# Direction sweep


def test_two_classes_cross_where_the_margin_is_used_up():
    """An image enters class 1 at s > (F_0 - F_1) / ((w_1 - w_0).d), in closed form."""
    net, weight, bias, x = linear_case(classes=2)
    d = orthogonal_frame(D, 1, seed=3)
    ds = experiments.direction_sweep(net, x, 5 * d, SCALES, 1)
    flat = x.flatten(1).numpy()
    margin = flat @ (weight[0] - weight[1]) + bias[0] - bias[1]
    slope = float((weight[1] - weight[0]) @ d.numpy()[:, 0])
    outside = margin > 0
    # Rounding cannot move a crossing over a scale.
    assert np.abs(margin[:, None] - SCALES * slope).min() > 1e-9
    transition = (margin[outside, None] < SCALES * slope).mean(axis=0)
    retention = (margin[~outside, None] < SCALES * slope).mean(axis=0)
    np.testing.assert_allclose(ds["transition"][0], transition, atol=1e-12)
    np.testing.assert_allclose(ds["retention"][0], retention, atol=1e-12)
    assert transition.max() > 0.5
    assert ds["population_size"].values.tolist() == [outside.sum(), (~outside).sum()]


def test_linear_scores_move_on_straight_lines():
    net, weight, bias, x = linear_case()
    directions = orthogonal_frame(D, 2, seed=3)
    ds = experiments.direction_sweep(net, x, directions, SCALES, 2, batch_size=7)
    clean = x.flatten(1).numpy() @ weight.T + bias
    slopes = weight @ directions.numpy()
    scores = clean[None, None] + SCALES[:, None, None] * slopes.T[:, None, None]
    others = np.delete(scores, 2, axis=-1).max(axis=-1)
    softmax = (np.exp(scores) / np.exp(scores).sum(-1, keepdims=True))[..., 2]
    outside = clean.argmax(1) != 2
    for name, values in (
        ("target_score", scores[..., 2]),
        ("other_score", others),
        ("target_softmax", softmax),
    ):
        for population, members in (("other classes", outside), ("target class", ~outside)):
            expected = np.quantile(values[..., members], [0.3, 0.5, 0.7], axis=-1)
            found = ds[name].sel(population=population).transpose("quantile", ...)
            np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_array_equal(ds["prediction"], scores.argmax(-1))
    np.testing.assert_array_equal(ds["source"], clean.argmax(1))
    # The median of linear functions with one slope is that line.
    line = np.median(clean[outside, 2]) + SCALES * slopes[2, 0]
    medians = ds["target_score"].isel(population=0, direction=0).sel(quantile=0.5)
    np.testing.assert_allclose(medians, line, atol=1e-10)


def test_images_leave_a_sphere_where_its_equation_says():
    """|x + s d| > r from s = -x.d ± sqrt((x.d)² + r² - |x|²) outwards, whatever the direction."""
    radius = 3.5
    net, d = sphere(radius, SHAPE), orthogonal_frame(D, 2, seed=4)
    x = images(200)
    x = x[x.flatten(1).norm(dim=1) < radius]
    ds = experiments.direction_sweep(net, x, d, SCALES, 1)
    along = (x.flatten(1) @ d).T.numpy()
    root = np.sqrt(along**2 + radius**2 - x.flatten(1).norm(dim=1).numpy() ** 2)
    far, near = (-along + root)[:, None], (-along - root)[:, None]
    out = (SCALES[:, None] > far) | (SCALES[:, None] < near)
    np.testing.assert_allclose(ds["transition"], out.mean(axis=-1), atol=1e-12)
    assert float(ds["transition"][:, [0, -1]].min()) > 0.5
    # No image is outside: what belongs to the target's own images is unknown.
    assert bool(ds["retention"].isnull().all())
    assert bool(ds["target_score"].sel(population="target class").isnull().all())
    # With the target inside, the same images leave it; one far away makes the other population.
    inside = sphere(radius, SHAPE, inside_target=True)
    ds = experiments.direction_sweep(inside, torch.cat([x, 100 * x[:1]]), d, SCALES, 1)
    np.testing.assert_allclose(ds["retention"], 1 - out.mean(axis=-1), atol=1e-12)


# All classes


def curvature_result(net, pairs, missing=None, seed=0):
    """What curvature.h5 holds of three classes, with made-up pairs."""
    classes = net.num_classes
    frames = [
        orthogonal_frame(D, pairs, seed=seed + i).T.reshape(-1, *SHAPE) for i in range(classes)
    ]
    values = np.tile(np.linspace(3, -2, pairs), (classes, 1))
    if missing is not None:
        values[missing] = np.nan
    pair, image = ("class", "pair"), ("channel", "row", "column")
    return xr.Dataset(
        {
            "hessian_value": (pair, values, {"units": "score units / image units^2"}),
            "hessian_direction": ((*pair, *image), torch.stack(frames).numpy()),
            "hessian_residual": (pair, np.zeros((classes, pairs))),
            "hessian_converged": (pair, np.ones((classes, pairs), dtype=bool)),
            "hessian_products": ("class", np.full(classes, D)),
            "hessian_asymmetry": ("class", np.zeros(classes)),
            "target": ("class", np.arange(classes)),
            "median_distance": ("class", np.full(classes, 0.3)),
        },
        coords={"class": list(net.class_names)},
    )


def test_curved_directions_of_a_full_spectrum():
    net = perceptron(classes=3)
    result = curvature_result(net, D, missing=1)
    curved = experiments.curved_directions(result, count=2)
    assert curved["target"].values.tolist() == [0, 2]
    order = {"positive": [0, 1], "negative": [-1, -2]}
    values = result["hessian_value"][0].to_numpy()
    order["flat"] = np.abs(values).argsort(kind="stable")[:2].tolist()
    for family, pairs in order.items():
        one = curved.sel(family=family)
        np.testing.assert_allclose(one["curvature"][0], values[pairs])
        for i, c in enumerate((0, 2)):
            expected = result["hessian_direction"][c].to_numpy()[pairs]
            np.testing.assert_array_equal(one["direction_image"][i], expected)
    random = curved.sel(family="random")
    rows = random["direction_image"].to_numpy().reshape(4, D)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    assert np.linalg.matrix_rank(rows) == 4
    assert bool((random["curvature"].isnull() & random["residual"].isnull()).all())


def test_flat_directions_are_drawn_where_the_spectrum_is_not_known():
    net = perceptron(classes=2)
    result = curvature_result(net, 2)
    curved = experiments.curved_directions(result, count=1, seed=1)
    assert "random" in str(curved["family_name"].sel(family="flat").item())
    assert bool(curved["curvature"].sel(family="flat").isnull().all())
    flat = curved["direction_image"].sel(family="flat").to_numpy().reshape(2, D)
    computed = result["hessian_direction"].to_numpy().reshape(4, D)
    # Orthonormal to rounding of D products.
    np.testing.assert_allclose(flat @ computed.T, 0, atol=1e-12)
    np.testing.assert_allclose(flat @ flat.T, np.eye(2), atol=1e-12)


def test_all_classes_are_their_single_sweeps():
    net, x = perceptron(classes=3), images(30)
    curved = experiments.curved_directions(curvature_result(net, D), count=2)
    sweep = experiments.class_direction_sweep(net, x, curved, SCALES)
    curves = experiments.class_score_curves(net, x, curved, SCALES, draws=10)
    assert sweep["transition"].dims == ("class", "family", "direction", "scale")
    assert sweep["target_score"].dims[:3] == ("class", "family", "population")
    assert sweep["source"].dims == ("sample",)
    for c in range(3):
        one = curved.isel({"class": c}).sel(family="negative")["direction_image"]
        columns = one.to_numpy().reshape(2, D).T
        alone = experiments.direction_sweep(net, x, columns, SCALES, c)
        part = sweep.isel({"class": c}).sel(family="negative")
        for name in ("transition", "retention", "target_score", "other_score", "prediction"):
            found = part[name].transpose(*alone[name].dims)
            np.testing.assert_allclose(found, alone[name], atol=1e-10)
        alone = experiments.score_curves(net, x, columns, SCALES, c, draws=10)
        part = curves.isel({"class": c}).sel(family="negative")
        for name in ("score", "symmetry", "separability", "example_image"):
            np.testing.assert_allclose(part[name], alone[name], atol=1e-8)
    for ds in (sweep, curves):
        for name in ds.data_vars:
            assert ds[name].attrs["long_name"]
            assert ds[name].attrs["units"]


def test_reach_doubles_until_half_of_the_images_are_in():
    net = sphere(4.0)
    x = images(60)
    x = 2 * x / x.flatten(1).norm(dim=1)[:, None, None, None]
    curved = experiments.curved_directions(curvature_result(net, D), count=1).isel({"class": [1]})
    # Mean norm 2 is the limit: at s = 2 the norm is at most 4 = r, so nobody has left.
    assert experiments.sweep_reach(net, x, curved) == pytest.approx(2.0)
    near = sphere(2.2)
    reach = experiments.sweep_reach(near, x, curved)
    d = curved["direction_image"].sel(family="positive").to_numpy().reshape(D)
    along = x.flatten(1).numpy() @ d

    # |x + s d|² = 4 + 2 s x.d + s², with the better sign for most images.
    def taken(s):
        return max((4 + 2 * z * along + s**2 > 2.2**2).mean() for z in (-s, s))

    expected = next(s for s in 0.3 * 2.0 ** np.arange(10) if taken(s) >= 0.5)
    assert reach == pytest.approx(min(1.5 * expected, 2.0))
    assert reach < 2.0


def test_reach_is_found_from_images_that_lie_class_by_class():
    """More images of the class itself than a pilot takes lie before those of another."""
    net = sphere(2.2)
    x = images(120)
    x = x / x.flatten(1).norm(dim=1)[:, None, None, None]
    outside, inside = 3 * x, 2 * x[:80]
    curved = experiments.curved_directions(curvature_result(net, D), count=1).isel({"class": [1]})
    target = int(curved["target"].item())
    own, others = (
        (outside, inside) if int(net.predict(outside[:1])) == target else (inside, outside)
    )
    ordered = torch.cat([own.repeat(2, 1, 1, 1), others])
    assert (net.predict(ordered[:100]) == target).all()
    assert 0 < experiments.sweep_reach(net, ordered, curved) <= 3


# Bad input


@pytest.mark.parametrize("function", [experiments.direction_sweep, experiments.score_curves])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directions": torch.eye(5)}, "6 dimensions"),
        ({"directions": torch.zeros(D, 1)}, "column 0 is zero"),
        ({"directions": torch.full((D, 2), torch.nan)}, "not finite"),
        ({"directions": torch.zeros(D, 0)}, "one direction a column"),
        ({"scales": [0.0, 1, 2]}, "both signs"),
        ({"scales": [-2.0, -1, 1, 2]}, "both signs"),
        ({"scales": [1.0, 0, -1]}, "increasing"),
        ({"scales": [-np.inf, 0, 1]}, "finite"),
        ({"target": 4}, "no class"),
        ({"target": -1}, "no class"),
        ({"images": torch.zeros(0, *SHAPE)}, "empty"),
        ({"images": torch.zeros(3, 1, 2, 2)}, "images have shape"),
    ],
)
def test_bad_input(function, change, message):
    net, _, _, x = linear_case(n=5)
    arguments = {"images": x, "directions": torch.eye(D)[:, :1], "scales": SCALES, "target": 0}
    with pytest.raises(InputError, match=message):
        function(net, **{**arguments, **change})


def test_a_sample_of_the_target_alone_is_refused():
    net = sphere(0.1)
    with pytest.raises(InputError, match="all 5 are predicted"):
        experiments.direction_sweep(net, 1 + images(5).abs(), torch.eye(D)[:, :1], SCALES, 1)


@pytest.mark.parametrize("count", [0, 7])
def test_more_directions_than_stored_are_refused(count):
    result = curvature_result(perceptron(classes=3), D)
    with pytest.raises(InputError, match="1 to 6"):
        experiments.curved_directions(result, count=count)


# Figures


def test_figures_draw_from_a_dataset_alone(tmp_path):
    net, x = perceptron(classes=3), images(20)
    curved = experiments.curved_directions(curvature_result(net, D), count=2)
    sweep = experiments.class_direction_sweep(net, x, curved, SCALES)
    curves = experiments.class_score_curves(net, x, curved, SCALES, draws=10)
    d = orthogonal_frame(D, 2, seed=8)
    for ds, plot in (
        (sweep, plotting.direction_sweep),
        (sweep, plotting.direction_sweep_classes),
        (experiments.direction_sweep(net, x, d, SCALES, 1), plotting.direction_sweep),
        (curves, plotting.score_curves),
        (curves, plotting.score_curve_measures),
        (experiments.score_curves(net, x, d, SCALES, 1, draws=5), plotting.score_curves),
    ):
        before = ds.copy(deep=True)
        figure = plot(ds.assign_attrs(network="tanh", dataset="noise"))
        figure.savefig(tmp_path / "figure.pdf")
        text = " ".join(
            t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))
        )
        assert "tanh on noise" in text
        assert ds.identical(before)
    for plot, ds in ((plotting.direction_sweep, sweep), (plotting.score_curves, curves)):
        with pytest.raises(InputError, match="holds the classes 0, 1, 2"):
            plot(ds, target="frog")
