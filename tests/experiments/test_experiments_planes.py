"""Normal sections and decision planes on networks whose boundaries are known in closed form."""

import math

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from geomadv import InputError, boundary_points, experiments, plotting
from geomadv.experiments.planes.second import SECONDS

D = math.prod(nets.SHAPE)


def images(n, *shape, seed=0, scale=1.0):
    return scale * nets.gaussian(n, *(shape or nets.SHAPE), seed=seed)


def known(ds):
    """One direction and one point of a result."""
    return ds.isel(direction=0, sample=0)


# Normal sections


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_a_sphere_bends_as_its_circle_and_the_model_holds_to_four_fifths(inside, dtype):
    """Offsets are -r + sqrt(r^2 - s^2), and |t + s^2 / 2r| = 0.2 |t| at s = 0.8 r."""
    r, sign = 2.0, -1 if inside else 1
    net = nets.sphere(r, dtype=dtype, inside_target=inside)
    start = images(4).to(dtype)
    start *= (1.2 if inside else 0.8) * r / start.flatten(1).norm(dim=1)[:, None, None, None]
    scales = np.linspace(-1.25, 1.25, 102 + 1) * r
    ds = experiments.normal_section(
        net, boundary_points(net, start), nets.orthogonal_frame(D, 2), scales
    )
    # Of the offset in units of r: the tolerance of roots, or rounding of f = ||x||^2 - r^2.
    precision = 1e-9 if dtype == torch.float64 else 3e-6
    within = np.abs(scales) < r
    exact = sign * (np.sqrt(r**2 - scales[within] ** 2) - r)
    close = {"atol": r * precision / np.sqrt(1 - (scales[within] / r) ** 2).min()}
    assert ds["converged"].all()
    np.testing.assert_allclose(
        ds["offset"][..., within], np.broadcast_to(exact, (2, 4, 81)), **close
    )
    assert ds["offset"][..., np.abs(scales) > r + 1e-9].isnull().all()
    assert (ds["missing"] == ds["offset"].isnull().sum("scale")).all()
    np.testing.assert_allclose(ds["normal_curvature"], sign / r, rtol=1e3 * precision)
    # Linear interpolation between two scales is off by their distance squared.
    np.testing.assert_allclose(ds["radius"], 0.8 * r, atol=5e-3)
    np.testing.assert_allclose(ds["radius_quantile"], 0.8 * r, atol=5e-3)
    np.testing.assert_allclose(
        ds["offset_quantile"][:, 1, within], exact[None].repeat(2, 0), **close
    )


def test_a_quadric_has_the_nearer_root_of_its_quadratic_and_the_curvatures_of_its_matrix():
    net, x, _ = nets.random_quadric(3)
    shape, dimension = net.input_shape, net.dimension
    a = net.module.module.f.matrix.numpy()
    points = boundary_points(net, x.reshape(-1, *shape))
    points = points[points.converged]
    v = nets.orthogonal_frame(dimension, 3, seed=1).numpy()
    s = np.array([-0.3, -0.1, 0.0, 0.02, 0.2])
    ds = experiments.normal_section(net, points, v, s)
    assert len(points) >= 5
    assert (np.sign(ds["normal_curvature"]).min(), np.sign(ds["normal_curvature"]).max()) == (-1, 1)
    for i, (point, n) in enumerate(
        zip(points.points.flatten(1).numpy(), points.normals.numpy(), strict=True)
    ):
        slope = np.linalg.norm(a @ point + net.module.module.f.slope.numpy())
        for j in range(3):
            u = v[:, j] - (v[:, j] @ n) * n
            u /= np.linalg.norm(u)
            one = ds.isel(direction=j, sample=i)
            expected = [v[:, j] @ a @ v[:, j] / slope, u @ a @ u / slope]
            np.testing.assert_allclose(one["normal_curvature"], expected, rtol=1e-6, atol=1e-9)
            # f(x + s u + t n) = (n'An / 2) t^2 + (slope + s u'An) t + s^2 u'Au / 2.
            for k, t in zip(s, one["offset"].to_numpy(), strict=True):
                roots = np.roots([n @ a @ n / 2, slope + k * u @ a @ n, k**2 * u @ a @ u / 2])
                near = [r.real for r in roots if abs(r.imag) < 1e-9 and abs(r) <= np.abs(s).max()]
                if near:
                    np.testing.assert_allclose(t, min(near, key=abs), rtol=1e-6, atol=1e-9)
                else:
                    assert np.isnan(t)


def test_a_flat_boundary_has_no_offset_and_the_model_holds_everywhere():
    w = nets.gaussian(3, D, seed=5)
    net = nets.linear(w, torch.zeros(3, dtype=torch.float64))
    ds = experiments.normal_section(
        net, boundary_points(net, images(6)), nets.gaussian(D, 2), [-9.0, -1.0, 0.0, 2.0]
    )
    np.testing.assert_allclose(ds["offset"], 0, atol=1e-9)
    assert np.isposinf(ds["radius"]).all()
    assert np.isposinf(ds["radius_quantile"]).all()
    assert (ds["missing"] == 0).all()


def test_a_boundary_of_another_kind_is_refused():
    net = linear_net()
    with pytest.raises(InputError, match="boundary='pairs': expected"):
        experiments.normal_section(
            net, boundary_points(net, images(1)), np.eye(D)[:, :1], [-1, 0, 1], boundary="pairs"
        )


class Turned(nn.Module):
    """The scores of a network at Q x, times a factor and with an offset."""

    def __init__(self, module, q, factor, offset):
        super().__init__()
        self.module, self.factor, self.offset = module, factor, offset
        self.register_buffer("q", q)

    def forward(self, x):
        turned = (x.flatten(1) @ self.q.T).reshape(x.shape)
        return self.factor * self.module(turned) + self.offset


@pytest.mark.parametrize("boundary", ["pair", "region"])
def test_scales_of_scores_and_orthogonal_maps_change_no_section(boundary):
    net = nets.perceptron()
    q = nets.orthogonal_frame(D, D, seed=2)
    other = nets.classifier(Turned(net.module.module, q, 40.0, 3.0))
    start, v, s = images(8), nets.gaussian(D, 2, seed=1), np.linspace(-1, 1, 9)
    back = (start.flatten(1) @ q).reshape(start.shape)  # Q times this is the start
    first, second = (
        experiments.normal_section(n, boundary_points(n, x), d, s, boundary=boundary)
        for n, x, d in ((net, start, v), (other, back, q.T @ v))
    )
    assert first["converged"].sum() >= 5
    for name in ("offset", "normal_curvature", "radius", "normal_share"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(first["third"], second["third"])


def test_the_pair_goes_on_where_a_third_class_is_on_top_and_the_region_bends():
    """Scores 0, t and (s - 1) / 2 over the plane: the third class enters at s = 1."""
    weight = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.5, 0.0]]).double()
    net = nets.linear(weight, torch.tensor([0.0, 0.0, -0.5]).double(), (1, 1, 2))
    points = boundary_points(net, torch.tensor([0.0, -1.0]).double().reshape(1, 1, 1, 2), target=1)
    s = np.array([-2.0, 0.0, 0.5, 1.5, 2.0])
    along = torch.tensor([[1.0], [0.3]]).double()
    pair, region = (
        known(experiments.normal_section(net, points, along, s, boundary=boundary))
        for boundary in ("pair", "region")
    )
    np.testing.assert_allclose(pair["offset"], 0, atol=1e-9)
    assert pair["third"].to_numpy().tolist() == [False, False, False, True, True]
    np.testing.assert_allclose(region["offset"], np.maximum(0, (s - 1) / 2), atol=1e-8)
    assert not region["third"].any()
    # Off from 1 on; between 0.5 and 1.5 it is interpolated.
    assert np.isposinf(pair["radius"]).all()
    assert (region["radius"] >= 0.5).all()
    assert (region["radius"] <= 1.5).all()


def test_images_without_a_point_and_directions_along_the_normal_have_no_section():
    net = nets.sphere(2.0)
    start = images(3, scale=0.1)
    start[1] = 3.0  # outside already
    points = boundary_points(net, start, target=1)
    along = points.normals[0]
    ds = experiments.normal_section(net, points, along[:, None], [-1.0, 0.0, 1.0])
    assert ds["converged"].to_numpy().tolist() == [True, False, True]
    assert ds["radius"].isnull().to_numpy()[:, 0, :2].all()
    assert ds["radius"].notnull().to_numpy()[:, 0, 2].all()
    assert ds["missing"].to_numpy().tolist() == [[0, 0, 0]]
    none = experiments.normal_section(net, points[[1]], along[:, None], [-1.0, 0.0, 1.0])
    assert none["offset"].isnull().all()
    assert none["radius_quantile"].isnull().all()


def test_an_offset_beyond_the_last_scale_is_missing_and_counts_as_beyond():
    """A parabola f = t - 10 s^2 leaves the square of half side 1 at s = 0.32."""
    matrix = torch.diag(torch.tensor([-20.0, 0.0])).double()
    net = nets.quadric(matrix, torch.tensor([0.0, 1.0]).double(), 0.0, (1, 1, 2))
    points = boundary_points(net, torch.tensor([0.0, -1.0]).double().reshape(1, 1, 1, 2))
    s = np.array([-1.0, -0.1, 0.0, 0.3, 0.4, 1.0])
    ds = experiments.normal_section(net, points, torch.tensor([[1.0], [0.0]]).double(), s)
    one = known(ds)
    np.testing.assert_allclose(one["offset"], [np.nan, 0.1, 0, 0.9, np.nan, np.nan], atol=1e-9)
    assert int(one["missing"]) == 3
    np.testing.assert_allclose(one["radius"], 0.1)  # the last scale before one without a root
    assert ds["offset_quantile"].isnull().to_numpy()[0, 1].tolist() == [
        True,
        *[False] * 3,
        True,
        True,
    ]


def test_batches_change_sections_by_rounding_alone():
    net, start, v = nets.perceptron(), images(9), nets.gaussian(D, 3, seed=1)
    points, s = boundary_points(net, start), [-1.0, 0.0, 0.5, 2.0]
    whole, parts = (
        experiments.normal_section(net, points, v, s, batch_size=size) for size in (None, 2)
    )
    for name in ("offset", "radius"):
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-7, atol=1e-9)


# Decision planes


def linear_net(classes=4, seed=1):
    weight = nets.gaussian(classes, D, seed=seed)
    return nets.linear(weight, nets.gaussian(classes, seed=seed + 1))


def test_a_plane_is_the_network_on_orthonormal_axes_through_the_boundary_point():
    net, x = nets.perceptron(), images(2, seed=9)
    ds = experiments.decision_plane(net, x, SECONDS, steps=4, batch_size=7)
    for i in range(2):
        e = ds["first_axis"][i].to_numpy().ravel()
        point = x[i].numpy().ravel() + float(ds["distance"][i]) * e
        top = net.scores(torch.from_numpy(point).reshape(1, *nets.SHAPE)).topk(2).values[0]
        assert float(top[0] - top[1]) < 1e-6
        for j in range(len(SECONDS)):
            plane = ds.isel(sample=i, second=j)
            g = plane["second_axis"].to_numpy().ravel()
            np.testing.assert_allclose([e @ e, g @ g, e @ g], [1, 1, 0], atol=1e-12)
            a, b = np.meshgrid(plane["coordinate"], plane["coordinate"])
            grid = x[i].numpy().ravel() + a[..., None] * e + b[..., None] * g
            scores = net.scores(torch.from_numpy(grid.reshape(-1, *nets.SHAPE)))
            best = scores.topk(2).values
            assert plane["prediction"].to_numpy().ravel().tolist() == scores.argmax(1).tolist()
            expected = (best[:, 0] - best[:, 1]).numpy()
            np.testing.assert_allclose(plane["margin"].to_numpy().ravel(), expected, atol=1e-5)
            assert plane["prediction"][4, 4] == ds["source"][i]
            assert float(plane["coordinate"].max()) >= 3 * float(ds["distance"][i]) - 1e-9


def test_the_runner_up_is_the_second_nearest_boundary_of_a_linear_network():
    net, x = linear_net(), images(5)
    w, f = net.module.module.weight.numpy(), net.scores(x).numpy()
    ds = experiments.decision_plane(net, x, ["runner-up"], steps=1)
    for i, scores in enumerate(f):
        s = int(scores.argmax())
        # Distance to the region of a class that meets the image's own: of the points nearest to
        # the pairs' hyperplanes, those where the class wins.
        reach = {
            k: (scores[s] - scores[k]) / np.linalg.norm(w[k] - w[s]) for k in range(4) if k != s
        }
        assert int(ds["target"][i]) == min(reach, key=reach.__getitem__)
        mark = ds["mark"][i, 0].to_numpy()
        assert int(ds["mark_label"][i, 0]) not in (s, int(ds["target"][i]))
        assert np.linalg.norm(mark) >= sorted(reach.values())[1] - 1e-9
        inside = np.abs(mark).max() < float(ds["coordinate"][i, 0].max())
        assert inside


def test_the_other_image_is_the_next_one_that_is_predicted_as_another_class():
    net, x = linear_net(2), images(6)
    labels = net.scores(x).argmax(1).tolist()
    assert len({*labels}) == 2
    ds = experiments.decision_plane(net, x, ["image"], steps=1)
    for i in range(6):
        j = next(k % 6 for k in range(i + 1, i + 6) if labels[k % 6] != labels[i])
        e, g = (ds[name][i].to_numpy().ravel() for name in ("first_axis", "second_axis"))
        a, b = ds["mark"][i, 0].to_numpy()
        np.testing.assert_allclose(a * e + b * g, (x[j] - x[i]).numpy().ravel(), atol=1e-12)
        assert int(ds["mark_label"][i, 0]) == labels[j]
        assert float(ds["coordinate"][i, 0].max()) > max(abs(a), abs(b))


def test_directions_of_curvature_are_those_of_the_boundary_at_the_point():
    net, x, _ = nets.random_quadric(1)
    x = x.reshape(-1, *net.input_shape)[:2]
    ds = experiments.decision_plane(net, x, ["positive", "negative"], steps=1)
    a, b = (getattr(net.module.module.f, name).numpy() for name in ("matrix", "slope"))
    for i in range(2):
        point = (
            x[i].numpy().ravel() + float(ds["distance"][i]) * ds["first_axis"][i].to_numpy().ravel()
        )
        gradient = a @ point + b
        n = gradient / np.linalg.norm(gradient)
        p = np.eye(len(n)) - np.outer(n, n)
        values, vectors = np.linalg.eigh(p @ a @ p / np.linalg.norm(gradient))
        # f = F_1 - F_0 grows into class 1: the other way round, the curvature changes its sign.
        sign = 1 if int(ds["target"][i]) == 1 else -1
        ends = sorted([sign * values[-1], sign * values[0]], reverse=True)
        np.testing.assert_allclose(ds["second_curvature"][i], ends, rtol=1e-3)
        assert (ds["second_residual"][i] < 1e-3).all()
        axis = ds["second_axis"][i, 0].to_numpy().ravel()
        top = vectors[:, -1 if sign > 0 else 0]
        e = ds["first_axis"][i].to_numpy().ravel()
        expected = top - (top @ e) * e
        assert abs(axis @ expected) / np.linalg.norm(expected) > 0.999


def test_what_has_no_plane_is_kept_without_one():
    """Two classes have no runner-up, and from the middle of a sphere no gradient leads out."""
    net = nets.sphere(2.0)
    x = images(2, seed=9, scale=0.3)
    x[1] = 0
    ds = experiments.decision_plane(net, x, ["runner-up", "image", "random"], steps=2)
    there = (ds["prediction"] >= 0).all(("vertical", "horizontal")).to_numpy()
    assert there.tolist() == [[False, False, True], [False] * 3]
    assert (
        ds["margin"].notnull().all(("vertical", "horizontal")).to_numpy().tolist() == there.tolist()
    )
    assert ds["target"].to_numpy().tolist() == [1, -1]
    assert isinstance(plotting.decision_plane(ds), Figure)


def test_of_a_thousand_classes_those_that_occur_are_drawn():
    net = linear_net(1000)
    ds = experiments.decision_plane(net, images(1, seed=9), ["random"], steps=20, reach=30.0)
    assert len(np.unique(ds["prediction"])) > 13
    figure = plotting.decision_plane(ds)
    figure.draw_without_rendering()
    names = {t.get_text() for axes in figure.axes for t in axes.texts}
    assert names <= {str(c) for c in np.unique(ds["prediction"])}
    assert names


@pytest.mark.parametrize(
    "given",
    [
        {"second": []},
        {"second": ["random"] * 2},
        {"steps": 0},
        {"steps": 2.5},
        {"reach": 0.0},
        {"reach": math.inf},
    ],
    ids=str,
)
def test_planes_that_cannot_be_are_refused(given):
    with pytest.raises(InputError, match="expected"):
        experiments.decision_plane(linear_net(), images(1), **given)
