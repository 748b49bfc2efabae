"""Principal curvatures of operators with known spectra, and subspaces stacked over classes."""

import networks_for_tests as nets
import numpy as np
import pytest
import torch

import geomadv as ga
from geomadv.curvature import PrincipalCurvatures, class_subspace, principal_curvatures
from geomadv.errors import InputError, UnconvergedWarning
from geomadv.linalg import Subspace


def planted(values: np.ndarray, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    q = np.linalg.qr(generator.standard_normal((len(values), len(values))))[0]
    return (q * values) @ q.T


def unit(d: int, *positions: int) -> torch.Tensor:
    return torch.eye(d, dtype=torch.float64)[:, list(positions)]


def same_span(first: Subspace, second: torch.Tensor) -> bool:
    return first.dimension == second.shape[1] and bool(
        first.principal_angles(Subspace(second)).max() < 1e-7
    )


# Curvatures


@pytest.mark.parametrize("d", [20, 200])
@pytest.mark.parametrize("which", ["both", "positive", "negative", "all"])
def test_the_wanted_ends(d, which):
    # D = 20 goes through the dense matrix, D = 200 through the Krylov space, except for "all".
    values = np.linspace(-3, 2, d)
    found = principal_curvatures(planted(values), k=4, which=which, tolerance=1e-8)
    ordered = values[::-1]
    expected = {
        "positive": ordered[:4],
        "negative": ordered[-4:],
        "both": np.r_[ordered[:4], ordered[-4:]],
        "all": ordered,
    }[which]
    np.testing.assert_allclose(found.values, expected, atol=1e-7)
    assert found.converged.all()
    assert found.directions.shape == (d, len(expected))
    assert found.which == ("both" if which == "all" else which)
    assert found.complete == (which == "all")
    assert found.products <= d


def test_few_dimensions_are_solved_in_blocks():
    found = principal_curvatures(planted(np.linspace(-1, 1, 64)), k=20)
    assert found.products == 64
    assert len(found.values) == 40
    one_end = principal_curvatures(np.diag([1.0, 2.0, 3.0]), k=3, which="positive")
    np.testing.assert_allclose(one_end.values, [3, 2, 1])
    assert one_end.complete


def test_checkpoint_block_and_limit_are_passed_on(tmp_path):
    matrix = planted(np.linspace(-1, 1, 300))
    file = tmp_path / "state.npz"
    with pytest.warns(UnconvergedWarning, match="30 products were not enough"):
        principal_curvatures(matrix, k=3, block=4, max_products=30, checkpoint=file)
    found = principal_curvatures(matrix, k=3, block=4, checkpoint=file)
    assert found.converged.all()
    with pytest.raises(InputError, match="block: expected at least 1"):
        principal_curvatures(matrix, k=3, block=0)


def test_bad_arguments_are_refused():
    matrix = np.eye(12)
    for k, which, most in ((0, "both", 6), (7, "both", 6), (13, "negative", 12)):
        with pytest.raises(InputError, match=rf"k: expected 1 to {most} .*which='all'"):
            principal_curvatures(matrix, k=k, which=which)
    with pytest.raises(InputError, match="which: expected one of"):
        principal_curvatures(matrix, which="top")
    with pytest.raises(InputError, match="square"):
        principal_curvatures(np.ones((3, 4)), which="all")


@pytest.mark.parametrize(("which", "k"), [("both", 2), ("all", 2), ("positive", 3)])
def test_pairs_of_an_operator_that_is_not_linear_are_measured(which, k):
    # f = sum_i |q_i^T x| - 4, q_i orthonormal: the curvature at scale h along v depends on the
    # kinks that h v crosses, which no combination of products with other vectors tells.
    net = nets.classifier(nets.Pair(AbsoluteSum()), (1, 4, 4), torch.float64)
    x = nets.gaussian(30, 1, 4, 4) * 0.1
    points = ga.boundary_points(net, x)
    points = points[points.converged]
    operator = ga.mean_hessian(net, points, hvp="finite-difference", step=0.5)
    assert not operator.linear
    with pytest.warns(UnconvergedWarning, match="measured with the directions themselves"):
        found = principal_curvatures(operator, k=k, which=which)
    assert found.products == operator.products
    directions = found.directions.numpy()
    image = operator @ directions
    values = (directions * image).sum(0)
    norms = np.linalg.norm(image - values * directions, axis=0)
    # Rounding of sums over 30 points of numbers of size 1 / step.
    np.testing.assert_allclose(found.values, values, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.residuals, norms / np.abs(values).max(), rtol=0, atol=1e-12)
    assert len(values) == {"both": 4, "all": 16, "positive": 3}[which]


class AbsoluteSum(torch.nn.Module):
    def forward(self, x):
        return (x.flatten(1) @ nets.orthogonal_frame(16, 16)).abs().sum(1) - 4


# Subspaces of all classes


def classes(which: str = "all", k: int = 2) -> list[PrincipalCurvatures]:
    """Two classes in R^12 whose eigenvectors are unit vectors."""
    first = np.array([5, 4, 3, 0.1, -0.2, 0.3, 0, 0.01, 0.02, -3, -4, -5])
    second = np.roll(first, 3)
    return [principal_curvatures(np.diag(v), k=k, which=which) for v in (first, second)]


@pytest.mark.parametrize(
    ("which", "first", "second"),
    [
        ("positive", (0, 1), (3, 4)),
        ("negative", (11, 10), (2, 1)),
        ("flat", (6, 7), (9, 10)),
    ],
)
def test_directions_of_one_kind(which, first, second):
    subspace = class_subspace(classes(), 2, which)
    assert same_span(subspace, unit(12, *sorted({*first, *second})))
    # The first direction of every class, then the second ones.
    for d in (1, 2):
        leading = subspace.leading(2) if d == 1 else subspace
        assert same_span(leading, unit(12, *first[:d], *second[:d]))


def test_both_ends_give_twice_the_directions():
    subspace = class_subspace(classes(), 1, "both")
    assert same_span(subspace, unit(12, 0, 11, 3, 2))
    np.testing.assert_allclose(subspace.basis.abs(), unit(12, 0, 3, 11, 2), atol=1e-12)


def test_directions_shared_by_classes_are_counted_once():
    one = principal_curvatures(np.diag([3.0, 2.0, 1.0, -1.0]), which="all")
    assert class_subspace([one, one], 2, "positive").dimension == 2


def test_extreme_pairs_are_enough_for_curved_directions():
    for which in ("positive", "negative", "both"):
        extreme = class_subspace(classes("both"), 2, which)
        full = class_subspace(classes(), 2, which)
        assert same_span(extreme, full.basis)
    one_end = class_subspace(classes("negative"), 2, "negative")
    assert same_span(one_end, class_subspace(classes(), 2, "negative").basis)


def test_what_was_not_computed_is_refused():
    with pytest.raises(InputError, match=r"flat.*4 of 12 pairs.*complement_sample"):
        class_subspace(classes("both"), 1, "flat")
    with pytest.raises(InputError, match=r"'negative' needs the pairs of that end.*positive end"):
        class_subspace(classes("positive"), 1, "negative")
    with pytest.raises(InputError, match="'both' needs the pairs of that end"):
        class_subspace(classes("positive"), 1, "both")
    for d, which, most in ((3, "positive", 2), (0, "both", 2), (7, "both", 6), (13, "flat", 12)):
        pairs = classes("both") if most == 2 else classes()
        with pytest.raises(InputError, match=rf"d: expected 1 to {most} .*found {d}"):
            class_subspace(pairs, d, which)
    with pytest.raises(InputError, match="which: expected one of"):
        class_subspace(classes(), 1, "curved")
    with pytest.raises(InputError, match="at least one class, found none"):
        class_subspace([], 1, "positive")
    smaller = principal_curvatures(np.eye(5), which="all")
    with pytest.raises(InputError, match=r"one image size, found D in \[5, 12\]"):
        class_subspace([*classes(), smaller], 1, "positive")
