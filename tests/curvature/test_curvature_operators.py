"""Mean Hessian and mean shape operator: closed forms, dense references, bad input."""

import math
from dataclasses import replace
from typing import Any

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

import geomadv as ga
from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.curvature import BoundaryOperator, mean_hessian, mean_shape_operator
from geomadv.errors import InputError
from geomadv.networks.architectures import digits_cnn

D = math.prod(nets.SHAPE)
# Relative accuracy asked of exact products (issue: 1e-6 and 1e-3).
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
OPERATORS = (mean_hessian, mean_shape_operator)


def points_at(x: Tensor, source: int = 0, target: int = 1) -> BoundaryPoints:
    """Boundary points at given places; what curvature does not read is left at zero."""
    n = len(x)
    nothing = torch.zeros(n, dtype=x.dtype)
    return BoundaryPoints(
        points=x,
        normals=torch.zeros(n, x[0].numel(), dtype=x.dtype),
        source=torch.full((n,), source),
        target=torch.full((n,), target),
        distance=nothing,
        residual=nothing,
        angle=nothing,
        converged=torch.ones(n, dtype=torch.bool),
        iterations=torch.zeros(n, dtype=torch.int64),
    )


def smooth(dtype: torch.dtype = torch.float64) -> tuple[Classifier, BoundaryPoints]:
    """A random tanh network with 7 boundary points of mixed classes."""
    net = nets.perceptron(dtype=dtype, bounds=(-4.0, 4.0))
    points = boundary_points(net, nets.gaussian(7, *nets.SHAPE, seed=3, dtype=dtype))
    assert points.converged.all()
    return net, points


def dense(net: Classifier, points: BoundaryPoints) -> tuple[Tensor, Tensor]:
    """Hessians and shape operators (N, D, D) by torch.func, one point at a time."""
    hessians, shapes = [], []
    for x, s, t in zip(points.points, points.source, points.target, strict=True):

        def f(y: Tensor, s: Tensor = s, t: Tensor = t) -> Tensor:
            scores = net.module(y.reshape(1, *net.input_shape))[0]
            return scores[int(t)] - scores[int(s)]

        h = torch.func.hessian(f)(x.flatten())
        g = torch.func.grad(f)(x.flatten())
        p = torch.eye(len(g), dtype=g.dtype) - torch.outer(g, g) / (g @ g)
        hessians.append(h)
        shapes.append(p @ h @ p / g.norm())
    return torch.stack(hessians), torch.stack(shapes)


def worst(found: Any, expected: Any) -> float:
    """Largest difference relative to the largest expected entry."""
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# Closed forms


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("hvp", ["exact", "finite-difference"])
@pytest.mark.parametrize("inside", [False, True])
def test_every_tangent_curvature_of_a_sphere_is_one_over_the_radius(
    dtype: torch.dtype, hvp: Any, inside: bool
) -> None:
    radius = 2.5
    net = nets.sphere(radius, dtype=dtype, inside_target=inside)
    x = nets.gaussian(1, D, dtype=dtype)
    x = (radius * x / x.norm(dim=1, keepdim=True)).reshape(1, *nets.SHAPE)
    # A quadric has no truncation error; rounding of the gradient, eps |g| / step, stays at eps.
    step = 1.0 if hvp == "finite-difference" else None
    operator = mean_shape_operator(net, points_at(x), hvp=hvp, step=step)
    values = np.linalg.eigvalsh(operator.dense())
    expected = np.full(D, (-1 if inside else 1) / radius)
    expected[-1 if inside else 0] = 0.0  # along the normal
    assert np.abs(values - expected).max() < TOLERANCE[dtype] / radius
    hessian = mean_hessian(net, points_at(x), hvp=hvp, step=step).dense()
    assert worst(hessian, (-2 if inside else 2) * np.eye(D)) < TOLERANCE[dtype]


@given(seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=8)
def test_quadric_has_its_matrix_as_hessian_and_its_sign(seed: int) -> None:
    frame = nets.orthogonal_frame(D, D, seed)
    values = nets.gaussian(D, seed=seed + 1)
    a = frame @ torch.diag(values) @ frame.T
    net = nets.quadric(a, nets.gaussian(D, seed=seed + 2), -1.0)
    points = points_at(nets.gaussian(5, *nets.SHAPE, seed=seed + 3))
    hessian = mean_hessian(net, points, hvp="exact")
    found = np.linalg.eigvalsh(hessian.dense())
    assert np.abs(found - np.sort(values.numpy())).max() < 1e-6 * float(values.abs().max())
    # Reversed pair: the boundary curves the other way.
    swapped = replace(points, source=points.target, target=points.source)
    assert worst(mean_hessian(net, swapped, hvp="exact").dense(), -a) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shape_operator_of_an_ellipsoid(dtype: torch.dtype) -> None:
    axes = torch.arange(1, D + 1, dtype=torch.float64)
    a = torch.diag(2 / axes**2)
    net = nets.quadric(a, torch.zeros(D, dtype=torch.float64), -1.0, dtype=dtype)
    unit = nets.gaussian(4, D)
    x = unit / unit.norm(dim=1, keepdim=True) * axes
    expected = torch.zeros(D, D, dtype=torch.float64)
    for row in x:
        g = a @ row
        p = torch.eye(D, dtype=torch.float64) - torch.outer(g, g) / (g @ g)
        expected += p @ a @ p / g.norm() / len(x)
    points = points_at(x.to(dtype).reshape(4, *nets.SHAPE))
    found = mean_shape_operator(net, points, hvp="exact").dense()
    assert worst(found, expected) < TOLERANCE[dtype]
    # At the end of an axis a ellipsoid's curvatures are a / b^2 for the other axes b.
    end = torch.zeros(1, D, dtype=dtype)
    end[0, 2] = axes[2]
    tip = mean_shape_operator(net, points_at(end.reshape(1, *nets.SHAPE)), hvp="exact").dense()
    curvatures = axes[2] / axes**2
    curvatures[2] = 0
    assert worst(tip, torch.diag(curvatures)) < TOLERANCE[dtype]


@pytest.mark.parametrize("hvp", ["exact", "finite-difference"])
def test_cubic_has_the_mean_of_its_diagonal_hessians(hvp: Any) -> None:
    a = nets.gaussian(D, seed=5)
    net = nets.cubic(a, torch.ones(D, dtype=torch.float64), 0.0)
    x = nets.gaussian(7, D, seed=6)
    # The gradient is quadratic: its central difference is exact up to rounding, 1e-16 / step.
    step = 0.1 if hvp == "finite-difference" else None
    operator = mean_hessian(net, points_at(x.reshape(7, *nets.SHAPE)), hvp=hvp, step=step)
    assert worst(operator.dense(), torch.diag(a * x.mean(0))) < 1e-10


# Dense references


@pytest.mark.parametrize("which", [0, 1])
def test_operators_agree_with_dense_hessians(which: int) -> None:
    net, points = smooth()
    reference = dense(net, points)[which]
    operator = OPERATORS[which](net, points, hvp="exact")
    assert worst(operator.dense(), reference.mean(0)) < 1e-12
    v = nets.gaussian(D, 3, seed=8)
    forms = torch.einsum("dk,nde,ek->nk", v, reference, v)
    assert worst(operator.per_point_quadratic(v), forms) < 1e-12
    sums = torch.einsum("nde,ek->dk", reference, v)
    assert worst(operator.products_sum(v), sums) < 1e-12
    assert operator.products_sum(v.float()).dtype == torch.float64


@pytest.mark.parametrize("which", [0, 1])
def test_finite_difference_error_falls_with_the_square_of_the_step(which: int) -> None:
    net, points = smooth()
    reference = dense(net, points)[which].mean(0)
    coarse, fine = (
        worst(OPERATORS[which](net, points, "finite-difference", h).dense(), reference)
        for h in (2e-2, 1e-2)
    )
    # Truncation h^2/6 times the fourth derivative of f; the next term is another h^2 smaller.
    assert coarse / fine == pytest.approx(4, rel=0.05)
    assert fine < 1e-2**2
    forms = OPERATORS[which](net, points, "finite-difference", 1e-3).per_point_quadratic(
        torch.eye(D, dtype=torch.float64)
    )
    expected = dense(net, points)[which].diagonal(dim1=1, dim2=2)
    assert worst(forms, expected) < 1e-5


@pytest.mark.parametrize("activation", [nn.GELU, lambda: nn.Softplus(beta=4)])
def test_digits_network_has_the_mean_of_dense_float64_hessians(activation: Any) -> None:
    torch.manual_seed(0)
    net = Classifier(digits_cnn(activation), (1, 8, 8), dtype=torch.float64)
    images = ga.load_images("digits", split="test", limit=7).images
    points = boundary_points(net, images)
    points = points[points.converged]
    reference, shape = (t.mean(0) for t in dense(net, points))
    operator = mean_hessian(net, points, batch_size=3)
    assert (operator.kind, operator.note) == ("exact", "")
    assert worst(operator.dense(), reference) < 1e-6
    assert worst(mean_shape_operator(net, points, batch_size=3).dense(), shape) < 1e-6
    single = mean_hessian(net.to(dtype=torch.float32), points, batch_size=3)
    assert (single.dtype, single.note) == (np.float32, "")
    assert worst(single.dense(), reference) < 1e-3


# A linear operator whatever the batches, blocks and memory


@pytest.mark.parametrize("build", OPERATORS)
@pytest.mark.parametrize("hvp", ["exact", "finite-difference"])
def test_batches_blocks_and_memory_do_not_change_products(build: Any, hvp: Any) -> None:
    net, points = smooth()
    v = nets.gaussian(D, 4, seed=9).numpy()
    whole = build(net, points, hvp=hvp)
    expected = whole.matmat(v)
    for batch_size, memory in [(3, None), (3, 0), (3, 5000), (1, 0), (7, 0), (100, None)]:
        operator = build(net, points, hvp=hvp, batch_size=batch_size, memory=memory)
        for _ in range(2):  # the second time from what was kept
            assert worst(operator.matmat(v), expected) < 1e-10
        columns = np.stack([operator.matvec(column) for column in v.T], axis=1)
        assert worst(columns, expected) < 1e-10
        assert operator.products == 12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("memory", [None, 0])
def test_tangent_steps_behind_a_convolution_are_those_of_each_point(
    dtype: torch.dtype, memory: int | None
) -> None:
    """The plain way in float64: a central difference along P_i v / |P_i v| at every point."""
    torch.manual_seed(0)
    net = Classifier(digits_cnn(nn.ReLU), (1, 8, 8), dtype=dtype)
    points = boundary_points(net, ga.load_images("digits", split="test", limit=7).images)
    double, step = net.to(dtype=torch.float64), 0.05
    x = points.points.double()
    weights = torch.zeros(len(x), 10, dtype=torch.float64)
    weights.scatter_(1, points.target[:, None], 1.0).scatter_(1, points.near[:, None], -1.0)

    def gradient(at: Tensor) -> Tensor:
        at = at.view_as(x).requires_grad_()
        return torch.autograd.grad((double.module(at) * weights).sum(), at)[0].flatten(1)

    g = gradient(x.clone())
    n = g / g.norm(dim=1, keepdim=True)
    # Among the vectors one that is normal to the boundary at a point, to rounding.
    vectors = torch.cat([gaussian_rows(3), n[2:3]])
    flat, expected, forms = x.flatten(1), [], []
    for v in vectors:
        own = v - (n @ v)[:, None] * n
        length = own.norm(dim=1, keepdim=True)
        u = own / length.clamp_min(1e-300)
        rows = (gradient(flat + step * u) - gradient(flat - step * u)) * length / (2 * step)
        rows /= g.norm(dim=1, keepdim=True)
        expected.append((rows - (rows * n).sum(1, keepdim=True) * n).sum(0))
        forms.append((rows * own).sum(1))
    operator = mean_shape_operator(
        net, points, "finite-difference", step, batch_size=3, memory=memory
    )
    # Rounding moves a step across a kink that lies at its end: none does here, in either type.
    allowed = {torch.float64: 1e-10, torch.float32: 1e-4}[dtype]
    assert worst(operator.products_sum(vectors.T), torch.stack(expected, dim=1)) < allowed
    assert worst(operator.per_point_quadratic(vectors.T), torch.stack(forms, dim=1)) < allowed


def gaussian_rows(k: int) -> Tensor:
    """K random unit images of the digits, as rows."""
    rows = nets.gaussian(k, 64, seed=4)
    return rows / rows.norm(dim=1, keepdim=True)


def test_sums_of_parts_of_the_points_share_their_products() -> None:
    net, points = smooth()
    hessian, shape = mean_hessian(net, points, batch_size=3), mean_shape_operator(net, points)
    half = torch.tensor([1.0, 0, 0, 1, 1, 0, 0], dtype=torch.float64)
    found = hessian.matrix_sums(torch.stack([torch.ones_like(half), half, shape.scales]))
    hessians, shapes = dense(net, points)
    assert worst(found[0], hessians.sum(0)) < 1e-9
    assert worst(found[1], hessians[half.bool()].sum(0)) < 1e-9
    assert worst(shape.from_hessians(found[2]), shapes.sum(0)) < 1e-9
    assert hessian.products == D


def test_kept_linearisations_stay_inside_the_memory() -> None:
    net, points = smooth()
    v = np.ones(D)
    for memory in (0, 2000, 10**6):
        operator = mean_hessian(net, points, hvp="exact", batch_size=1, memory=memory)
        operator @ v
        kept = operator._products._kept.values()
        assert sum(k.nbytes for k in kept) <= memory
        assert bool(kept) == (memory > 0)


@pytest.mark.parametrize("build", OPERATORS)
def test_operator_is_symmetric_and_linear(build: Any) -> None:
    net, points = smooth()
    operator = build(net, points, hvp="exact")
    assert isinstance(operator, LinearOperator)
    assert isinstance(operator, BoundaryOperator)
    assert operator.shape == (D, D)
    assert operator.dtype == np.float64
    u, v = (nets.gaussian(D, seed=s).numpy() for s in (1, 2))
    assert u @ (operator @ v) == pytest.approx(v @ (operator @ u), rel=1e-12)
    np.testing.assert_allclose(operator.H @ v, operator @ v)
    np.testing.assert_allclose(operator @ (1e8 * v), 1e8 * (operator @ v), rtol=1e-12)
    assert not (operator @ np.zeros(D)).any()
    top = eigsh(operator, k=1, which="LA", return_eigenvectors=False)[0]
    assert top == pytest.approx(np.linalg.eigvalsh(operator.dense())[-1], rel=1e-10)


def test_only_converged_points_count() -> None:
    net, points = smooth()
    some = replace(points, converged=torch.arange(7) % 2 == 0)
    bad = some.points.clone()
    bad[1] = torch.nan
    operator = mean_hessian(net, replace(some, points=bad), hvp="exact")
    assert operator.points_used == 4
    assert worst(operator.dense(), dense(net, points[::2])[0].mean(0)) < 1e-12
    one = mean_hessian(net, points[3], hvp="exact")
    assert one.points_used == 1
    assert worst(one.dense(), dense(net, points[3])[0][0]) < 1e-12


def test_progress_counts_products(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geomadv.progress._LOG_INTERVAL", 0.0)
    net, points = smooth()
    operator = mean_hessian(net, points, progress=True)
    operator.dense()
    assert operator.products == D
    assert "product" in capfd.readouterr().err


# Kinds


def relu_network() -> tuple[Classifier, BoundaryPoints]:
    torch.manual_seed(0)
    net = Classifier(digits_cnn(nn.ReLU), (1, 8, 8), dtype=torch.float64, name="kinky")
    points = boundary_points(net, ga.load_images("digits", split="test", limit=5).images)
    return net, points[points.converged]


def test_exact_products_of_a_relu_network_are_refused() -> None:
    net, points = relu_network()
    with pytest.raises(InputError, match=r"'kinky'.*piecewise linear.*finite-difference.*smoothed"):
        mean_hessian(net, points, hvp="exact")


def test_exact_products_of_a_network_with_kinks_say_what_they_leave_out() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(D, 40), nn.ReLU(), nn.Tanh(), nn.Linear(40, 2))
    net = Classifier(module, nets.SHAPE, dtype=torch.float64)
    points = points_at(nets.gaussian(2, *nets.SHAPE))
    insisted = mean_hessian(net, points, hvp="exact")
    assert insisted.kind == "exact"
    for word in ("leave out", "kinks", "relu", "jump of the gradient"):
        assert word in insisted.note
    assert worst(insisted.dense(), dense(net, points)[0].mean(0)) < 1e-12
    auto = mean_hessian(net, points)
    assert auto.kind == "finite-difference"
    assert "finite differences, as exact products leave out" in auto.note


def test_auto_chooses_by_smoothness_and_says_so() -> None:
    net, points = smooth()
    exact = mean_hessian(net, points)
    assert (exact.kind, exact.step, exact.beta, exact.note) == ("exact", None, None, "")
    net, points = relu_network()
    difference = mean_hessian(net, points)
    # Preset of the paper: 10 sqrt(D) (max - min) / 512.
    assert (difference.kind, difference.step) == ("finite-difference", 10 * 8 / 512)
    assert np.abs(difference.dense()).max() > 0
    assert mean_hessian(net, points, step=0.3).step == 0.3


def test_smoothed_is_exact_on_the_smoothed_network() -> None:
    net, points = relu_network()
    operator = mean_hessian(net, points, hvp="smoothed")
    assert (operator.kind, operator.step, operator.beta) == ("smoothed", None, 10)
    expected = dense_smoothed(net.smoothed(10), points)
    assert operator.note == ""
    assert worst(operator.dense(), expected) < 1e-10
    assert mean_hessian(net, points, hvp="smoothed", beta=3).beta == 3


def dense_smoothed(net: Classifier, points: BoundaryPoints) -> Tensor:
    """Mean Hessian (D, D) of a smoothed network, whose module alone is not smooth."""

    def f(x: Tensor) -> Tensor:
        scores = net.scores(x.reshape(-1, *net.input_shape))
        return (
            scores.gather(1, points.target[:, None]) - scores.gather(1, points.source[:, None])
        ).sum()

    columns = torch.eye(net.dimension, dtype=torch.float64).split(1)
    x = points.points.flatten(1)
    rows = [torch.func.jvp(torch.func.grad(f), (x,), (v.expand_as(x),))[1].mean(0) for v in columns]
    return torch.stack(rows)


# Bad input


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps_are_refused(step: float) -> None:
    net, points = smooth()
    with pytest.raises(InputError, match="step"):
        mean_hessian(net, points, hvp="finite-difference", step=step)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hvp": "newton"}, "'newton'"),
        ({"hvp": "exact", "step": 0.1}, "step=0.1 has no meaning"),
        ({"hvp": "finite-difference", "beta": 3.0}, "beta=3.0 has no meaning"),
        ({"hvp": "smoothed", "beta": -1.0}, "beta"),
        ({"memory": -1}, "memory"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
@pytest.mark.parametrize("build", OPERATORS)
def test_bad_settings_are_refused(build: Any, settings: dict[str, Any], message: str) -> None:
    net, points = smooth()
    with pytest.raises(InputError, match=message):
        build(net, points, **settings)


def test_points_that_do_not_fit_are_refused() -> None:
    net, points = smooth()
    with pytest.raises(InputError, match=r"none of 7 boundary points converged"):
        mean_hessian(net, replace(points, converged=torch.zeros(7, dtype=torch.bool)))
    with pytest.raises(InputError, match=r"\(7, 1, 1, 6\)"):
        mean_hessian(net, replace(points, points=points.points.reshape(7, 1, 1, 6)))
    with pytest.raises(InputError, match="class 9"):
        mean_hessian(net, replace(points, target=torch.full((7,), 9)))


def test_half_weights_have_hessians_in_float32() -> None:
    net, points = smooth()
    half = net.to(dtype=torch.float16)
    assert half.dtype == torch.float32
    v = nets.gaussian(D, seed=5).float()
    found = mean_hessian(half, points) @ v.numpy()
    expected = mean_hessian(half.to(dtype=torch.float64), points) @ v.double().numpy()
    # Float32 rounding of two derivatives, some tens of terms each.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_vectors_that_do_not_fit_are_refused() -> None:
    net, points = smooth()
    operator = mean_hessian(net, points)
    with pytest.raises(InputError, match=r"\(5, 1\)"):
        operator.products_sum(torch.ones(5, 1))
    with pytest.raises(InputError, match="NaN"):
        operator @ np.full(D, np.nan)


class Root(nn.Module):
    """Scores [0, (x_1^2)^(3/4) + 1]: without derivatives where x_1 = 0."""

    def forward(self, x: Tensor) -> Tensor:
        f = x.flatten(1)[:, 0].square() ** 0.75 + 1
        return torch.stack([0 * f, f], dim=1)


@pytest.mark.parametrize("hvp", ["exact", "finite-difference"])
def test_a_product_that_is_not_finite_names_the_point(hvp: Any) -> None:
    net = nets.classifier(Root(), bounds=(0.0, 1.0))
    x = 0.5 + torch.rand(5, *nets.SHAPE, dtype=torch.float64, generator=torch.Generator())
    x[3, 0, 0, 0] = 0
    points = replace(points_at(x), converged=torch.tensor([True, False, True, True, True]))
    operator = mean_hessian(net, points, hvp=hvp, batch_size=2)
    with pytest.raises(InputError, match="not finite at boundary point 3"):
        operator @ np.eye(D)[1]
    with pytest.raises(InputError, match="not finite at boundary point 3"):
        operator.per_point_quadratic(torch.eye(D, dtype=torch.float64))
    with pytest.raises(InputError, match=r"gradient .* boundary point 3"):
        mean_shape_operator(net, points, hvp=hvp)


@pytest.mark.parametrize(("hvp", "linear"), [("exact", True), ("finite-difference", False)])
def test_only_finite_differences_are_not_linear(hvp, linear):
    net, points = smooth()
    assert mean_hessian(net, points, hvp=hvp).linear is linear
