"""Resampling: what it keeps exactly, Pillow, a linear classifier behind it, the direct attack."""

import numpy as np
import PIL.Image
import pytest
import torch
from networks_for_tests import WIDE, classifier, dead, gaussian, linear, perceptron

import geomadv as ga
from geomadv.errors import InputError
from geomadv.experiments.subspaces.resampling import Resample, low_resolution

SHAPE = (1, 6, 6)
D = 36


def matrix(low, shape=SHAPE):
    """The resampling of one channel as a (H W, H W) matrix, from the images of a basis."""
    pixels = shape[1] * shape[2]
    basis = torch.eye(pixels, dtype=torch.float64).reshape(pixels, 1, *shape[1:])
    unit = Resample(low_resolution(low, shape), shape[1:])
    return unit(basis).reshape(pixels, pixels).T


def labelled(n=40, seed=1, classes=4, shape=SHAPE):
    images = gaussian(n, *shape, seed=seed)
    return ga.ImageSet(images, np.arange(n) % classes, bounds=WIDE)


def linear_net(seed=5, shape=SHAPE):
    weight, bias = gaussian(4, D, seed=seed), gaussian(4, seed=seed + 1) / 4
    return linear(weight, bias, shape), weight, bias


def test_constant_images_stay():
    constant = torch.full((2, 3, 9, 9), 0.37, dtype=torch.float64)
    for low in (1, 2, 4, 7, 9):
        # Normalised kernels sum to 1: rounding of two small sums.
        torch.testing.assert_close(
            Resample((low, low), (9, 9))(constant), constant, rtol=1e-13, atol=0
        )


def test_ramps_stay_away_from_the_edge():
    """A cubic that is symmetric about its sample keeps linear images; so does Keys' going up."""
    ramp = torch.arange(32, dtype=torch.float64)
    image = (0.5 * ramp[:, None] - 0.2 * ramp)[None, None]
    back = Resample((16, 16), (32, 32))(image)
    # Kernels reach 4 pixels down and 2 small pixels up: 8 pixels at each side see the edge.
    inside = (..., slice(8, 24), slice(8, 24))
    torch.testing.assert_close(back[inside], image[inside], rtol=0, atol=1e-12)
    assert (back - image).abs().max() > 1e-3


def test_own_size_is_the_identity():
    net, _, _ = linear_net()
    x = gaussian(5, *SHAPE)
    assert torch.equal(Resample((6, 6), (6, 6))(x), x)
    torch.testing.assert_close(
        ga.experiments.resampled(net, 6).scores(x), net.scores(x), rtol=1e-12, atol=1e-12
    )


def test_agrees_with_pillow():
    """Pillow's bicubic resize has the same kernel and stretch; it computes in float32."""
    image = gaussian(1, 1, 20, 20, seed=4)
    for low in (15, 10, 7):
        picture = PIL.Image.fromarray(image[0, 0].numpy().astype(np.float32))
        for size in (low, 20):
            picture = picture.resize((size, size), PIL.Image.Resampling.BICUBIC)
        ours = Resample((low, low), (20, 20))(image)[0, 0].numpy()
        # Sums of at most 12 x 12 float32 products of values below 5, twice: some 10^-6.
        np.testing.assert_allclose(ours, np.asarray(picture), rtol=0, atol=1e-4)


def test_longer_side_keeps_the_scale():
    assert low_resolution(6, (3, 12, 18)) == (6, 9)
    assert low_resolution(5, (1, 20, 10)) == (10, 5)


def test_resampled_linear_network_has_the_resampled_weights():
    """W R x + b: everything about it is known, and everything of geomadv works on it."""
    net, weight, bias = linear_net()
    small, r = ga.experiments.resampled(net, 4), matrix(4)
    x = gaussian(8, *SHAPE, seed=8)
    torch.testing.assert_close(
        small.scores(x), x.flatten(1) @ (weight @ r).T + bias, rtol=1e-11, atol=1e-11
    )
    reference = linear(weight @ r, bias, SHAPE)
    found, expected = ga.deepfool(small, x), ga.deepfool(reference, x)
    torch.testing.assert_close(found.delta, expected.delta, rtol=1e-9, atol=1e-9)
    assert small.is_piecewise_linear
    assert small.name.endswith("resampled4")
    assert small.bounds == net.bounds


def test_smoothed_and_normalised_networks_stay_so():
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(D, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )
    net = ga.Classifier(module, SHAPE, mean=0.4, std=0.5, dtype=torch.float64)
    x = torch.rand(5, *SHAPE, dtype=torch.float64)
    for given in (net, net.smoothed(3.0)):
        small = ga.experiments.resampled(given, 3)
        seen = Resample((3, 3), (6, 6))(x)
        torch.testing.assert_close(small.scores(x), given.scores(seen), rtol=1e-11, atol=1e-11)
        assert small.is_piecewise_linear == given.is_piecewise_linear


def test_table_of_a_linear_network():
    """Labels and norms from the matrix of the resampling, with nothing of the library's."""
    net, weight, bias = linear_net()
    images = labelled()
    factors, lows = (1.0, 3.0), (6, 4, 2)
    ds = ga.experiments.resampling(net, images, lows, factors)
    x = images.images.double().flatten(1)
    scores = x @ weight.T + bias
    source = scores.argmax(1)
    gap, difference = scores - scores.gather(1, source[:, None]), weight - weight[source][:, None]
    distances = gap.abs() / difference.norm(dim=2)
    distances[torch.arange(len(x)), source] = torch.inf
    nearest = distances.argmin(1)
    rows = torch.arange(len(x))
    away = difference[rows, nearest]
    delta = 1.02 * (gap[rows, nearest].abs() / away.norm(dim=1) ** 2)[:, None] * away
    np.testing.assert_allclose(ds["norm"], delta.norm(dim=1), rtol=1e-10)
    labels = images.labels
    np.testing.assert_array_equal(ds["source"], source)
    for low in lows:
        r, one = matrix(low), ds.sel(d_low=low)
        clean = ((x @ r.T) @ weight.T + bias).argmax(1)
        np.testing.assert_array_equal(one["clean_label"], clean)
        np.testing.assert_allclose(one["accuracy"], (clean == labels).double().mean())
        np.testing.assert_allclose(one["changed_share"], (clean != source).double().mean())
        np.testing.assert_allclose(one["resampled_norm"], (delta @ r.T).norm(dim=1), rtol=1e-9)
        np.testing.assert_allclose(one["resampled_image_norm"], (x @ r.T).norm(dim=1), rtol=1e-9)
        for f in factors:
            label = (((x + f * delta) @ r.T) @ weight.T + bias).argmax(1)
            cell = one.sel(factor=f)
            np.testing.assert_array_equal(cell["perturbed_label"], label)
            for name, clean_label in (
                ("fooling_rate", clean),
                ("original_fooling_rate", source),
                ("error_rate", labels),
            ):
                expected = (label != clean_label).double().mean()
                np.testing.assert_allclose(cell[name], expected)
    assert int(ds["image_side"]) == 6
    assert ds["low_dimension"].to_numpy().tolist() == [low**2 for low in lows]
    # The original network is fooled by all of its own perturbations, however long.
    assert float(ds["fooling_rate"].sel(d_low=6, factor=1)) == 1
    assert 0 < float(ds["fooling_rate"].sel(d_low=2, factor=1)) < 1


def test_direct_attack_is_confined_to_the_span_of_resampled_perturbations():
    """Linear, 4 classes: perturbations span the weights' differences, at most 3 dimensions."""
    net, weight, bias = linear_net()
    images, other = labelled(), labelled(60, seed=7)
    ds = ga.experiments.resampling(net, images, (6, 4), (1,), span_images=other)
    assert ds["span_dimension"].values.tolist() == [3, 3]
    assert bool(ds["confined_converged"].all())
    assert bool(ds["direct_converged"].all())
    r = matrix(4)
    span = torch.linalg.qr(r @ (weight[1:] - weight[0]).T).Q
    x = images.images.double().flatten(1)
    effective = weight @ r
    scores = x @ effective.T + bias
    source = scores.argmax(1)
    gap = (scores - scores.gather(1, source[:, None])).abs()
    difference = effective - effective[source][:, None]
    for name, shown in (("confined_norm", difference @ span), ("direct_norm", difference)):
        distances = gap / shown.norm(dim=2)
        distances[torch.arange(len(x)), source] = torch.inf
        np.testing.assert_allclose(ds[name].sel(d_low=4), 1.02 * distances.min(1).values, rtol=1e-7)
    # At the own size the span holds every normal: nothing is lost by the confinement.
    own = ds.sel(d_low=6)
    np.testing.assert_allclose(own["confined_norm"], own["direct_norm"], rtol=1e-7)


def test_images_that_deepfool_gives_up_are_kept_and_left_out_of_rates():
    net = perceptron(4, shape=SHAPE)
    images = labelled()
    some = ga.experiments.resampling(
        net, images, (6,), (1,), deepfool=ga.DeepFoolSettings(max_iter=1)
    )
    converged = some["converged"].to_numpy()
    assert 0 < converged.sum() < len(images)
    assert some["norm"].notnull().all()
    assert float(some["fooling_rate"].squeeze()) == 1
    changed = (some["perturbed_label"].squeeze() != some["source"]).to_numpy()
    np.testing.assert_array_equal(changed, converged)


def test_without_spanning_perturbations_there_is_no_direct_attack():
    with pytest.raises(InputError, match=r"span_images: .* none of 9 images"):
        ga.experiments.resampling(
            dead(4, SHAPE), labelled(), (4,), (1,), span_images=labelled(9, seed=3)
        )


def test_results_do_not_depend_on_the_batch_size():
    net, images = perceptron(4, shape=SHAPE), labelled(20)
    one, other = (
        ga.experiments.resampling(net, images, (4,), span_images=labelled(9, 3), batch_size=size)
        for size in (3, 64)
    )
    for name in ("norm", "resampled_norm", "confined_norm", "direct_norm"):
        # Sums in another order, and DeepFool's few steps behind them.
        np.testing.assert_allclose(one[name], other[name], rtol=1e-8)
    assert one["perturbed_label"].equals(other["perturbed_label"])
    for name in one.variables:
        assert one[name].attrs["long_name"]
        assert one[name].attrs["units"]


def test_a_real_network_loses_accuracy_and_scaling_restores_fooling():
    """Table 1's claim on the digits: f = 3 fools most of what f = 1 does not."""
    net = ga.load_network("digits-cnn")
    images = ga.load_images("digits", split="test").sample(150, seed=0)
    ds = ga.experiments.resampling(net, images, (8, 5, 4), (1, 3))
    rate = ds["fooling_rate"].sel(d_low=5)
    assert float(ds["fooling_rate"].sel(d_low=8, factor=1)) > 0.99
    assert float(rate.sel(factor=1)) < 0.7
    assert float(rate.sel(factor=3)) > 0.8
    # Some 20 points on one network; on another machine it is trained to other weights.
    assert float(ds["accuracy"].sel(d_low=4)) < float(ds["accuracy"].sel(d_low=8)) - 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low_sizes": (7,)}, "d_low=7.* from 1 to 6"),
        ({"low_sizes": (4, 0)}, "d_low=0"),
        ({"low_sizes": (2.5,)}, "d_low=2.5"),
        ({"low_sizes": ()}, "at least one d_low"),
        ({"low_sizes": (4, 3, 4)}, "low_sizes=.* each once"),
        ({"factors": (2, 2.0)}, "factors=.* each once"),
        ({"factors": ()}, "positive numbers"),
        ({"factors": (1, -2)}, "positive numbers"),
        ({"factors": (float("inf"),)}, "positive numbers"),
        ({"images": ga.ImageSet(gaussian(3, *SHAPE), bounds=WIDE)}, "no labels"),
        ({"images": labelled(3, shape=(1, 5, 5))}, "takes"),
        ({"span_images": gaussian(3, 1, 5, 5)}, "takes"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_input_is_refused(change, words):
    net, _, _ = linear_net()
    given = {"images": labelled(), "low_sizes": (4,)} | change
    with pytest.raises(InputError, match=words):
        ga.experiments.resampling(net, given.pop("images"), given.pop("low_sizes"), **given)


def test_network_without_weights_of_its_own_keeps_its_dtype():
    class Formula(torch.nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(1)
            return torch.stack([total, -total], dim=1)

    net = classifier(Formula(), SHAPE)
    small = ga.experiments.resampled(net, 3)
    assert small.scores(gaussian(2, *SHAPE)).dtype == torch.float64


def test_figure_holds_the_numbers_of_the_table():
    net, _, _ = linear_net()
    for span in (None, labelled(20, seed=3)):
        ds = ga.experiments.resampling(net, labelled(), (6, 3), (1, 2), span_images=span)
        (axes,) = ga.plotting.resampling(ds).axes
        texts = [text.get_text() for text in axes.texts]
        for rate in ds["fooling_rate"].to_numpy().ravel():
            assert f"{100 * rate:.1f}" in texts
        assert any("direct attack" in text for text in texts) == (span is not None)
