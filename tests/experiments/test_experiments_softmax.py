"""Adversarial directions of the last layer, on networks whose features are known."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks_for_tests import Linear, gaussian, resnet20_cifar10
from torch import nn
from torch.nn import functional as F

from geomadv import (
    Classifier,
    InputError,
    deepfool,
    experiments,
    load,
    load_images,
    load_network,
    plotting,
    save,
)
from geomadv.experiments import CollisionSettings, softmax_directions
from geomadv.experiments.softmax.last_layer import last_layer

SHAPE, CLASSES, PIXELS = (1, 3, 4), 4, 12
FEW = CollisionSettings(pairs=9, relative_epsilons=(0.1, 0.3, 1.0), steps=10, examples=2)


def layer(width, classes, seed=0):
    linear = nn.Linear(width, classes, dtype=torch.float64)
    linear.weight.data = gaussian(classes, width, seed=seed)
    linear.bias.data = gaussian(classes, seed=seed + 1) / 10
    return linear


def flat(classes=CLASSES, dtype=torch.float64):
    """A single linear layer: the features are the pixels."""
    module = nn.Sequential(nn.Flatten(), layer(PIXELS, classes))
    return Classifier(module, SHAPE, bounds=(-9, 9), name="flat", dtype=dtype)


def images(n=40, seed=5):
    return gaussian(n, *SHAPE, seed=seed)


def convolutional():
    """Convolution and batch norm, which are folded, ReLU, and layers that do nothing at the end."""
    torch.manual_seed(0)
    module = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 6, 3, padding=1),
            norm=nn.BatchNorm2d(6),
            act=nn.ReLU(),
            flat=nn.Flatten(),
            hidden=layer(72, 20, seed=11),
            act2=nn.Tanh(),
            fc=layer(20, CLASSES, seed=13),
            drop=nn.Dropout(0.5),
            same=nn.Identity(),
        )
    ).double()
    module.norm.running_mean += 0.3
    module.norm.running_var *= 2.0
    return Classifier(module, SHAPE, bounds=(-9, 9), mean=0.1, std=0.7, name="convolutional")


# The last layer


@pytest.mark.parametrize("smooth", [False, True])
def test_the_layer_behind_folding_and_smoothing(smooth):
    net = convolutional().smoothed(3.0) if smooth else convolutional()
    x = images(7)
    head = last_layer(net, x)
    features, scores = head(x.requires_grad_())
    assert head.weight.shape == (CLASSES, 20)
    # One matrix product of 20 terms of order one, in float64.
    again = features.detach().numpy() @ head.weight.T + head.bias
    np.testing.assert_allclose(again, scores.detach(), atol=1e-13)
    assert torch.equal(scores, net.scores(x))
    (gradient,) = torch.autograd.grad(features.sum(), x)
    assert gradient.norm() > 0
    few, labels = head.features(x.detach(), batch_size=3)
    np.testing.assert_allclose(few, features.detach(), atol=1e-12)
    assert labels.tolist() == scores.argmax(1).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_of_a_pretrained_residual_network(real_data, dtype):
    net, x = resnet20_cifar10(3)
    net = net.to(dtype=dtype)
    head = last_layer(net, net.check_images(x))
    features, _ = head.features(net.check_images(x))
    assert features.shape == (3, 64)
    scores = net.scores(net.check_images(x)).double().numpy()
    # A sum of 64 products, relative to the largest score.
    rounding = 100 * torch.finfo(dtype).eps * np.abs(scores).max()
    np.testing.assert_allclose(features @ head.weight.T + head.bias, scores, atol=rounding)


class Functional(nn.Module):
    """Ends in a function of what its last module gives."""

    def __init__(self, modules, function):
        super().__init__()
        self.inner, self.function = modules, function

    def forward(self, x):
        return self.function(self.inner(x))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d((1, 2)), nn.Flatten()),
            "ran last is Flatten",
        ),
        (Functional(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), torch.tanh), "are changed"),
        (Functional(nn.Flatten(), lambda x: F.normalize(x)[:, :4]), "ran last is Flatten"),
        (Functional(Linear(gaussian(4, 12), gaussian(4)), torch.sin), "ran last is Linear"),
    ],
)
def test_networks_without_a_final_linear_layer(module, message):
    net = Classifier(module.double(), SHAPE, bounds=(-9, 9), name="headless")
    with pytest.raises(InputError, match="'headless' does not end in a linear layer") as error:
        softmax_directions(net, images())
    assert message in str(error.value)


# Closed forms: the features are the pixels


@pytest.fixture(scope="module")
def pixels():
    net, x = flat(), images()
    return net, x, softmax_directions(net, x, FEW, seed=3)


def test_directions_and_displacements(pixels):
    net, _, ds = pixels
    assert (int(ds["rank"]), int(ds["adversarial_dimension"])) == (3, 9)
    assert int(ds["published_bound"]) == 8
    weight = dict(net.module.named_parameters())["module.1.weight"].detach().numpy()
    moved = weight @ ds["adversarial_direction"].to_numpy().T
    assert np.abs(moved - moved.mean(axis=0)).max() < 1e-13
    assert ds["displacement"].to_numpy()[[0, -1]].tolist() == [1e-3, 1e6]
    assert bool((ds["softmax_change"] <= ds["rounding_bound"]).all())
    # The bound is rounding, and a direction that the layer sees is far above it.
    assert float(ds["rounding_bound"][-1].max()) < 1e-6
    assert float(ds["control_change"].sel(displacement=1.0).median()) > 1e-3
    assert bool(ds["region_unbounded"].all())


def test_deepfool_on_a_linear_network_hides_nothing(pixels):
    """Its perturbation lies along w_j - w_i, in the row space; noise hides 9/12 on average."""
    _, _, ds = pixels
    assert bool(ds["perturbation_converged"].all())
    # Energies are squares of amplitudes that are zero to rounding.
    assert float(ds["hidden_share"].max()) < 1e-13
    share = ds["noise_hidden_share"]
    # Beta(9/2, 3/2) has mean 3/4 and standard deviation 0.164: six standard errors.
    assert float(share.mean()) == pytest.approx(0.75, abs=6 * 0.164 / np.sqrt(40))
    np.testing.assert_allclose(ds["feature_change"], ds["perturbation_norm"], rtol=1e-12)


def test_collisions_on_a_linear_network(pixels):
    """Straight towards the goal: 1 - epsilon / distance remains, distances in the row space."""
    _, x, ds = pixels
    weight = ds["adversarial_direction"].to_numpy()
    flat_x = x.flatten(1).numpy()
    difference = flat_x[ds["pair_goal"]] - flat_x[ds["pair_start"]]
    hidden = difference @ weight.T
    distance = np.sqrt((difference**2).sum(1) - (hidden**2).sum(1))
    epsilon = ds["epsilon"].to_numpy()[:, None]
    np.testing.assert_allclose(
        epsilon[:, 0], float(ds["mean_image_norm"]) * np.array(FEW.relative_epsilons)
    )
    expected = 1 - epsilon / distance
    open_ = (expected > FEW.tolerance).nonzero()
    assert len(open_[0]) > 10
    residual = ds["collision_residual"].to_numpy()
    np.testing.assert_allclose(residual[open_], expected[open_], atol=1e-10)
    success = ds["collision"].to_numpy()
    np.testing.assert_array_equal(success, expected <= FEW.tolerance)
    assert success[-1].all()
    assert not success[0].any()
    # The features keep their own invisible part, and theta is its distance to the goal's.
    theta = np.tile(np.sqrt((hidden**2).sum(1)), (3, 1))
    np.testing.assert_allclose(ds["collision_theta"], theta, atol=1e-7)
    goal = ds["prediction"].to_numpy()[ds["pair_goal"]]
    assert (ds["collision_label"].to_numpy()[success] == np.tile(goal, (3, 1))[success]).all()


def test_what_is_stored_of_collisions(pixels):
    net, x, ds = pixels
    moved = torch.from_numpy(ds["collision_image"].to_numpy()) - x[ds["pair_start"].values[:2]]
    norm = moved.flatten(2).norm(dim=2).numpy()
    np.testing.assert_allclose(norm, ds["collision_norm"][:, :2], rtol=1e-12)
    assert (norm <= ds["epsilon"].to_numpy()[:, None] * (1 + 1e-12)).all()
    last = torch.from_numpy(ds["collision_image"].to_numpy()[-1])
    assert net.predict(last).tolist() == ds["collision_label"][-1, :2].values.tolist()
    np.testing.assert_array_equal(ds["goal_image"], x[ds["pair_goal"].values[:2]])
    start, goal = (ds["prediction"].values[ds[f"pair_{end}"]] for end in ("start", "goal"))
    assert (start != goal).all()


# A network with a non-linear feature map


def test_a_deep_network_against_its_layer():
    net, x = convolutional(), images(30)
    settings = replace(FEW, relative_epsilons=(0.2, 0.5, 1.0, 3.0), steps=40)
    ds = softmax_directions(net, x, settings, displacements=[1.0, 1e6], batch_size=7)
    assert int(ds["adversarial_dimension"]) == 17
    assert bool((ds["softmax_change"] <= ds["rounding_bound"]).all())
    rate = ds["collision"].mean("pair").to_numpy()
    assert (np.diff(rate) >= 0).all()
    assert (np.diff(ds["collision_residual"], axis=0) <= 1e-15).all()
    assert rate[-1] > 0
    head = last_layer(net, x)
    found = deepfool(net, x)
    change = head.features(found.adversarial)[0] - head.features(x)[0]
    hidden = ((change @ ds["adversarial_direction"].to_numpy().T) ** 2).sum(1)
    share = ds["hidden_share"].to_numpy()
    # Squared norms of 20 entries; DeepFool repeats to rounding in other batches.
    np.testing.assert_allclose(share, hidden / (change**2).sum(1), atol=1e-7)
    assert ((share >= 0) & (share <= 1)).all()


def test_collisions_have_the_softmax_of_the_goal():
    """With little feature distance left the softmax is the goal's, at any adversarial distance."""
    net, x = convolutional(), images(30)
    settings = replace(FEW, relative_epsilons=(5.0,), steps=300, tolerance=1e-3, examples=9)
    ds = softmax_directions(net, x, settings)
    done = ds["collision"].to_numpy()[0]
    assert done.sum() >= 3
    there = net.scores(torch.from_numpy(ds["collision_image"].to_numpy()[0])).softmax(1)
    goal = net.scores(torch.from_numpy(ds["goal_image"].to_numpy())).softmax(1)
    # The scores differ by at most sigma_1 times the feature distance, here below 100.
    assert (there - goal)[torch.from_numpy(done)].abs().max() < 0.1


def test_clipped_collisions_stay_in_the_bounds():
    module = nn.Sequential(nn.Flatten(), layer(PIXELS, CLASSES))
    net = Classifier(module, SHAPE)
    x = torch.rand(40, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    free, held = (
        softmax_directions(net, x, replace(FEW, clip=clip, examples=9)) for clip in (False, True)
    )
    image = held["collision_image"]
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert float(free["collision_image"].max()) > 1
    # Both start from the same pairs, and the box takes away.
    assert float(held["collision"].mean()) <= float(free["collision"].mean())
    assert (held["collision_norm"] <= held["epsilon"] * (1 + 1e-12)).all()


def test_more_classes_than_features(tmp_path):
    """L < m: no adversarial direction; the region of a class in the middle is bounded."""
    head = layer(3, 8, seed=2)
    head.weight.data[0], head.bias.data[0] = head.weight.data[1:].mean(0), 9.0
    module = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 3, dtype=torch.float64), head)
    module[1].weight.data = gaussian(3, PIXELS, seed=9)
    net = Classifier(module, SHAPE, bounds=(-99, 99))
    ds = softmax_directions(net, 9 * images(), FEW)
    assert int(ds["adversarial_dimension"]) == int(ds["published_bound"]) == 0
    assert ds["region_unbounded"].to_numpy().tolist()[0] is False
    assert bool(ds["softmax_change"].isnull().all())
    assert float(ds["hidden_share"].max()) < 1e-13
    save(ds, tmp_path / "softmax.h5", {"network": "small", "dataset": "noise"})
    again = load(tmp_path / "softmax.h5")
    assert again.sizes["adversarial"] == 0
    for plot in (plotting.softmax_null_space, plotting.softmax_boundary_angles):
        plot(again).savefig(tmp_path / "figure.pdf")


def test_seeds_labels_and_batches(pixels):
    net, x, ds = pixels
    again = softmax_directions(net, x, FEW, seed=3, batch_size=4)
    for name in ds.variables:
        assert ds[name].attrs["long_name"]
        assert ds[name].attrs["units"]
        if name != "class":
            # Squared norms lose half the digits, and sums of other batches round differently.
            np.testing.assert_allclose(again[name], ds[name], atol=1e-6, err_msg=str(name))
    other = softmax_directions(net, x, FEW, seed=4)
    assert not np.array_equal(other["pair_start"], ds["pair_start"])


def test_float32_networks_are_checked_in_float64():
    ds = softmax_directions(flat(dtype=torch.float32), images().float(), FEW)
    assert float(ds["softmax_change"].sel(displacement=1.0).max()) < 1e-12
    assert ds["collision_image"].dtype == np.float32


def test_every_figure_draws_from_a_dataset_alone(pixels, tmp_path):
    _, _, ds = pixels
    for plot in (
        plotting.softmax_null_space,
        plotting.softmax_boundary_angles,
        plotting.feature_collisions,
    ):
        before = ds.copy(deep=True)
        figure = plot(ds.assign_attrs(network="flat", dataset="noise"))
        figure.savefig(tmp_path / "figure.pdf")
        text = " ".join(
            t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))
        )
        assert "flat on noise" in text
        assert ds.identical(before)


def test_collisions_of_trained_digits():
    """A pair of other digits collides within half an image norm or so, not within 5 %."""
    net = load_network("digits-cnn", progress=False)
    x = load_images("digits", split="test", limit=60)
    settings = CollisionSettings(pairs=12, relative_epsilons=(0.05, 1.0))
    ds = experiments.softmax_directions(net, x, settings)
    assert float(ds["collision"][0].mean()) == 0
    assert float(ds["collision"][1].mean()) > 0.8
    assert bool(ds["region_unbounded_visible"].all())
    # What DeepFool changes, the last layer sees better than what noise changes.
    assert float(ds["hidden_share"].mean()) < float(ds["noise_hidden_share"].mean())


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": flat(2)}, "2 classes and so a single boundary"),
        ({"images": images()[:, :, :2]}, "shape"),
        ({"images": images(1)}, "at least two predicted classes"),
        ({"displacements": []}, "displacements"),
        ({"displacements": [0.0]}, "displacements"),
        ({"displacements": [np.inf]}, "displacements"),
        ({"angle_sample": 0}, "angle_sample=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"collisions": replace(FEW, relative_epsilons=())}, "relative_epsilons"),
        ({"collisions": replace(FEW, relative_epsilons=(0.2, 0.1))}, "ascending"),
        ({"collisions": replace(FEW, relative_epsilons=(0.0, 0.1))}, "positive"),
        ({"collisions": replace(FEW, pairs=0)}, "pairs=0"),
        ({"collisions": replace(FEW, steps=0)}, "steps=0"),
        ({"collisions": replace(FEW, examples=-1)}, "examples=-1"),
        ({"collisions": replace(FEW, tolerance=1.0)}, "tolerance=1.0"),
    ],
)
def test_bad_input(change, message):
    arguments = {"net": flat(), "images": images(), "collisions": FEW, **change}
    with pytest.raises(InputError, match=message):
        softmax_directions(**arguments)
