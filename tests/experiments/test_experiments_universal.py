"""Universal perturbations' experiments where the answer is known."""

import math

import networks_for_tests as nets
import numpy as np
import pytest
import torch
import xarray as xr
from networks_for_tests import SHAPE, gaussian
from scipy import stats

from geomadv import InputError, experiments, plotting
from geomadv.linalg import Subspace

D = 6
NAMES = tuple("abcde")


def half_space(b=-2.0, n=60):
    """A linear pair, and images that all lie on the side of class 0. Distances to the boundary."""
    w = gaussian(D, seed=1)
    w /= w.norm()
    x = gaussian(8 * n, D, seed=2)
    x = x[x @ w + b < -0.1][:n]
    return nets.linear_pair(w, b), x.reshape(-1, *SHAPE), w, -(x @ w + b)


def labelled(ds: xr.Dataset) -> bool:
    return all(ds[v].attrs.get("long_name") and ds[v].attrs.get("units") for v in ds.variables)


# universal


def test_universal_rates_on_a_half_space_are_shares_of_distances():
    net, x, w, distance = half_space()
    radius = float(distance.median()) * 1.01
    ds = experiments.universal(
        net, x[:30], x[30:], radius, sizes=[1, 30], repeats=2, search={"passes": 2}
    )
    # One far image suffices to fill the ball along w; one near image moves no further than itself.
    full = ds["norm"].sel(size=30)
    np.testing.assert_allclose(full, radius, rtol=1e-12)
    for name, part in (("fooling_rate", distance[:30]), ("held_out_fooling_rate", distance[30:])):
        expected = (part < radius).double().mean().item()
        np.testing.assert_array_equal(ds[name].sel(size=30), expected)
    unit = ds["perturbation"].to_numpy().reshape(2, D) / radius
    np.testing.assert_allclose(unit, np.tile(w.numpy(), (2, 1)), atol=1e-12)
    fooled = ds["label"] != ds["prediction"]
    np.testing.assert_allclose(
        fooled.mean("held_out_sample"), ds["held_out_fooling_rate"].sel(size=30)
    )
    assert labelled(ds)


def test_random_perturbations_follow_the_projection_law():
    net, x, _, distance = half_space(b=-0.5)
    draws, radius = 4000, 1.0
    ds = experiments.universal(
        net, x[:2], x[2:22], radius, repeats=1, draws=draws, search={"passes": 1}
    )
    # The coordinate t along w of a uniform unit vector: (t + 1) / 2 ~ Beta((D-1)/2, (D-1)/2).
    law = stats.beta((D - 1) / 2, (D - 1) / 2)
    crossing = 1 - law.cdf((distance[2:22].numpy() / radius + 1) / 2)
    measured = float(ds["random_fooling_rate"].mean())
    # Draws are independent, and a draw's rate lies between 0 and 1: five standard errors at most.
    assert measured == pytest.approx(crossing.mean(), abs=5 * 0.5 / math.sqrt(draws))


@pytest.mark.parametrize("p", [2, math.inf])
def test_universal_shapes_seeds_and_histories(p):
    net, x = nets.perceptron(), gaussian(60, *SHAPE, seed=3)
    arguments = {"p": p, "sizes": [5, 20, 40], "repeats": 2, "draws": 3}
    search = {"passes": 3, "target_rate": 0.9}
    a, b, c = (
        experiments.universal(net, x[:40], x[40:], 1.0, seed=s, search=search, **arguments)
        for s in (0, 0, 1)
    )
    assert a.identical(b)
    assert not a.equals(c)
    assert dict(a.sizes) == {
        "size": 3,
        "repeat": 2,
        "pass": a.sizes["pass"],
        "held_out_sample": 20,
        "draw": 3,
        "channel": 1,
        "row": 2,
        "column": 3,
    }
    np.testing.assert_array_equal(a["history"].max("pass"), a["fooling_rate"])
    assert bool((a["norm"] <= 1 + 1e-12).all())
    # Both end with the same pass, and only then.
    assert bool((a["history"].isnull() == a["held_out_history"].isnull()).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "radius"),
        ({"p": 3}, "p=3"),
        ({"sizes": [0]}, "sizes"),
        ({"sizes": [5, 21]}, "20 images"),
        ({"sizes": [5, 5]}, "ascend"),
        ({"sizes": []}, "sizes"),
        ({"repeats": 0}, "repeats=0"),
        ({"draws": 0}, "draws=0"),
        ({"search": {"checkpoint": "state.npz"}}, "search: 'checkpoint'"),
        ({"search": {"speed": 9}}, "search: 'speed'"),
        ({"search": {"method": "fast"}}, "sequential"),
    ],
)
def test_universal_bad_input(change, message):
    x = gaussian(20, *SHAPE)
    with pytest.raises(InputError, match=message):
        experiments.universal(nets.perceptron(), x, x, **{"radius": 1.0, **change})


# norm_comparison


def test_norm_comparison_on_a_half_space():
    net, x, w, distance = half_space()
    norms = [float(distance.quantile(q)) for q in (0.25, 0.75)]
    along, across = Subspace(w[:, None]), Subspace(torch.eye(D).double() - w[:, None] * w)
    ds = experiments.norm_comparison(
        net, x[:30], x[30:], w.reshape(SHAPE), norms, {"along": along, "across": across}, draws=5
    )
    expected = [(distance[30:] < norm).double().mean().item() for norm in norms]
    for kind in ("universal", "DeepFool, sum"):
        np.testing.assert_array_equal(ds["fooling_rate"].sel(kind=kind, draw=0), expected)
    # Every image's DeepFool step is along w; FGSM's is along sign(w), shorter by their angle.
    np.testing.assert_array_equal(
        ds["fooling_rate"].sel(kind="DeepFool, one image"), np.tile(expected, (5, 1)).T
    )
    cosine = float(w.abs().sum() / math.sqrt(D))
    reach = [(distance[30:] < norm * cosine).double().mean().item() for norm in norms]
    np.testing.assert_array_equal(ds["fooling_rate"].sel(kind="FGSM, sum", draw=0), reach)
    # ±w, and directions inside the boundary.
    assert set(np.unique(ds["fooling_rate"].sel(kind="along"))) <= {0.0, *expected}
    assert float(ds["fooling_rate"].sel(kind="across").max()) == 0.0
    assert (
        ds["fooling_rate"].notnull().sum(("norm", "draw")).values.tolist()
        == (2 * ds["draws"]).values.tolist()
    )
    np.testing.assert_allclose((ds["direction"] ** 2).sum(("channel", "row", "column")), 1)
    assert ds["deepfool_converged"].values.tolist() == [True] * 30
    assert labelled(ds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"perturbation": torch.ones(1, 3, 3)}, "shape"),
        ({"perturbation": torch.zeros(*SHAPE)}, "perturbation: it is zero"),
        ({"perturbation": torch.full(SHAPE, math.nan)}, "NaN"),
        ({"norms": [0.0]}, "positive"),
        ({"norms": []}, "positive"),
        ({"draws": 0}, "draws"),
        ({"subspaces": {"big": Subspace(torch.eye(7))}}, "7 dimensions"),
        ({"subspaces": {"random": Subspace(torch.eye(6))}}, "another kind"),
    ],
)
def test_norm_comparison_bad_input(change, message):
    x = gaussian(6, *SHAPE)
    arguments = {"perturbation": torch.ones(*SHAPE), "norms": [1.0], **change}
    with pytest.raises(InputError, match=message):
        experiments.norm_comparison(nets.perceptron(), x, x, **arguments)


# transfer


def named(net, name):
    net.name = name
    return net


def test_transfer_between_half_spaces_in_closed_form():
    """A vector along the weight of A reaches the boundary of B by the cosine of their angle."""
    x = gaussian(80, D, seed=2)
    w = [gaussian(D, seed=s) for s in (4, 5)]
    w[1] = w[0] / w[0].norm() + w[1] / w[1].norm()
    pair = [named(nets.linear_pair(v, 0.0), f"net {i}") for i, v in enumerate(w)]
    length = 0.7
    deltas = [(length * v / v.norm()).reshape(SHAPE) for v in w]
    ds = experiments.transfer(pair, deltas, x.reshape(-1, *SHAPE), draws=3)
    for a in range(2):
        for b in range(2):
            before, after = x @ w[b] > 0, (x + deltas[a].flatten()) @ w[b] > 0
            expected = (before != after).double().mean().item()
            assert float(ds["fooling_rate"][a, b]) == expected
    np.testing.assert_allclose(ds["norm"], length, rtol=1e-12)
    assert ds["made_for"].values.tolist() == ["net 0", "net 1"]
    assert labelled(ds)
    fooled = (ds["label"] != ds["prediction"]).mean("sample")
    np.testing.assert_allclose(fooled.transpose("made_for", "network"), ds["fooling_rate"])


def test_transfer_refuses_networks_for_other_data():
    x, delta = gaussian(5, *SHAPE), torch.ones(*SHAPE)
    a, b = named(nets.perceptron(), "a"), named(nets.perceptron(seed=1), "b")
    other = {
        "classes": named(nets.perceptron(classes=4), "c"),
        "shape": named(nets.perceptron(shape=(1, 3, 2)), "c"),
        "bounds": named(nets.perceptron(bounds=(0.0, 1.0)), "c"),
    }
    for what, net in other.items():
        with pytest.raises(InputError, match=f"'c' has .*{what}"):
            experiments.transfer([a, b, net], [delta] * 3, x)
    for arguments, message in (
        (([a], [delta], x), "at least two"),
        (([a, a], [delta, delta], x), "several networks are called 'a'"),
        (([a, b], [delta], x), "one for each"),
        (([a, b], [delta, 0 * delta], x), "'b' is zero"),
        (([a, b], [delta, torch.ones(1, 3, 3)], x), "for 'b' has shape"),
        (([a, b], [delta, delta], x, 5), "p=5"),
        (([a, b], [delta, delta], x, 2, 0), "draws"),
    ):
        with pytest.raises(InputError, match=message):
            experiments.transfer(*arguments)


# label_graph


def test_label_graph_counts_edges_and_components():
    #          a: 3 stay, 1 to b; b: 2 to c, 1 to d; c: 2 to b; d: stays; e: no images
    prediction = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
    label = [0, 0, 0, 1, 2, 2, 3, 1, 1, 3]
    ds = experiments.label_graph(prediction, label, NAMES)
    expected = np.zeros((5, 5), dtype=int)
    expected[0, :2] = 3, 1
    expected[1, 2:4] = 2, 1
    expected[2, 1] = 2
    expected[3, 3] = 1
    np.testing.assert_array_equal(ds["count"], expected)
    assert ds["edge"].values.tolist() == [1, 2, 1, -1, -1]
    np.testing.assert_allclose(ds["edge_share"], [1 / 4, 2 / 3, 1, 0, 0])
    np.testing.assert_allclose(ds["received_share"], [0, 1 / 2, 1 / 3, 1 / 6, 0])
    component = ds["component"].values
    assert len(set(component[:3])) == 1
    assert len(set(component)) == 3
    assert int(ds["components_with_edges"]) == 1
    # 1/2, 5/6, 1: b alone holds 50 %, with c 83 %, all three 100 %.
    assert ds["dominant_labels"].values.tolist() == [1, 2, 3]
    assert labelled(ds)
    majority = experiments.label_graph(prediction, label, NAMES, least_share=0.5)
    assert majority["edge"].values.tolist() == [-1, 2, 1, -1, -1]


def test_label_graph_without_fooled_images():
    ds = experiments.label_graph([0, 1, 2], [0, 1, 2], NAMES)
    assert (ds["edge"] == -1).all()
    assert int(ds["components_with_edges"]) == 0
    assert ds["dominant_labels"].values.tolist() == [0, 0, 0]
    assert float(ds["received_share"].sum()) == 0


@pytest.mark.parametrize(
    ("prediction", "label", "share", "message"),
    [
        ([0, 1], [0], 0.0, "shapes"),
        ([], [], 0.0, "at least one"),
        ([0, 5], [0, 0], 0.0, "0 to 4"),
        ([0, 1], [0, -1], 0.0, "0 to 4"),
        ([0.0, 1.0], [0, 1], 0.0, "whole numbers"),
        ([0, 1], [0, 1], 1.0, "least_share"),
    ],
)
def test_label_graph_bad_input(prediction, label, share, message):
    with pytest.raises(InputError, match=message):
        experiments.label_graph(prediction, label, NAMES, share)


# Figures


def test_every_figure_draws_from_a_dataset_alone(tmp_path):
    net, x = nets.perceptron(), gaussian(40, *SHAPE, seed=3)
    other = named(nets.perceptron(seed=9), "other")
    radii = [0.3, 1.0, 3.0]
    rates = experiments.universal(net, x[:30], x[30:], 1.0, sizes=[5, 30], search={"passes": 2})
    delta = rates["perturbation"][0].to_numpy()
    four = [
        experiments.categories(n, x[:20], radii, draws=3, search={"passes": 1})
        for n in (net, other)
    ]
    both = [ds.expand_dims(network=[n.name]) for ds, n in zip(four, (net, other), strict=True)]
    for ds, plot in (
        (rates, plotting.universal),
        (
            experiments.label_graph(rates["prediction"], rates["label"][0], net.class_names),
            plotting.label_graph,
        ),
        (
            experiments.label_graph([0], [0], [str(k) for k in range(50)]),
            plotting.label_graph,
        ),
        (
            experiments.norm_comparison(net, x[:30], x[30:], delta, radii, draws=2),
            plotting.norm_comparison,
        ),
        (experiments.transfer([net, other], [delta, delta], x, draws=2), plotting.transfer),
        (four[0], plotting.categories),
        (xr.concat(both, "network", combine_attrs="override"), plotting.categories),
    ):
        before = ds.copy(deep=True)
        figure = plot(ds.assign_attrs(network="perceptron", dataset="noise"))
        figure.savefig(tmp_path / "figure.pdf")
        text = " ".join(
            t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))
        )
        assert "noise" in text
        assert ds.identical(before)
