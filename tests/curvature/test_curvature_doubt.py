"""Directions that are no eigenvectors, steps beyond the boundary, points that cancel, one space."""

import dataclasses
import math
import warnings

import networks_for_tests as nets
import numpy as np
import pytest
import torch
import xarray as xr
from claims_for_tests import QUICK, accuracy, crossed
from scipy.sparse.linalg import LinearOperator

import geomadv as ga
from geomadv import experiments, plotting
from geomadv.claims import judge
from geomadv.claims.friends import FRIENDS
from geomadv.curvature import principal_curvatures
from geomadv.errors import InputError, UnconvergedWarning
from geomadv.experiments.principal.uncertainty import sign_shares
from geomadv.linalg.doubt import CANCEL, COARSE, NO_EIGENVECTOR, Doubt, cancels, coherence, doubt_of
from geomadv.pipeline.subspaces import tell_fractions

IGNORED = "ignore::geomadv.errors.UnconvergedWarning"


class NotLinear(LinearOperator):
    """A matrix that says of itself that it is not linear."""

    linear = False

    def __init__(self, matrix):
        self.matrix, self.products = matrix, 0
        super().__init__(matrix.dtype, matrix.shape)

    def _matmat(self, x):
        self.products += x.shape[1]
        return self.matrix @ x


class Saw(torch.nn.Module):
    """Sum over pixels of a triangle wave folded `folds` times, with 2^folds kinks a pixel."""

    def __init__(self, folds):
        super().__init__()
        self.folds = folds

    def forward(self, x):
        y = x.flatten(1)
        for _ in range(self.folds):
            y = (2 * y).abs() - 1
        return y.sum(1)


def planted(values, seed=0):
    q = nets.orthogonal_frame(len(values), len(values), seed).numpy()
    return (q * np.asarray(values)) @ q.T, q


def saw(folds):
    net = nets.classifier(nets.Pair(Saw(folds)), (1, 3, 4), torch.float64)
    points = ga.boundary_points(net, nets.gaussian(40, 1, 3, 4) * 0.5, target=1)
    return net, points[points.converged]


def mean_square_cosine(first, second):
    return float(torch.linalg.matrix_norm(first.T @ second) ** 2) / first.shape[1]


# One Krylov space for any number of pairs


@pytest.mark.parametrize("which", ["all", "both", "positive", "negative"])
def test_an_operator_that_is_not_linear_is_never_solved_in_the_pixel_basis(which):
    values = np.linspace(3, -2, 24)
    matrix, q = planted(values)
    operator = NotLinear(matrix)
    found = principal_curvatures(operator, k=12, which=which, tolerance=1e-8)
    expected = {"positive": values[:12], "negative": values[12:]}.get(which, values)
    # 24 products of numbers of size 3 in float64.
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    assert found.converged.all()
    assert found.products == operator.products == 24 + len(expected)
    assert found.complete == (len(expected) == 24)
    columns = q[:, np.isin(values, expected)]
    assert np.abs(np.abs((columns * found.directions.numpy()).sum(0)) - 1).max() < 1e-12


@pytest.mark.parametrize(
    "values", [[5, 3, -4] + [0] * 17, [2] * 10 + [-1] * 10, [0] * 20, [1] * 20]
)
def test_invariant_spaces_are_left_for_all_directions(values):
    matrix, _ = planted(sorted(values, reverse=True))
    found = principal_curvatures(NotLinear(matrix), which="all", tolerance=1e-8)
    np.testing.assert_allclose(found.values, sorted(values, reverse=True), atol=1e-12)
    gram = found.directions.T @ found.directions
    np.testing.assert_allclose(gram, np.eye(20), atol=1e-12)
    assert found.which == "both"
    assert found.converged.all()


def test_too_many_dimensions_are_refused_before_any_product():
    class Large(NotLinear):
        def __init__(self):
            self.products = 0
            LinearOperator.__init__(self, np.float32, (5000, 5000))

    operator = Large()
    with pytest.raises(InputError, match="4096"):
        principal_curvatures(operator, which="all")
    assert operator.products == 0


@pytest.mark.filterwarnings(IGNORED)
def test_leading_directions_of_digits_do_not_depend_on_how_many_are_asked_for():
    net, images = ga.load_network("digits-relu"), ga.load_images("digits", split="train")
    others = images[images.labels != 3].sample(30, 0)
    points = ga.boundary_points(net, others.images, target=3, position=0.8)
    H = ga.mean_hessian(net, points)
    found = {k: principal_curvatures(H, k).directions for k in (5, 20)}
    whole = principal_curvatures(H, which="all").directions
    # All come from a space of some 64 vectors in float32, grown from one; the matrix in the pixel
    # basis gives 0.7 to 0.9.
    for directions in found.values():
        assert mean_square_cosine(directions[:, :5], whole[:, :5]) > 0.999
        assert mean_square_cosine(directions[:, -5:], whole[:, -5:]) > 0.999


@pytest.mark.filterwarnings(IGNORED)
def test_equal_spaces_give_equal_directions_whatever_is_asked_for():
    """With D = 12 dimensions six pairs at either end exhaust the space, as all twelve do."""
    net, points = saw(4)
    H = ga.mean_hessian(net, points, hvp="finite-difference", step=0.3)
    both, whole = principal_curvatures(H, 6, "both"), principal_curvatures(H, which="all")
    torch.testing.assert_close(both.directions, whole.directions, rtol=0, atol=1e-10)
    one = principal_curvatures(H, 12, "positive")
    torch.testing.assert_close(one.values, whole.values, rtol=0, atol=1e-10)


# No eigenvectors


def test_a_piecewise_linear_network_whose_directions_are_no_eigenvectors():
    net, points = saw(4)
    H = ga.mean_hessian(net, points, hvp="finite-difference", step=0.3)
    with pytest.warns(UnconvergedWarning, match=f"{NO_EIGENVECTOR}|{CANCEL}"):
        found = principal_curvatures(H, which="all")
    image = H @ found.directions.numpy()
    rest = np.linalg.norm(image - found.values.numpy() * found.directions.numpy(), axis=0)
    residuals = rest / found.values.abs().max()
    np.testing.assert_allclose(found.residuals, residuals, rtol=1e-12)
    assert (found.residuals > 1).all()
    assert found.step_distances == pytest.approx(0.3 / np.median(points.distance))
    doubt = doubt_of(found.residuals, [found.step_distances])
    assert doubt.mostly_none
    assert doubt.coarse
    assert NO_EIGENVECTOR in doubt.words
    assert COARSE in doubt.words


@pytest.mark.parametrize(
    ("doubt", "words"),
    [
        (Doubt(), ""),
        (Doubt(0.0, 1.0), ""),
        (Doubt(1.0), "no eigenvector"),
        (Doubt(0.25, 0.5), "25 % no eigenvector"),
        (Doubt(0.0, 4.25), "step of 4.2 distances, coarser than the boundary's distance"),
        (
            Doubt(1.0, 8),
            "no eigenvector; step of 8 distances, coarser than the boundary's distance",
        ),
    ],
)
def test_the_words(doubt, words):
    assert doubt.words == words


def test_the_rules():
    assert math.isnan(doubt_of([0.1, 1.0, 1.01, math.nan]).step_distances)
    assert doubt_of([0.1, 1.0, 1.01, math.nan]).no_eigenvector == 1 / 3
    assert doubt_of(torch.tensor([2.0]), [math.nan, 0.5, 0.7]) == Doubt(1.0, 0.7)
    assert doubt_of([], []).words == ""
    assert not Doubt(0.5).mostly_none
    assert not cancels(math.nan)


# Points that cancel


def opposite(points):
    """The same points with either of the two orders of their classes."""
    values = {
        field.name: torch.cat([getattr(points, field.name)] * 2)
        for field in dataclasses.fields(points)
    }
    turned = dataclasses.replace(points, source=points.target, target=points.source)
    values |= {name: torch.cat([getattr(p, name) for p in (points, turned)]) for name in PAIR}
    return type(points)(**values)


PAIR = ("source", "target")


@pytest.mark.parametrize("hvp", ["exact", "finite-difference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opposite_points_cancel_and_are_not_called_asymmetric(hvp, dtype):
    net = nets.perceptron(classes=2, dtype=dtype, bounds=(-10.0, 10.0))
    points = ga.boundary_points(net, nets.gaussian(6, *net.input_shape, dtype=dtype))
    points = points[points.converged][:1]
    both = opposite(points)
    H = ga.mean_hessian(net, both, hvp=hvp, step=0.5 if hvp != "exact" else None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = principal_curvatures(H, k=2)
    one = principal_curvatures(ga.mean_hessian(net, points, hvp="exact"), k=2)
    size = float(one.values.abs().max())
    # What is left is rounding of two gradients of size 1, over the step.
    assert float(found.values.abs().max()) < 1e3 * torch.finfo(dtype).eps * size
    assert found.coherence < 1e3 * torch.finfo(dtype).eps
    assert found.asymmetry < 1e3 * torch.finfo(dtype).eps
    texts = [str(w.message) for w in caught if issubclass(w.category, UnconvergedWarning)]
    assert all(CANCEL in text and "asymmetric" not in text for text in texts)
    assert one.coherence == pytest.approx(1)


def test_coherence_in_closed_form():
    """Hessians H, H and -H: a third of the points' curvature is left, whatever H."""
    net = nets.perceptron(classes=2, bounds=(-10.0, 10.0))
    points = ga.boundary_points(net, nets.gaussian(6, *net.input_shape))
    points = points[points.converged][:1]
    three = opposite(points)[[0, 0, 1]]
    found = principal_curvatures(ga.mean_hessian(net, three), k=1)
    assert found.coherence == pytest.approx(1 / 3, rel=1e-12)
    assert found.products == 6 + 2
    assert math.isnan(found.step_distances)
    assert coherence(np.array([[1.0, 0.1], [-1.0, 0.1]])) == pytest.approx(0.1)
    assert coherence(np.zeros((3, 2))) == 1


def test_asymmetry_is_relative_to_the_points():
    net, points = saw(4)
    H = ga.mean_hessian(net, points, hvp="finite-difference", step=0.3)
    with pytest.warns(UnconvergedWarning, match=CANCEL):
        found = principal_curvatures(H, which="all")
    assert 0 < found.coherence < 0.5
    assert 0 < found.asymmetry < found.coherence


def test_shares_of_signs():
    values = np.array([[1.0, -1.0, 0.0, 2.0], [2.0, 3.0, 0.0, -2.0], [-0.5, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(sign_shares(values), [2 / 3, 1 / 3, np.nan, np.nan])


# Results


def curved_class(step_distances, folds=2, pairs=None):
    net, _ = saw(folds)
    x = nets.gaussian(40, 1, 3, 4) * 0.5
    images = ga.ImageSet(x, net.predict(x), bounds=net.bounds, class_names=["a", "b"])
    settings = experiments.CurvatureSettings(
        count=40, draws=20, pairs=pairs, hvp="finite-difference", step_distances=step_distances
    )
    ds = experiments.class_curvature(net, images, 1, settings)
    return net, images, ds.assign_coords({"class": ["b"]})


@pytest.fixture(scope="module")
def coarse():
    """A result with a step of twelve boundary distances."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnconvergedWarning)
        return curved_class(12.0, folds=4)


NEW = [
    "step_distances",
    *(
        f"{name}_{what}"
        for name in ("hessian", "shape")
        for what in ("residual_range", "coherence", "point_value", "sign_share")
    ),
]


def test_a_step_is_a_multiple_of_the_distance_and_stored_as_both(coarse):
    _, _, ds = coarse
    assert float(ds["step_distances"][0]) == pytest.approx(12, rel=1e-12)
    assert float(ds["hvp_step"][0]) == pytest.approx(12 * float(ds["median_distance"][0]))
    assert experiments.class_doubt(ds).coarse


def test_per_point_values_residuals_and_signs_are_stored(coarse):
    _, _, ds = coarse
    used = int(ds["points_used"][0])
    values = ds["hessian_point_value"][0]
    assert values.dims == ("end", "extreme", "point")
    assert values.notnull().sum("point").to_numpy().tolist() == [[used] * 3] * 2
    # v^T H_i v is measured along stored directions: its mean is the pair's value.
    expected = ds["hessian_value"].to_numpy()[0][[0, 1, 2, -1, -2, -3]].reshape(2, 3)
    np.testing.assert_allclose(values.mean("point"), expected, rtol=1e-6)
    signs = np.sign(values) == np.sign(values.mean("point"))
    share = signs.where(values.notnull()).mean("point")
    np.testing.assert_allclose(ds["hessian_sign_share"][0], share, rtol=1e-12)
    residual = ds["hessian_residual"].to_numpy()[0]
    found = ds["hessian_residual_range"].sel(statistic=["min", "median", "max"])[0]
    np.testing.assert_allclose(found, [residual.min(), np.median(residual), residual.max()])
    mean, size = np.abs(values.mean("point")), np.abs(values).mean("point")
    left = float(mean.max() / size.max())
    assert float(ds["hessian_coherence"][0]) == pytest.approx(left, rel=1e-12)
    for name in NEW:
        assert {"long_name", "units"} <= set(ds[name].attrs)


def test_results_of_earlier_versions_are_read_and_doubted_as_far_as_they_tell(coarse):
    _, _, ds = coarse
    old = ds.drop_vars(NEW)
    assert experiments.class_doubt(old) == experiments.class_doubt(ds)
    assert experiments.cancellation(old) == ""
    (pairs,) = experiments.stored_curvatures(old)
    assert pairs.step_distances == pytest.approx(12)
    assert math.isnan(pairs.coherence)
    curved = experiments.curved_directions(old, 1)
    assert COARSE in experiments.line_doubt(curved).words
    for name in ("curvature_profile", "curvature_directions", "scale_sweep"):
        getattr(plotting, name)(old).draw_without_rendering()


def test_a_step_that_makes_no_sense_is_refused():
    settings = experiments.CurvatureSettings
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="step_distances"):
            settings(step_distances=wrong)
    with pytest.raises(InputError, match="one of"):
        settings(step_distances=0.5, step=0.1)
    for hvp in ("exact", "smoothed"):
        with pytest.raises(InputError, match=f"step_distances=0.5 .*{hvp}"):
            settings(hvp=hvp, step_distances=0.5)
    net = nets.perceptron(bounds=(-10.0, 10.0))
    paper = experiments.paper_settings(net, step_distances=0.5)
    assert (paper.step, paper.step_distances) == (None, 0.5)


# Figures


def texts(figure):
    found = [figure.get_suptitle()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
    return "\n".join(found)


def test_figures_mark_what_is_no_eigenvector_and_too_coarse(coarse):
    _, _, ds = coarse
    none = int((ds["hessian_residual"] > 1).sum())
    assert none > 0
    figure = plotting.curvature_profile(ds)
    assert COARSE in texts(figure)
    hollow = [line for line in figure.axes[0].get_lines() if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in hollow) == none
    assert COARSE in texts(plotting.scale_sweep(ds))
    shown = ds["hessian_residual"].to_numpy()[0][[0, 1, 2, -1, -2, -3]] > 1
    found = texts(plotting.curvature_directions(ds)).replace("\n", " ")
    assert found.count(NO_EIGENVECTOR) == shown.sum()
    good = ds.assign(
        hessian_residual=0 * ds["hessian_residual"],
        shape_residual=0 * ds["shape_residual"],
        step_distances=0 * ds["step_distances"] + 0.5,
    )
    for name in ("curvature_profile", "curvature_directions", "scale_sweep"):
        found = texts(getattr(plotting, name)(good))
        assert NO_EIGENVECTOR not in found
        assert COARSE not in found


def test_sweeps_and_subspaces_carry_the_doubt(coarse):
    net, images, ds = coarse
    curved = experiments.curved_directions(ds, 1)
    residual = ds["hessian_residual"].to_numpy()[0]
    np.testing.assert_allclose(curved["residual"].sel(family="positive"), [[residual[0]]])
    np.testing.assert_allclose(curved["residual"].sel(family="negative"), [[residual[-1]]])
    swept = experiments.class_direction_sweep(net, images, curved, np.linspace(-1, 1, 5))
    assert float(swept["step_distances"][0]) == pytest.approx(12)
    figure = plotting.direction_sweep(swept)
    assert COARSE in texts(figure)
    assert (NO_EIGENVECTOR in texts(figure)) == bool((curved["residual"] > 1).any())
    families = experiments.curvature_families(experiments.stored_curvatures(ds))
    accuracy = experiments.subspace_accuracy(net, images, images.images.mean(0), families)
    share = accuracy["no_eigenvector_share"].sel(family="positive")
    expected = [(residual[:d] > 1).mean() if d else 0 for d in accuracy["d"].to_numpy()]
    np.testing.assert_allclose(share, expected)
    assert COARSE in plotting.subspace_accuracy(accuracy).axes[0].get_title()
    confined = experiments.confined_deepfool(net, images.images[:4], families, [2, 5], draws=1)
    share = confined["no_eigenvector_share"].sel(family="positive")
    np.testing.assert_allclose(share, [(residual[:d] > 1).mean() for d in (2, 5)])
    assert confined["no_eigenvector_share"].sel(family="random").to_numpy().tolist() == [0, 0]
    assert COARSE in plotting.confined_deepfool(confined).get_suptitle()


# Claims


def sweep_result(residual, step):
    rows = np.full((3, 4, 2), np.nan)
    rows[:, 0, 0] = residual
    doubt = {
        "residual": (("class", "family", "direction"), rows),
        "step_distances": ("class", np.full(3, step)),
    }
    return crossed(enter=0.8).assign(doubt)


@pytest.mark.parametrize(
    ("residual", "step", "answer", "words"),
    [
        ([0.1, 0.2, 0.3], 0.5, "holds", ""),
        ([0.1, 0.2, 3.0], 0.5, "holds", "33 % no eigenvector"),
        ([0.1, 2.0, 3.0], 0.5, "not measured", "67 % no eigenvector"),
        ([2.0, 2.0, 3.0], 4.0, "not measured", "no eigenvector; step of 4 distances, coarser"),
        (
            [0.1, 0.2, 0.3],
            4.0,
            "holds",
            "step of 4 distances, coarser than the boundary's distance",
        ),
        ([0.1, 0.2, 0.3], np.nan, "holds", ""),
    ],
)
def test_claims_say_on_what_directions_they_rest(residual, step, answer, words):
    claim = next(c for c in FRIENDS if c.name == "positive_enters")
    ds = sweep_result(residual, step)
    (verdict,) = judge({"direction_sweep": ds}, [claim])
    assert verdict.answer == answer
    assert words in verdict.note
    (old,) = judge({"direction_sweep": ds.drop_vars(["residual", "step_distances"])}, [claim])
    assert (old.answer, old.note) == ("holds", "")


def test_claims_on_subspaces_are_not_answered_by_no_eigenvectors():
    share = np.zeros((4, 8))
    # S_pos suffices at the third step, of which all are none; so does S_neg, of which half are.
    share[0, 3], share[1, 3] = 1, 0.5
    doubt = {
        "no_eigenvector_share": (("family", "d"), share),
        "step_distances": ("family", [0.5] * 4),
    }
    ds = accuracy(positive=QUICK, negative=QUICK).assign(doubt)
    claims = [c for c in FRIENDS if c.name in ("positive_dimensions", "negative_dimensions")]
    first, second = judge({"subspace_accuracy": ds}, claims)
    assert first.answer == "not measured"
    assert NO_EIGENVECTOR in first.note
    assert (second.answer, second.note) == ("holds", "50 % no eigenvector")


@pytest.mark.parametrize("dimensions", [[2], [2, 3], [0, 2]], ids=str)
def test_shares_are_doubted_at_the_dimensions_that_are_told(dimensions):
    """The first above zero, wherever it stands among those that were visited."""
    doubted = [0.5 * (d == 2) for d in dimensions]
    number = np.full((1, 1, len(dimensions)), 0.25)
    ds = xr.Dataset(
        {
            "mean_fraction": (("kind", "family", "d"), number),
            "random_fraction": (("family", "d"), number[0]),
            "no_eigenvector_share": (("family", "d"), [doubted]),
            "step_distances": (("family", "d"), number[0]),
        },
        {"kind": ["DeepFool"], "family": ["positive"], "d": dimensions},
    )
    assert tell_fractions(ds) == (
        "share of the norm of DeepFool at d = 2: positive (50 % no eigenvector) 0.25 (random 0.25)"
    )
