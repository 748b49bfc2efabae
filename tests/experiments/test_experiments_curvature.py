"""Principal curvatures of whole classes: known quadrics, resampling, halves, the digits."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from networks_for_tests import gaussian, perceptron, quadric, sphere
from scipy.integrate import trapezoid
from test_distributed import together

from geomadv import (
    Classifier,
    ImageSet,
    InputError,
    experiments,
    load,
    load_images,
    load_network,
    plotting,
)
from geomadv.boundary import boundary_points
from geomadv.cli import main
from geomadv.curvature import BoundaryOperator, mean_hessian, mean_shape_operator
from geomadv.experiments.principal.uncertainty import random_halves
from geomadv.results import Store

SETTINGS = experiments.CurvatureSettings(count=40, tolerance=1e-8, draws=200)


def images_near_zero(net, n=40, spread=0.3):
    """Images of class 0 around the origin, by construction of the pairs of networks_for_tests."""
    x = spread * gaussian(n, *net.input_shape, seed=5)
    return ImageSet(x, labels=np.zeros(n, dtype=int), bounds=net.bounds, class_names=["a", "b"])


def test_a_quadric_is_found_exactly():
    """With f = x^T A x / 2 + b.x + c: the mean Hessian is A, whatever the points."""
    values = np.array([4.0, 2.0, 1.0, -0.5, -1.0, -3.0])
    net = quadric(torch.diag(torch.from_numpy(values)), torch.full((6,), 0.5), -1.0)
    images = images_near_zero(net)
    ds = experiments.class_curvature(net, images, 1, SETTINGS)
    assert int(ds["points_used"][0]) > 10
    # Float64 sums over a few dozen points.
    assert np.abs(ds["hessian_value"][0] - values).max() < 1e-12
    directions = ds["hessian_direction"].to_numpy()[0].reshape(6, 6)
    assert np.abs(np.abs(directions) - np.eye(6)).max() < 1e-10
    assert ds["hessian_converged"].all()
    # Every point has the same Hessian: halves agree and resampling changes nothing.
    assert float(np.nanmax(ds["half_angle"])) < 1e-7
    interval = ds["hessian_interval"].to_numpy()[0]
    extremes = np.stack([values[:3], values[::-1][:3]])
    assert np.abs(interval - extremes[:, :, None]).max() < 1e-12
    # Central differences of a quadratic are exact but for rounding, eps |gradient| / h.
    assert np.abs(ds["sweep"][0] - extremes).max() < 1e-10
    assert ds["kind"].attrs["flag_meanings"].split()[1 + int(ds["kind"][0])] == "exact"


@pytest.mark.parametrize("inside_target", [False, True])
def test_the_shape_operator_of_a_sphere(inside_target):
    """Mean of (I - n n^T) / r over the points: its trace is (D - 1) / r, with the sphere's sign."""
    radius = 2.0
    net = sphere(radius, inside_target=inside_target)
    images = images_near_zero(net, spread=0.3 if not inside_target else 3.0)
    ds = experiments.class_curvature(net, images, 1, SETTINGS)
    sign = -1 if inside_target else 1
    assert float(ds["shape_value"].sum()) == pytest.approx(sign * 5 / radius, rel=1e-9)
    assert float(ds["hessian_value"].sum()) == pytest.approx(sign * 12, rel=1e-9)
    assert (sign * ds["shape_value"] > 0).all()


def test_a_full_spectrum_takes_the_products_of_the_whole_mean_alone(monkeypatch):
    """Shape operator and halves come from the same products, and are what their own would give."""
    products = []
    plain = BoundaryOperator.matrix_sums

    def counted(self, factors):
        found = plain(self, factors)
        products.append(self.products)
        return found

    monkeypatch.setattr(BoundaryOperator, "matrix_sums", counted)
    net = perceptron(bounds=(-10.0, 10.0))
    x = gaussian(30, *net.input_shape, seed=3)
    labels = net.predict(x)
    images = ImageSet(x, labels, bounds=net.bounds)
    ds = experiments.class_curvature(net, images, 1, SETTINGS)
    assert products == [net.dimension]
    points = boundary_points(net, images.images[labels != 1], target=1, boundary="region")
    points = points[points.converged]
    shape = mean_shape_operator(net, points).dense()
    expected = np.linalg.eigvalsh(shape)[::-1]
    assert np.abs(ds["shape_value"].to_numpy()[0] - expected).max() < 1e-9 * np.abs(expected).max()
    halves = random_halves(len(points), SETTINGS.seed)
    leading = [np.linalg.eigh(mean_hessian(net, points[i]).dense())[1][:, -1] for i in halves]
    angle = np.arccos(min(1.0, abs(leading[0] @ leading[1])))
    assert float(ds["half_angle"].sel(end="positive")[0, 0, 0]) == pytest.approx(angle, abs=1e-7)


@pytest.mark.parametrize("used", [0, 1])
def test_classes_without_enough_points_are_recorded_not_solved(used):
    net = perceptron(bounds=(-10.0, 10.0))
    x = gaussian(30, *net.input_shape, seed=3)
    labels = net.predict(x)
    # DeepFool finds no boundary of a class from where the network is in it already.
    inside = x[labels == 1]
    x = torch.cat([x[labels != 1][:used], inside])
    wrong = torch.zeros(len(inside), dtype=torch.int64)
    chosen = ImageSet(x, torch.cat([labels[labels != 1][:used], wrong]), bounds=net.bounds)
    ds = experiments.class_curvature(net, chosen, 1, SETTINGS)
    assert int(ds["points_used"][0]) == used
    assert int(ds["points_tried"][0]) == len(chosen)
    assert ds["hessian_value"].isnull().all()
    assert int(ds["kind"][0]) == -1


def test_ends_only_agree_with_the_full_spectrum_and_give_its_density():
    net = perceptron(bounds=(-10.0, 10.0), shape=(1, 6, 7))
    x = gaussian(40, *net.input_shape, seed=3)
    images = ImageSet(x, net.predict(x), bounds=net.bounds)
    full = experiments.class_curvature(net, images, 1, SETTINGS)
    ends = experiments.class_curvature(
        net, images, 1, experiments.CurvatureSettings(**{**vars(SETTINGS), "pairs": 4})
    )
    assert full.sizes["pair"] == 42
    assert ends.sizes["pair"] == 8
    expected = full["hessian_value"].to_numpy()[0]
    found = ends["hessian_value"].to_numpy()[0]
    # Values err by the square of the residual over the gap; 1e-8 is the residual.
    assert np.abs(found - expected[np.r_[:4, -4:0]]).max() < 1e-7 * np.abs(expected).max()
    grid, density = ends["density_value"].to_numpy()[0], ends["density"].to_numpy()[0]
    assert trapezoid(density, grid) == pytest.approx(1, abs=1e-2)


def test_bad_input():
    net = perceptron(bounds=(-10.0, 10.0))
    x = gaussian(6, *net.input_shape)
    images = ImageSet(x, np.arange(6) % 5, bounds=net.bounds)
    with pytest.raises(InputError, match="target=7"):
        experiments.class_curvature(net, images, 7)
    with pytest.raises(InputError, match="class 2 only"):
        experiments.class_curvature(net, images.of_class(2), 2)
    for name in ("count", "pairs", "extremes", "draws", "random_draws"):
        with pytest.raises(InputError, match=name):
            experiments.CurvatureSettings(**{name: 0})
    for wrong in ((), (0.0,), (-1.0,), (float("inf"),)):
        with pytest.raises(InputError, match="sweep_factors"):
            experiments.CurvatureSettings(sweep_factors=wrong)
    for tolerance in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="tolerance"):
            experiments.CurvatureSettings(tolerance=tolerance)
    with pytest.raises(InputError, match="half_dimensions"):
        experiments.CurvatureSettings(half_dimensions=(0,))


def refuse_search(monkeypatch):
    def search(*_, **__):
        raise AssertionError("boundary points were looked for")

    monkeypatch.setattr("geomadv.experiments.principal.principal_curvature.boundary_points", search)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": 0.0}, "step=0.0"),
        ({"hvp": "finite-difference", "step": -1.0}, "step=-1.0"),
        ({"beta": 5.0}, "beta=5.0 has no meaning"),
        ({"hvp": "newton"}, "'newton'"),
    ],
)
def test_products_that_make_no_sense_are_refused_before_boundary_points(monkeypatch, change, words):
    refuse_search(monkeypatch)
    net = perceptron(bounds=(-10.0, 10.0))
    images = ImageSet(gaussian(6, *net.input_shape), np.arange(6) % 5, bounds=net.bounds)
    with pytest.raises(InputError, match=words):
        experiments.class_curvature(net, images, 2, experiments.CurvatureSettings(**change))


class Bump(torch.nn.Module):
    """Linear to rounding but near one image, where its second score bends."""

    def __init__(self, centre):
        super().__init__()
        self.linear = torch.nn.Linear(12, 3)
        self.register_buffer("centre", centre)

    def forward(self, x):
        near = torch.exp(-100 * (x - self.centre).square().flatten(1).sum(1))
        return self.linear(x.flatten(1)) + near[:, None] * torch.eye(3).to(x)[1]


@pytest.mark.parametrize(("bends", "error"), [(False, InputError), (True, AssertionError)])
def test_exact_products_are_refused_early_where_the_images_show_no_curvature(
    monkeypatch, bends, error
):
    refuse_search(monkeypatch)
    x = (0.5 + 0.2 * gaussian(6, 3, 2, 2)).clamp(0, 1)
    net = Classifier(Bump(x[0] if bends else 1 - x[0]), (3, 2, 2), dtype=torch.float64)
    assert net.is_piecewise_linear
    images, settings = ImageSet(x, np.arange(6) % 3), experiments.CurvatureSettings(hvp="exact")
    with pytest.raises(error, match=r"piecewise linear|looked for"):
        experiments.class_curvature(net, images, 2, settings)


def test_the_paper_preset_has_the_papers_numbers():
    net = perceptron(bounds=(0.0, 255.0), shape=(1, 28, 28))
    paper = experiments.paper_settings(net)
    assert (paper.count, paper.position, paper.boundary) == (100, 0.8, "pair")
    assert (paper.deepfool.max_iter, paper.deepfool.overshoot) == (5, 0.05)
    assert (paper.hvp, paper.tolerance, paper.pairs) == ("finite-difference", 1e-5, None)
    assert paper.step == pytest.approx(10 * 28 * 255 / 512)


def without_classes(ds, skipped):
    """The result as it would be had these classes had no boundary points."""
    per_class = {n: v for n, v in ds.data_vars.items() if "class" in v.dims and v.dtype.kind == "f"}
    blank = {name: v.where(~skipped).transpose(*v.dims) for name, v in per_class.items()}
    blank["kind"] = ds["kind"].where(~skipped, -1).assign_attrs(ds["kind"].attrs)
    return ds.assign({n: v.assign_attrs(ds[n].attrs) for n, v in blank.items()})


def test_classes_are_joined_named_and_told_once_they_are_kept(tmp_path):
    net, images = load_network("digits-cnn"), load_images("digits", split="train").sample(60, 0)
    settings = experiments.CurvatureSettings(count=12, pairs=2, draws=10, density_steps=5)
    told = []

    with Store(tmp_path / "a.h5", {}) as store:

        def tell(ds, name):
            assert store.has(f"class-{name}")
            told.append((name, int(ds["target"][0])))

        for _ in range(2):
            ds = experiments.curvature(
                net, images, ["8", 3, "3"], settings, keep=store, tell=tell
            ).load()
    assert told == [("8", 8), ("3", 3)]
    assert ds["class"].to_numpy().tolist() == ["8", "3"]
    for i, target in enumerate((8, 3)):
        one = experiments.class_curvature(net, images, target, settings)
        rest = ds.isel({"class": [i]}).drop_vars(["class", "random_angle", "wall_time"])
        xr.testing.assert_equal(rest, one.drop_vars("wall_time"))
    assert "note" not in ds.attrs
    with pytest.raises(InputError, match=r"classes: .* has no class cat, 10; it has 0, 1"):
        experiments.curvature(net, images, ["cat", 10])


# The command


COMMAND = ("run", "curvature")
TWO = ("--curvature.classes", "0", "3", "--curvature.count", "40")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    assert main([*COMMAND, *TWO, "--results", str(results)]) == 0
    return results


def test_the_command_stores_classes_and_shows_the_headline(digits):
    with xr.open_dataset(digits / "digits-cnn" / "curvature.h5") as ds:
        assert ds["class"].to_numpy().tolist() == ["0", "3"]
        assert ds["target"].to_numpy().tolist() == [0, 3]
        assert (ds["points_used"] >= 10).all()
        assert ds["hessian_converged"].all()
        assert (ds["hessian_value"].diff("pair") <= 0).all()
        # Halves share their leading direction far better than chance.
        first = ds["half_angle"].sel(half_dimension=1).isel(angle=0)
        random = ds["random_angle"].sel(half_dimension=1).isel(angle=0)
        assert float(first.median()) < float(random.median()) / 2


@pytest.mark.parametrize(
    "name", ["curvature_profile", "curvature_directions", "sharedness", "scale_sweep"]
)
def test_figures_are_drawn(digits, name):
    with xr.open_dataset(digits / "digits-cnn" / "curvature.h5") as ds:
        ds = ds.load()
    figure = getattr(plotting, name)(ds)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    # Classes that were skipped leave a gap, not an error; a result of such classes alone says so.
    getattr(plotting, name)(without_classes(ds, ds["target"] != 3)).draw_without_rendering()
    with pytest.raises(InputError, match="no class"):
        getattr(plotting, name)(without_classes(ds, ds["target"] >= 0))


def test_the_spectral_density_is_drawn_where_only_the_ends_are_known(digits):
    net, images = load_network("digits-cnn"), load_images("digits", split="train")
    settings = experiments.CurvatureSettings(count=30, pairs=2, draws=10, density_steps=10)
    ds = experiments.class_curvature(net, images, 3, settings).assign_coords({"class": ["3"]})
    figure = plotting.spectral_density(ds)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    drawn = [line for line in axes.get_lines() if len(line.get_xdata()) == ds.sizes["grid"]]
    np.testing.assert_array_equal(drawn[0].get_ydata(), ds["density"][0])
    full = load(digits / "digits-cnn" / "curvature.h5")
    with pytest.raises(InputError, match="no spectral density"):
        plotting.spectral_density(full)
    # Steps over many kinks: the products are not those of a symmetric matrix, there is no density.
    kinked = experiments.CurvatureSettings(
        count=30, pairs=2, draws=10, hvp="finite-difference", step=1.0
    )
    relu = load_network("digits-relu")
    ds = experiments.class_curvature(relu, images, 3, kinked).assign_coords({"class": ["3"]})
    assert float(ds["hessian_asymmetry"][0]) > 1 / kinked.density_steps
    with pytest.raises(InputError, match="symmetric matrix"):
        plotting.spectral_density(ds)


def test_two_processes_that_divide_the_points_of_a_class_store_what_one_stores(digits, tmp_path):
    class_3 = ["--curvature.classes", "3", *TWO[3:], "--results", str(tmp_path)]
    codes, said = together(2, lambda _: main([*COMMAND, *class_3]), tmp_path)
    assert codes == [0, 0], said
    one = xr.load_dataset(digits / "digits-cnn" / "curvature.h5").sel({"class": ["3"]})
    two = xr.load_dataset(tmp_path / "digits-cnn" / "curvature.h5")
    assert two["points_used"].equals(one["points_used"])
    for name in ("hessian_value", "shape_value", "hessian_interval", "sweep"):
        scale = float(np.abs(one[name]).max())
        # Float32 products: smaller batches round differently, and differences amplify by 1 / h.
        tolerance = 1e-2 if name == "sweep" else 1e-4
        assert float(np.abs(two[name] - one[name]).max()) < tolerance * scale


def test_a_killed_run_continues_with_the_next_class(digits, tmp_path, capsys):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "geomadv", *COMMAND, *TWO, "--results", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as running:
        assert any(line.startswith("class 0:") for line in running.stdout)
        running.kill()
    # The settings are those of what was begun.
    assert main([*COMMAND, "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "class 0:" not in said
    assert "class 3:" in said
    one = xr.load_dataset(digits / "digits-cnn" / "curvature.h5")
    two = xr.load_dataset(tmp_path / "digits-cnn" / "curvature.h5")
    xr.testing.assert_equal(one.drop_vars("wall_time"), two.drop_vars("wall_time"))
