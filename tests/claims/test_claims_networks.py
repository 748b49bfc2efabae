"""Nulls that the experiments store, and claims on networks whose geometry is known."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from networks_for_tests import WIDE, classifier, gaussian, linear, orthogonal_frame

from geomadv import ImageSet, experiments
from geomadv.claims import CLAIMS, judge
from geomadv.errors import InputError
from geomadv.labels import IMAGE
from geomadv.linalg import NestedSubspaces

SHAPE, D = (1, 6, 6), 36
NAMED = {claim.name: claim for claim in CLAIMS}


def answer(name, ds):
    (found,) = judge({NAMED[name].experiment: ds}, [NAMED[name]])
    return found.answer


class Along(torch.nn.Module):
    """Two classes: the score of the second is a shape along one direction, and linear in others."""

    def __init__(self, shape):
        super().__init__()
        self.register_buffer("frame", orthogonal_frame(D, 2))
        self.shape = shape

    def forward(self, x):
        along, other = (x.flatten(1) @ self.frame).T
        score = self.shape(along) + 2 * other
        return torch.stack([torch.ones_like(score), score], 1)


def directions(leading):
    """Directions of one class as `curved_directions` gives them: the leading one, and others."""
    rows = np.random.default_rng(2).standard_normal((3, 10, D))
    rows[0] = leading
    axes, families = ("class", "family", "direction"), ["positive", "flat", "random"]
    return xr.Dataset(
        {
            "direction_image": ((*axes, *IMAGE), rows.reshape(1, 3, 10, *SHAPE)),
            "curvature": (axes, np.zeros((1, 3, 10))),
            "family_name": ("family", families),
            "target": ("class", [1]),
            "median_distance": ("class", [1.0]),
        },
        coords={"class": ["one"], "family": families},
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(lambda t: t**2 / 4, "holds"), (lambda t: t / 2, "does not hold")],
    ids=["parabola", "straight line"],
)
def test_a_parabola_is_entered_either_way_and_a_straight_line_is_not(shape, expected):
    net = classifier(Along(shape), SHAPE)
    x, curved = gaussian(60, *SHAPE, seed=1), directions(orthogonal_frame(D, 2)[:, 0].numpy())
    scales = np.linspace(-6, 6, 13)
    sweep = experiments.class_direction_sweep(net, x, curved, scales)
    assert answer("positive_enters", sweep) == expected
    curves = experiments.class_score_curves(net, x, curved, scales, draws=5)
    assert answer("positive_symmetric", curves) == expected


def test_directions_that_the_weights_use_are_few_and_others_are_not():
    q = orthogonal_frame(D, D)
    net = linear(gaussian(3, 2, seed=1) @ q[:, :2].T, torch.zeros(3).double(), shape=SHAPE)
    x = gaussian(300, *SHAPE, seed=3)
    images = ImageSet(x, net.predict(x), bounds=WIDE)
    families = {
        "positive": NestedSubspaces(q),
        "negative": NestedSubspaces(q.flip(1)),
        "flat": NestedSubspaces(q.flip(1), description="smallest curvature"),
        "random": experiments.random_family(D, draws=10),
    }
    ds = experiments.subspace_accuracy(net, {"test": images}, x.mean(0), families)
    assert answer("positive_dimensions", ds) == "holds"
    assert answer("negative_dimensions", ds) == "does not hold"
    assert answer("flat_accuracy", ds) == "holds"
    turned = ds.assign_coords(family=["negative", "positive", "random", "flat"])
    assert answer("positive_dimensions", turned) == "does not hold"


def test_images_take_the_draws_of_a_family_in_turns():
    q, net = orthogonal_frame(D, D), linear(gaussian(3, D, seed=1), torch.zeros(3).double(), SHAPE)
    x = gaussian(31, *SHAPE, seed=3)
    images = ImageSet(x, net.predict(x), bounds=WIDE)
    draws = [NestedSubspaces(q), NestedSubspaces(q.flip(1)), NestedSubspaces(q.roll(5, 1))]
    families = {"random": draws} | {f"draw {i}": one for i, one in enumerate(draws)}
    splits = {"a": images[:10], "b": images[10:]}
    ds = experiments.subspace_accuracy(net, splits, x.mean(0), families, [0, 3, 20], batch_size=4)
    assert ds["draws"].to_numpy().tolist() == [3, 1, 1, 1]
    fractions = experiments.norm_fractions({"k": x}, families, [3, 20])["fraction"].sel(kind="k")
    for i in range(31):
        for values in (ds["prediction"], fractions):
            one = values.isel(sample=i)
            expected = one.sel(family=f"draw {i % 3}")
            np.testing.assert_allclose(one.sel(family="random"), expected, rtol=1e-12)
    with pytest.raises(InputError, match="at least one family"):
        experiments.norm_fractions({"k": x}, {"none": []})
    with pytest.raises(InputError, match="draws of the same dimension at every d"):
        experiments.norm_fractions({"k": x}, {"random": [draws[0], NestedSubspaces(q[:, :-1])]})


def test_random_families_are_uniform_and_reach_all_of_space():
    draws = experiments.random_family(D, width=5, draws=40, seed=1)
    assert [draws[0].steps, *draws[0].sizes[[0, 1, -1]]] == [8, 0, 5, D]
    vector = gaussian(D, seed=1).float()
    share = [float((n.subspace(2).basis.T @ vector).square().sum()) for n in draws]
    # Mean d / D; the share has deviation sqrt(2 d (D - d) / D) / D = 0.11, of 40 draws 0.017.
    assert np.mean(share) / float(vector @ vector) == pytest.approx(10 / D, abs=0.06)
    # Here 5e-5 of the last of 192 columns lies outside the others' span: little, but exact.
    (nearly,) = experiments.random_family(192, draws=1, seed=1120)
    assert nearly.sizes[-1] == 192
    assert nearly.basis.dtype == torch.float32


def test_principal_components_of_images_come_by_variance(monkeypatch):
    q, scale = orthogonal_frame(D, D), torch.arange(D, 0, -1).double()
    rows = gaussian(4000, D, seed=2) * scale @ q.T + 3
    images = ImageSet(rows.reshape(-1, *SHAPE).float(), bounds=(-1e3, 1e3))
    whole = experiments.image_family(images, width=5)
    assert (whole.steps, whole.sizes[-1]) == (8, D)
    covariance = np.cov(rows.T.numpy())
    leading = np.linalg.eigh(covariance)[1][:, ::-1][:, :10]
    # Of the images themselves: to rounding of float32 over the gap of neighbouring variances.
    cosines = np.linalg.svd(leading.T @ whole.subspace(2).basis.double().numpy())[1]
    assert cosines.min() > 1 - 1e-5
    monkeypatch.setattr("geomadv.experiments.subspaces.families.DENSE", 10)
    part = experiments.image_family(images, width=5)
    assert part.sizes[-1] == 35
    cosines = np.linalg.svd(leading[:, :5].T @ part.subspace(4).basis.double().numpy())[1]
    assert cosines.min() > 0.9


def test_uniform_labels_have_about_all_classes():
    source = np.arange(3000) % 10
    ds = experiments.label_graph(source, (source + 1) % 10, [str(c) for c in range(10)])
    # Each source has its own label: ten of them, of 300 images each.
    assert float(ds["effective_labels"]) == pytest.approx(3000 * 2999 / (10 * 300 * 299))
    assert float(ds["uniform_effective_labels"].mean()) == pytest.approx(10, rel=0.02)
    alone = experiments.label_graph([0, 1], [1, 1], "ab")
    assert math.isnan(float(alone["effective_labels"]))


def test_squared_cosines_of_uniform_normals_and_of_one_direction():
    rows = torch.nn.functional.normalize(gaussian(1500, D, seed=4), dim=1)
    rows[3] = torch.nan
    with pytest.warns(UserWarning, match="skipped"):
        ds = experiments.normal_spectrum(rows, SHAPE, 5)
    cosines = ds["squared_cosine"]
    assert 990 < cosines.sizes["point"] <= 1000
    # 1 / D; means over 1,000 others of a quantity of deviation sqrt(2) / D.
    np.testing.assert_allclose(cosines.mean(), 1 / D, rtol=0.01)
    assert float(cosines.std()) < 0.1 / D
    same = experiments.normal_spectrum(rows[:1].repeat(20, 1), SHAPE, 1)
    np.testing.assert_allclose(same["squared_cosine"], 1, rtol=1e-12)


def test_noise_beside_rescaled_perturbations_has_their_norms():
    weight = gaussian(2, D, seed=1)
    net = linear(weight, torch.zeros(2).double(), SHAPE)
    x = gaussian(200, *SHAPE, seed=2)
    ds = experiments.resampling(net, ImageSet(x, net.predict(x), bounds=WIDE), [6], [1, 10])
    assert ds["fooling_rate"].to_numpy().ravel().tolist() == [1, 1]
    # A random step of norm f ||r|| goes across where its cosine with the normal exceeds 1 / f; one
    # of D = 36 exceeds 1 / 10 with probability 0.278, a rate of 200 images is known to 0.032.
    rates = ds["noise_fooling_rate"].to_numpy().ravel()
    assert rates[0] == 0
    assert rates[1] == pytest.approx(0.278, abs=0.1)


def test_noise_collides_only_where_nothing_is_left_to_do():
    net = linear(gaussian(4, D, seed=1), torch.zeros(4).double(), SHAPE)
    few = experiments.CollisionSettings(pairs=20, relative_epsilons=(0.1, 0.5), steps=5)
    ds = experiments.softmax_directions(net, gaussian(60, *SHAPE, seed=2), few)
    assert ds["noise_collision"].shape == (2, 20)
    assert not ds["noise_collision"].any()
    assert ds["random_parallel_cosine"].shape == (10, 2)
    assert (ds["random_parallel_cosine"] < 1).all()
