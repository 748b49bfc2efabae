"""Scores that are not finite are no class: neither class 0, nor fooled, nor silently left out."""

import math

import h5py
import numpy as np
import pytest
import torch
from networks_for_tests import gaussian
from torch import nn

import geomadv as ga
from geomadv import Classifier, ImageSet, InputError, experiments
from geomadv.experiments.softmax.last_layer import last_layer
from geomadv.experiments.subspaces.resampling import resampled
from geomadv.experiments.universality.finetuning import _trained, _with_parameters
from geomadv.linalg import NestedSubspaces, normal_svd
from geomadv.perturbations.fooling import is_fooled, labels_at, labels_of, lost

SHAPE, CLASSES = (1, 4, 4), 3
INF, NAN = math.inf, math.nan


class Cliff(nn.Module):
    """Linear scores, of which one has another value where the mean pixel exceeds a height.

    `wide`: too where it falls as far below one half.
    """

    def __init__(self, value, height, column=1, wide=False):
        super().__init__()
        self.linear = nn.Linear(16, CLASSES)
        with torch.no_grad():
            self.linear.weight.copy_(gaussian(CLASSES, 16, seed=2))
            self.linear.bias.zero_()
        self.value, self.height, self.column, self.wide = value, height, column, wide

    def forward(self, x):
        scores = self.linear(x.flatten(1))
        mean = x.mean((1, 2, 3))
        mean = 0.5 + (mean - 0.5).abs() if self.wide else mean
        beyond = (mean > self.height)[:, None]
        here = torch.arange(CLASSES) == self.column
        return torch.where(beyond & here, self.value, scores)


def cliff(value=NAN, height=0.7, column=1, wide=False):
    return Classifier(Cliff(value, height, column, wide), SHAPE, name="cliff", dtype=torch.float64)


def images(n=12, seed=0):
    """Images of mean pixel about 0.5, on the safe side of the cliff."""
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + 0.6 * torch.rand(n, *SHAPE, generator=generator, dtype=torch.float64)


def beyond(n=12):
    """The same with one image on the other side."""
    x = images(n)
    x[4] = 0.95
    return x


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("column", range(CLASSES))
def test_such_scores_have_no_label(value, column):
    net = cliff(value, column=column)
    labels = labels_at(net, beyond(), 5)
    assert lost(labels).nonzero().flatten().tolist() == [4]
    assert labels.dtype == torch.int64
    plain = cliff(height=9.0).predict(beyond())
    assert (labels == plain)[labels >= 0].all()
    # Going to no label and coming from another class are two things.
    assert not is_fooled(labels, plain).any()
    assert is_fooled(torch.tensor([2, 1, -1]), torch.tensor([1, 1, 1])).tolist() == [1, 0, 0]
    assert labels_of(torch.tensor([[0.0, NAN], [INF, 0.0], [0.0, 1.0]])).tolist() == [-1, -1, 1]


CLEAN = {
    "fgsm": lambda net, x: ga.fgsm(net, x, 0.01, batch_size=3),
    "fgsm of given classes": lambda net, x: ga.fgsm(net, x, 0.01, labels=1, batch_size=3),
    "saliency": lambda net, x: ga.saliency(net, x, batch_size=3),
    "saliency of given classes": lambda net, x: ga.saliency(net, x, labels=1, batch_size=3),
    "random subspace": lambda net, x: experiments.random_subspace_fooling(
        net, x, torch.eye(16)[:, :2], [1], [0.1], draws=2
    ),
    "norm comparison": lambda net, x: experiments.norm_comparison(
        net, images(), x, torch.ones(SHAPE), [0.1], draws=1
    ),
    "transfer": lambda net, x: experiments.transfer(
        [net, Classifier(net.module, SHAPE, name="other")], [torch.ones(SHAPE)] * 2, x
    ),
    "last layer": last_layer,
    "categories": lambda net, x: experiments.categories(net, x, [0.1]),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_images_without_a_class_are_refused(name):
    with pytest.raises(InputError, match=r"non-finite scores on 1 of \d+ images.* number 4"):
        CLEAN[name](cliff(), beyond())


def test_signs_that_lead_over_the_cliff_have_no_label():
    net, x = cliff(wide=True), images()
    for epsilon in (0.01, 0.5, 1.0):
        found = ga.fgsm(net, x, epsilon)
        over = (found.adversarial.mean((1, 2, 3)) - 0.5).abs() > 0.2
        assert over.any() == (epsilon == 1.0) or epsilon == 0.5
        assert ((found.label == -1) == over).all()
        plain = cliff(height=1e9).scores(found.adversarial).argmax(1)
        assert torch.equal(found.label[~over], plain[~over])


def test_random_vectors_count_what_they_lose():
    net, x = cliff(), images(30)
    # Along the mean pixel, 4 image units move it by 1: over the cliff or far below it.
    bright = torch.full((16, 1), 0.25, dtype=torch.float64)
    ds = experiments.random_subspace_fooling(net, x, bright, [1], [0.1, 4.0], draws=6)
    plain = experiments.random_subspace_fooling(
        cliff(height=99.0), x, bright, [1], [0.1, 4.0], draws=6
    )
    up = ds["unlabelled_share"].sel(m=1, norm=4.0).to_numpy()
    assert set(up) == {0.0, 1.0}
    rate = ds["fooling_rate"].sel(m=1, norm=4.0).to_numpy()
    np.testing.assert_array_equal(rate[up == 1], 0)
    np.testing.assert_array_equal(rate[up == 0], plain["fooling_rate"].sel(m=1, norm=4.0)[up == 0])
    assert float(ds["unlabelled_share"].sel(norm=0.1).max()) < 0.2
    assert (plain["unlabelled_share"] == 0).all()
    assert (ds["uniform_fooling_rate"] <= 1 - ds["uniform_unlabelled_share"]).all()
    assert ds["fooled_share"].dims == ("m", "norm", "sample")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_vectors_of_one_norm_count_what_they_lose(value):
    x, v = images(20), torch.ones(SHAPE)
    ds = experiments.norm_comparison(cliff(value), x, x, v, [2.0, 4.0], draws=2)
    bright = ds.sel(kind="universal").isel(draw=0)
    assert bright["unlabelled_share"].values.tolist() == [1, 1]
    assert bright["fooling_rate"].values.tolist() == [0, 0]
    assert (ds["fooling_rate"] + ds["unlabelled_share"]).max() <= 1
    assert ds["unlabelled_share"].isnull().equals(ds["fooling_rate"].isnull())


def test_transfer_counts_labels_only():
    nets = [cliff(), Classifier(Cliff(NAN, 99.0), SHAPE, name="flat", dtype=torch.float64)]
    ds = experiments.transfer(nets, [torch.ones(SHAPE)] * 2, images(), draws=2)
    assert (ds["label"].sel(network="cliff") == -1).all()
    assert (ds["fooling_rate"].sel(network="cliff") == 0).all()
    assert (ds["label"].sel(network="flat") >= 0).all()


def test_resampled_networks_and_projections_too():
    net, labels = cliff(wide=True), np.zeros(12, dtype=np.int64)
    clean = ImageSet(images().float().numpy(), labels)
    ds = experiments.resampling(net, clean, [2], factors=[1.0, 1e3])
    gone = ds["perturbed_label"] == -1
    assert gone.any()
    assert (ds["fooling_rate"] <= 1 - gone.mean("sample") + 1e-12).all()
    flat = {"all": NestedSubspaces(torch.eye(16, dtype=torch.float64))}
    with pytest.raises(InputError, match=r"1 of \d+ images"):
        experiments.subspace_accuracy(
            net, ImageSet(beyond().float().numpy(), labels), images().mean(0), flat
        )


# Smoothing goes through training


def relu_network(beta):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    net = Classifier(module, SHAPE, name="net", dtype=torch.float64)
    return net if beta is None else net.smoothed(beta)


@pytest.mark.parametrize("beta", [None, 0.5, 3.0])
def test_smoothed_networks_are_trained_smoothed(beta):
    net, x = relu_network(beta), images()
    labels, deltas = torch.arange(12) % CLASSES, torch.zeros(1, *SHAPE, dtype=torch.float64)
    trained = _trained(net, x, labels, deltas, 1, 1e-3, 0)
    tuned = _with_parameters(net, trained)
    inner = tuned.module.module.module
    # By hand: Adam's first step goes along the sign of the smoothed network's gradient.
    copy = net.to()
    copy.module.requires_grad_()
    weight = copy.module.module[1].weight
    act = nn.ReLU() if beta is None else nn.Softplus(beta, threshold=40)
    layers = copy.module.module
    scores = layers[3](act(layers[1](x.flatten(1))))
    np.testing.assert_allclose(scores.detach(), net.scores(x), atol=1e-12)
    loss = nn.functional.cross_entropy(scores, labels)
    (gradient,) = torch.autograd.grad(loss, weight)
    # Adam's epsilon of 1e-8 beside the gradient's size.
    step = 1e-3 * gradient / (gradient.abs() + 1e-8)
    expected = (weight - step).detach()
    np.testing.assert_allclose(inner[1].weight, expected, atol=1e-8)
    again = inner[3](act(inner[1](x.flatten(1))))
    np.testing.assert_allclose(tuned.scores(x), again.detach(), atol=1e-12)
    assert tuned.name == net.name
    assert tuned.is_piecewise_linear == (beta is None)


def test_rounds_of_a_smoothed_network_stay_smoothed():
    net = relu_network(2.0)
    data = ImageSet(images(30).float().numpy(), np.arange(30) % CLASSES)
    ds = experiments.finetuning(net, data, data, 0.5, rounds=1, pool=1, epochs=1)
    # Round 0 is the smoothed network itself.
    share = (net.predict(data) == data.labels).double().mean()
    assert float(ds["accuracy"][0]) == pytest.approx(float(share))
    assert resampled(net, 2).name == f"{net.name}-resampled2"


# Fewer normals than directions


def normals(n, d, bad):
    rows = gaussian(n, d).numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[bad] = NAN
    return rows


@pytest.mark.parametrize("method", ["exact", "covariance", "gram", "randomized", "auto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_many_directions_as_there_are_normals(method, dtype):
    rows = normals(30, 40, slice(0, 21)).astype(dtype)
    with pytest.warns(UserWarning, match="skipped 21"):
        found = normal_svd(rows, 25, method, fewer=True)
    exact = np.linalg.svd(rows[21:].astype(np.float64), compute_uv=False)
    assert found.singular_values.shape == (9,)
    assert found.directions.shape == (40, 9)
    close = 1e3 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.singular_values, exact, atol=close)
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(9), atol=close)
    with pytest.raises(InputError, match="expected 1 to 9"):
        normal_svd(rows, 25, method)


@pytest.mark.parametrize("rank", [1, 9, 10, 100, 10_000])
@pytest.mark.parametrize("form", ["array", "tensor", "file"])
def test_the_spectrum_of_few_normals(rank, form, tmp_path):
    rows = normals(30, 16, np.arange(30) % 10 > 2)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        given = {
            "array": lambda: rows,
            "tensor": lambda: torch.from_numpy(rows),
            "file": lambda: file.create_dataset("normals", data=rows),
        }[form]()
        with pytest.warns(UserWarning, match="skipped 21"):
            ds = experiments.normal_spectrum(given, SHAPE, rank, baseline_draws=2)
    assert ds.sizes["rank"] == min(rank, 9)
    assert int(ds["rows"]) == 9
    assert ds["spectrum"].sizes == {"component": 9}


def test_no_normals_at_all_are_refused():
    with pytest.raises(InputError, match="all 4 rows contain NaN"):
        experiments.normal_spectrum(np.full((4, 16), NAN), SHAPE, 100)
    with pytest.raises(InputError, match="found 0"):
        experiments.normal_spectrum(normals(4, 16, []), SHAPE, 0)
