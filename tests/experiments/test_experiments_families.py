"""Families of subspaces from principal curvatures, against class_subspace one d at a time."""

import numpy as np
import pytest
import torch

import geomadv as ga
from geomadv.errors import InputError
from geomadv.experiments.principal.layout import blank_curvature
from geomadv.experiments.subspaces.families import (
    COMPLEMENT,
    curvature_families,
    random_flat,
    stored_curvatures,
)

D = 9


def symmetric(seed):
    a = np.random.default_rng(seed).standard_normal((D, D))
    return a + a.T


def curvatures(which="all", k=20):
    return [ga.principal_curvatures(symmetric(seed), k=k, which=which) for seed in range(2)]


def test_full_spectra_give_every_dimension():
    full = curvatures()
    families = curvature_families(full)
    assert set(families) == {"positive", "negative", "both", "flat"}
    assert families["positive"].steps == D
    assert families["both"].steps == D // 2
    for name, nested in families.items():
        for d in range(1, nested.steps + 1):
            own = ga.class_subspace(full, d, name)
            assert nested.subspace(d).dimension == own.dimension
            # Rounding of two bases whose columns may be nearly dependent.
            assert nested.subspace(d).principal_angles(own).max() < 1e-8
    assert families["flat"].sizes[-1] == D


def test_flat_is_drawn_from_the_complement_of_computed_ends():
    ends = curvatures("both", k=1)
    families = curvature_families(ends, seed=1)
    curved, flat = families["both"], families["flat"]
    assert flat.description == COMPLEMENT
    # 2 classes x 2 ends leave 5 dimensions, of which every step takes 2.
    assert (curved.sizes[-1], flat.steps) == (4, 2)
    assert (curved.basis.T @ flat.basis).abs().max() < 1e-14
    other = curvature_families(ends, seed=2)["flat"]
    assert flat.subspace(1).principal_angles(other.subspace(1)).max() > 0.1


def test_large_images_get_a_part_of_the_complement(monkeypatch):
    """All of it would be a matrix of D^2 numbers: 180 GB for ImageNet."""
    monkeypatch.setattr("geomadv.experiments.subspaces.families.DENSE", D - 1)
    monkeypatch.setattr("geomadv.experiments.subspaces.families.LEADING", 3)
    ends = curvatures("both", k=1)
    flat = curvature_families(ends)["flat"]
    assert (flat.steps, flat.sizes[-1]) == (1, 2)
    assert (curvature_families(ends)["both"].basis.T @ flat.basis).abs().max() < 1e-14


def test_flat_directions_of_a_number_that_there_is_no_room_for_are_none():
    ends = curvatures("both", k=1)
    for steps in (1, 2):
        drawn = random_flat(ends, steps, seed=1)
        assert (drawn.steps, drawn.sizes[-1]) == (steps, 2 * steps)
        curved = torch.cat([c.directions for c in ends], dim=1)
        assert (curved.T @ drawn.basis).abs().max() < 1e-14
    assert random_flat(ends, 3) is None


def test_different_sizes_are_refused():
    with pytest.raises(InputError, match="directions of one shape"):
        curvature_families([*curvatures(), *curvatures("both", k=1)])
    with pytest.raises(InputError, match="at least one class"):
        curvature_families([])


def test_stored_curvatures_come_back():
    net = ga.load_network("digits-cnn")
    images = ga.load_images("digits", split="train")
    settings = ga.experiments.CurvatureSettings(count=20, pairs=2, draws=10)
    ds = ga.experiments.class_curvature(net, images, 3, settings)
    (pairs,) = stored_curvatures(ds)
    assert pairs.directions.shape == (64, 4)
    np.testing.assert_array_equal(pairs.values.numpy(), ds["hessian_value"].to_numpy()[0])
    np.testing.assert_array_equal(
        pairs.directions[:, 1].numpy(), ds["hessian_direction"].to_numpy()[0, 1].ravel()
    )
    blank = blank_curvature(net, settings)
    with pytest.raises(InputError, match="no class had two boundary points"):
        stored_curvatures(blank)


def test_few_large_images_have_as_many_principal_components_as_they_span():
    x = torch.rand(8, 1, 70, 70, generator=torch.Generator().manual_seed(0))
    images = ga.ImageSet(x, torch.arange(8))
    # Centred, eight images span seven dimensions.
    found = ga.experiments.image_family(images, width=1)
    assert (found.steps, found.basis.shape[1]) == (7, 7)
    assert ga.experiments.image_family(images, width=10) is None
