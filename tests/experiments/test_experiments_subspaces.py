"""Accuracy and norm fractions on nested subspaces, where linear algebra knows the answer."""

import math

import numpy as np
import pytest
import torch
from networks_for_tests import SHAPE, gaussian, linear, orthogonal_frame, perceptron

import geomadv as ga
from geomadv import ImageSet, InputError, experiments, plotting
from geomadv.linalg import NestedSubspaces

D = math.prod(SHAPE)
CLASSES = 3


def frame(columns=D, seed=0):
    return orthogonal_frame(D, columns, seed=seed)


def linear_net(q, dtype=torch.float64):
    """Three classes whose scores depend on the first two columns of the frame q alone."""
    weight = gaussian(CLASSES, 2, seed=1) @ q[:, :2].T
    return linear(weight, gaussian(CLASSES, seed=2), dtype=dtype)


def image_set(net, n=60, seed=3, labels=None):
    """Images whose labels are what the network predicts, unless given."""
    x = gaussian(n, *net.input_shape, seed=seed).float()
    if labels is None:
        labels = net.predict(x)
    return ImageSet(x, labels, bounds=net.bounds, name=f"noise {seed}")


def test_a_subspace_with_the_weights_keeps_every_label_and_one_without_keeps_none():
    q = frame()
    net = linear_net(q)
    splits = {"train": image_set(net), "test": image_set(net, 40, seed=4)}
    mean = gaussian(*SHAPE, seed=5) / 4
    families = {
        "with": NestedSubspaces(q),
        "without": NestedSubspaces(q.flip(1), description="weights last"),
    }
    ds = experiments.subspace_accuracy(net, splits, mean, families)
    assert ds["d"].to_numpy().tolist() == list(range(D + 1))
    # Both columns of the weights are in: scores differ by rounding only, labels not at all.
    assert (ds["accuracy"].sel(family="with", d=slice(2, None)) == 1).all()
    assert (ds["unchanged_share"].sel(family="with", d=slice(2, None)) == 1).all()
    # None of the two is in: every image scores as the mean does.
    constant = int(net.predict(mean[None]))
    outside = ds["prediction"].sel(family="without", d=slice(0, D - 2))
    assert (outside == constant).all()
    for split, images in splits.items():
        expected = float((images.labels == constant).double().mean())
        found = ds["accuracy"].sel(split=split, family="without", d=slice(0, D - 2))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        n = len(images)
        error = ds["standard_error"].sel(split=split, family="without", d=0)
        assert float(error) == pytest.approx(math.sqrt(expected * (1 - expected) / n), rel=1e-12)
        common = np.bincount(images.labels).max() / n
        assert float(ds["constant_accuracy"].sel(split=split)) == pytest.approx(common)
    assert (ds["plain_accuracy"] == 1).all()
    assert ds["count"].to_numpy().tolist() == [60, 40]
    assert ds["description"].to_numpy().tolist() == ["with", "weights last"]
    np.testing.assert_array_equal(ds["sample_split"], [0] * 60 + [1] * 40)
    for variable in ds.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]


@pytest.mark.parametrize("width", [1, 2])
def test_each_step_is_the_projection_from_scratch(width):
    """Against Subspace.project, one d at a time, with a basis that has dependent directions."""
    net = perceptron()
    images = image_set(net, labels=np.arange(60) % 5)
    directions = gaussian(D, D, seed=6)
    directions[:, 2] = directions[:, :2].sum(1)
    nested = NestedSubspaces(directions, width)
    mean = gaussian(*SHAPE, seed=7) / 4
    ds = experiments.subspace_accuracy(net, images, mean, {"f": nested}, batch_size=7)
    x = images.images.double()
    for d in ds["d"].to_numpy()[1:].tolist():
        projected = mean + nested.subspace(d).project(x - mean)
        expected = net.predict(projected)
        np.testing.assert_array_equal(ds["prediction"].sel(family="f", d=d), expected)
        accuracy = float((expected == images.labels).double().mean())
        assert float(ds["accuracy"].sel(d=d).squeeze()) == pytest.approx(accuracy)
        assert int(ds["subspace_dimension"].sel(d=d).squeeze()) == nested.sizes[d]
    whole = experiments.subspace_accuracy(net, images, mean, {"f": nested})
    assert whole["accuracy"].equals(ds["accuracy"])
    chosen = experiments.subspace_accuracy(net, images, mean, {"f": nested}, [2, 1, 2])
    assert chosen["prediction"].equals(ds["prediction"].sel(d=[1, 2]))


def test_float32_steps_stay_within_the_bound_of_one_projection(monkeypatch):
    """Hundreds of steps: the derived bound r eps ||x - mean|| / 2, with one more for the mean."""
    side, n = 16, 5
    dimension = side * side
    net = perceptron(shape=(1, side, side), dtype=torch.float32)
    x = gaussian(n, 1, side, side, seed=8).float()
    images = ImageSet(x, [0] * n, bounds=net.bounds)
    nested = NestedSubspaces(orthogonal_frame(dimension, dimension).float())
    mean = torch.zeros(1, side, side)
    seen, scores = [], net.scores

    def recording(images):
        seen.append(images.clone())
        return scores(images)

    monkeypatch.setattr(net, "scores", recording)
    steps = list(range(dimension + 1))
    experiments.subspace_accuracy(net, images, mean, {"f": nested}, steps, batch_size=n)
    last = seen[-1].double().flatten(1)
    assert len(seen) == dimension + 2
    basis = nested.basis.double()
    rows = x.double().flatten(1)
    exact = rows @ basis @ basis.T
    # Coordinates (D terms) and their sum (r = D terms): each has the bound, so twice. The entries
    # of Q and Q^T x bound sums of magnitudes by Cauchy-Schwarz, as rows of Q have norm 1.
    bound = 2 * dimension * torch.finfo(torch.float32).eps * rows.norm(dim=1, keepdim=True)
    assert ((last - exact).abs() <= bound).all()
    # And typically far less: rounding is random, its sum grows as the square root.
    assert ((last - exact).norm(dim=1) < 1e-5 * rows.norm(dim=1)).all()


def test_families_end_where_they_end():
    """Beyond its last step a family has no accuracy, unless it is all of image space already."""
    net = perceptron()
    images = image_set(net, labels=np.arange(60) % 5)
    families = {
        "short": NestedSubspaces(frame(2)),
        "wide": NestedSubspaces(frame(D, 1), width=3),
        "long": NestedSubspaces(frame(D, 2)),
    }
    ds = experiments.subspace_accuracy(net, images, torch.zeros(SHAPE), families)
    short = ds.sel(family="short")
    assert short["accuracy"].sel(d=slice(3, None)).isnull().all()
    assert short["subspace_dimension"].sel(d=slice(3, None)).isnull().all()
    assert (short["prediction"].sel(d=slice(3, None)) == -1).all()
    assert short["accuracy"].sel(d=slice(0, 2)).notnull().all()
    wide = ds.sel(family="wide")
    assert (wide["subspace_dimension"].sel(d=slice(2, None)) == D).all()
    assert (wide["unchanged_share"].sel(d=slice(2, None)) == 1).all()
    assert ds["directions_per_step"].to_numpy().tolist() == [1, 3, 1]


def test_a_grid_is_fine_at_both_ends():
    large = NestedSubspaces(orthogonal_frame(300, 300))
    ds = experiments.norm_fractions({"a": gaussian(2, 300)}, {"f": large})
    visited = ds["d"].to_numpy()
    assert len(visited) <= 50
    assert (np.diff(visited) > 0).all()
    assert visited[:4].tolist() == [0, 1, 2, 3]
    assert visited[-4:].tolist() == [297, 298, 299, 300]


def bad_accuracy(**change):
    net = perceptron()
    arguments = {
        "images": image_set(net, labels=np.arange(60) % 5),
        "mean": torch.zeros(SHAPE),
        "families": {"f": NestedSubspaces(frame(3))},
        **change,
    }
    return experiments.subspace_accuracy(net, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {}}, "at least one image set"),
        ({"images": ImageSet(torch.zeros(2, *SHAPE))}, "no labels"),
        ({"images": ImageSet(torch.zeros(2, *SHAPE), [0, 7])}, "labels go up to 7"),
        ({"mean": torch.zeros(1, 3, 2)}, "mean"),
        ({"mean": torch.full(SHAPE, torch.nan)}, "mean"),
        ({"families": {}}, "at least one family"),
        ({"families": {"f": NestedSubspaces(torch.eye(D + 1))}}, rf"R\^{D}.*R\^{D + 1}"),
        ({"dimensions": [4]}, "from 0 to 3"),
        ({"dimensions": [-1]}, "from 0 to 3"),
        ({"dimensions": []}, "from 0 to 3"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_input_of_accuracy(change, message):
    with pytest.raises(InputError, match=message):
        bad_accuracy(**change)


# Norm fractions


def test_fractions_are_those_of_subspace_one_d_at_a_time():
    q = frame()
    families = {"a": NestedSubspaces(q), "b": NestedSubspaces(gaussian(D, 4, seed=9), width=2)}
    vectors = gaussian(7, *SHAPE, seed=10)
    one = gaussian(*SHAPE, seed=11)
    ds = experiments.norm_fractions({"many": vectors, "one": one}, families)
    assert dict(ds.sizes) == {"kind": 2, "family": 2, "d": D + 1, "sample": 7, "quantile": 3}
    for name, nested in families.items():
        for d in range(1, nested.steps + 1):
            expected = nested.subspace(d).norm_fraction(vectors)
            found = ds["fraction"].sel(kind="many", family=name, d=d)
            np.testing.assert_allclose(found, expected, atol=1e-12)
            mean = ds["mean_fraction"].sel(kind="many", family=name, d=d)
            assert float(mean) == pytest.approx(float(expected.mean()), abs=1e-12)
            single = ds["fraction"].sel(kind="one", family=name, d=d)
            assert float(single[0]) == pytest.approx(
                float(nested.subspace(d).norm_fraction(one[None])[0]), abs=1e-12
            )
            assert single[1:].isnull().all()
    assert (ds["fraction"].sel(d=0, kind="many") == 0).all()
    assert ds["mean_fraction"].sel(family="b", d=slice(3, None)).isnull().all()
    assert ds["count"].to_numpy().tolist() == [7, 1]
    for variable in ds.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]


def test_vectors_in_and_outside_the_subspace():
    q = frame()
    inside, outside = q[:, :2] @ gaussian(2, 5), q[:, 3:] @ gaussian(D - 3, 5)
    kinds = {"inside": 1e-200 * inside.T, "outside": 1e3 * outside.T}
    ds = experiments.norm_fractions(kinds, {"f": NestedSubspaces(q)})
    shares = ds["fraction"].sel(family="f")
    np.testing.assert_allclose(shares.sel(kind="inside", d=slice(2, None)), 1, atol=1e-12)
    np.testing.assert_allclose(shares.sel(kind="outside", d=slice(0, 3)), 0, atol=1e-12)
    assert (shares <= 1).all()


def test_random_directions_follow_the_law():
    """E ||Q^T u||^2 = r / D; one square is Beta(r/2, (D-r)/2) with variance below 1 / (2 D)."""
    n, dimension = 20_000, 40
    u = gaussian(n, dimension, seed=12)
    ds = experiments.norm_fractions({"u": u}, {"f": NestedSubspaces(torch.eye(dimension))})
    squares = (ds["fraction"] ** 2).mean("sample").squeeze()
    law = ds["random_fraction"].sel(family="f") ** 2
    np.testing.assert_allclose(law, np.arange(dimension + 1) / dimension, rtol=1e-12)
    # Five standard deviations of the mean.
    assert np.abs(squares - law).max() < 5 / math.sqrt(2 * dimension * n)


def test_zero_perturbations_are_counted_and_left_out():
    vectors = gaussian(4, D)
    vectors[1] = 0
    families = {"f": NestedSubspaces(frame(2))}
    ds = experiments.norm_fractions({"k": vectors}, families)
    assert ds["fraction"].isel(sample=1).isnull().all()
    assert int(ds["zero_count"][0]) == 1
    assert int(ds["count"][0]) == 3
    rest = experiments.norm_fractions({"k": vectors[[0, 2, 3]]}, families)
    np.testing.assert_allclose(ds["mean_fraction"], rest["mean_fraction"], rtol=1e-12)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.zeros(3, D), "all are zero"),
        (torch.zeros(0, D), "at least one perturbation"),
        (torch.full((2, D), torch.nan), "NaN"),
        (torch.ones(2, D + 1), "expected shape"),
    ],
)
def test_bad_input_of_fractions(vectors, message):
    families = {"f": NestedSubspaces(frame(2))}
    with pytest.raises(InputError, match=message):
        experiments.norm_fractions({"k": vectors}, families)
    with pytest.raises(InputError, match="at least one kind"):
        experiments.norm_fractions({}, families)
    with pytest.raises(InputError, match="at least one family"):
        experiments.norm_fractions({"k": torch.ones(2, D)}, {})
    with pytest.raises(InputError, match="from 0 to 2"):
        experiments.norm_fractions({"k": torch.ones(2, D)}, families, [3])


# Singular vectors


def rows_with_singular_values(values, n, seed=0):
    left = torch.linalg.qr(gaussian(n, len(values), seed=seed)).Q
    right = orthogonal_frame(D, len(values), seed=seed + 1)
    return (left * torch.tensor(values)) @ right.T, right


def test_singular_families_are_numpys_in_either_order():
    rows, _ = rows_with_singular_values([6.0, 5, 4, 3, 2, 1], n=20)
    families = experiments.singular_families(rows)
    assert {name: nested.steps for name, nested in families.items()} == {"hi": D, "lo": D}
    expected = np.linalg.svd(rows.numpy())[2]
    for d in range(1, D + 1):
        for name, vectors in (("hi", expected[:d]), ("lo", expected[-d:])):
            projector = families[name].subspace(d).basis
            # Gaps of 1 between singular values of at most 6: rounding is amplified a little.
            difference = projector @ projector.T - torch.from_numpy(vectors.T @ vectors)
            assert difference.abs().max() < 1e-12
    # Rows without a direction are left out.
    rows[3] = torch.nan
    kept = experiments.singular_families(rows)["hi"].subspace(1)
    others = experiments.singular_families(np.delete(rows.numpy(), 3, axis=0))["hi"].subspace(1)
    assert kept.principal_angles(others).max() < 1e-12


@pytest.mark.parametrize("n", [2, 12])
def test_fewer_directions_than_pixels_are_completed_at_random(n):
    """Rank 2 in six dimensions: S_hi begins with the rows' span, S_lo ends with it."""
    rows, right = rows_with_singular_values([2.0, 1.0], n)
    families = experiments.singular_families(rows)
    span = ga.Subspace(right)
    assert families["hi"].subspace(2).principal_angles(span).max() < 1e-7
    assert (families["lo"].subspace(D - 2).basis.T @ right).abs().max() < 1e-7
    assert families["hi"].sizes[-1] == families["lo"].sizes[-1] == D
    assert ("random" in families["hi"].description) == (n < D)


def test_large_images_get_leading_and_random_directions(monkeypatch):
    monkeypatch.setattr("geomadv.experiments.subspaces.families.DENSE", 5)
    monkeypatch.setattr("geomadv.experiments.subspaces.families.LEADING", 2)
    rows, right = rows_with_singular_values([6.0, 5, 4, 3, 2, 1], n=20)
    families = experiments.singular_families(rows, name="normals")
    hi, lo = families["hi"], families["lo"]
    assert (hi.steps, lo.steps) == (2, 2)
    assert hi.subspace(2).principal_angles(ga.Subspace(right[:, :2])).max() < 1e-7
    assert (hi.basis.T @ lo.basis).abs().max() < 1e-12
    assert lo.description.startswith("random directions outside the leading singular vectors of")


def test_singular_families_without_rows():
    for rows in (torch.full((2, D), torch.nan), torch.zeros(0, D), torch.zeros(D)):
        with pytest.raises(InputError, match="at least one finite row"):
            experiments.singular_families(rows)


# Figures


def test_figures_draw_from_the_datasets_alone(tmp_path):
    net = perceptron()
    splits = {"train": image_set(net, labels=np.arange(60) % 5), "test": image_set(net, 40, 4)}
    curved = {
        "positive": NestedSubspaces(frame()),
        "negative": NestedSubspaces(frame(seed=1)),
        "both": NestedSubspaces(frame(seed=2), 2),
        "flat": NestedSubspaces(frame(2, seed=3)),
    }
    named = {"network": "net", "dataset": "noise"}
    accuracy = experiments.subspace_accuracy(net, splits, torch.zeros(SHAPE), curved)
    accuracy = accuracy.assign_attrs(named)
    twin = experiments.subspace_accuracy(
        net,
        splits,
        torch.zeros(SHAPE),
        {
            f"{rows}_{end}": nested
            for rows in ("perturbation", "normal")
            for end, nested in experiments.singular_families(gaussian(9, D)).items()
        },
    ).assign_attrs(named)
    kinds = {"DeepFool": gaussian(3, D), "universal": gaussian(1, D)}
    fractions = experiments.norm_fractions(kinds, curved).assign_attrs(named)
    for figure in (
        plotting.subspace_accuracy(accuracy),
        plotting.norm_fractions(fractions),
        plotting.norm_fractions(fractions, accuracy),
        plotting.first_order_twin(twin),
    ):
        figure.savefig(tmp_path / "figure.pdf")
        text = " ".join(
            t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))
        )
        assert "net on noise" in text
